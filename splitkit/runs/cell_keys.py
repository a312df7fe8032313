"""The settings that decide a cell's numbers, stage by stage, and the folder that follows from them."""

import hashlib
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from splitkit.datasets.tasks import data_files
from splitkit.paper import counterpart, official_settings
from splitkit.runs import judged_answers
from splitkit.runs.profiles import CONTROLS, Cell, Profile
from splitkit.steering.model_files import is_shipped, named_model_digest
from splitkit.steering.pairs import PAPER
from splitkit.storage import digests, paths
from splitkit.storage.files import safe_name
from splitkit.tasks import task_family

STAGES = ("trained", "curves", "answers")
"""The stages of a cell: the intervention; its losses over the grid; its answers and their scores."""

_KEYS = ["model", "form", "objective", "task_family"]


def hparams(cell: Cell, profile: Profile | None = None) -> dict[str, Any]:
    """The training settings of a cell: its row of the profile's table, changed by profile and variant.

    Without a profile the table is data/hparams.csv. A model that is not shipped and has no row takes the
    official code's of its counterpart in the paper (see `paper.official_settings`): nothing was searched for
    it. An empty entry leaves `train`'s own default; closed forms have no settings. KeyError names the row
    that is missing.
    """
    if cell.objective in ("diffmean", *CONTROLS):
        return {}
    varied = dict(cell.variant)
    if "hparams" in varied:
        return dict(varied["hparams"])
    path = profile.hparams if profile else paths.DATA / "hparams.csv"
    wanted = (cell.model, cell.form, cell.objective, task_family(cell.task))
    found = _recorded(path, path.stat().st_mtime_ns).get(wanted) if path.exists() else None
    if found is None:
        if is_shipped(cell.model) or not counterpart(cell.model, ""):
            raise KeyError(f"0 rows of {path.name} for {dict(zip(_KEYS, wanted, strict=True))}, not one")
        found = official_settings(*wanted)
    settings = found | (dict(profile.overrides) if profile else {})
    settings |= {name: value for name, value in varied.items() if name not in ("layer", "n_train")}
    # a column with an empty cell is read as floats: 2.0 epochs are 2
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in settings.items()}


@lru_cache(maxsize=4)
def _recorded(path: Path, modified: int) -> dict[tuple[str, ...], dict[str, Any]]:
    """The entries of each row of a version of a table of settings, by the row's keys."""
    try:
        table = pd.read_csv(path, dtype={"negative": str}).set_index(_KEYS)
        numbers = table.drop(columns="negative").astype(float)
        if numbers.isin([math.inf, -math.inf]).any(axis=None):
            raise ValueError("a number is infinite")
        rows = numbers.assign(negative=table["negative"]).to_dict("index")
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is no table of settings: {error}") from error
    return {key: {name: value for name, value in row.items() if pd.notna(value)} for key, row in rows.items()}


def settings(cell: Cell, profile: Profile, stage: str = "trained") -> dict[str, Any]:
    """All that decides a cell's numbers at a stage, as plain JSON values."""
    varied = dict(cell.variant)
    found = {
        **cell.key,
        **({"variant": cell.variant} if varied else {}),
        "hparams": hparams(cell, profile),
        "layer": varied.get("layer", profile.layer(cell.model)),
        "n_train": varied.get("n_train", profile.size("train", cell.task)),
        "model_digest": named_model_digest(cell.model),
        "world_digest": digests.data_digest(paths.DATA / "world"),
        "code_digest": digests.code_digest(digests.ANSWERED if stage == "answers" else digests.STEERED),
    }
    if not is_shipped(cell.model):
        found |= {"dtype": profile.dtype, "device": profile.device.partition(":")[0]}
        found |= {"hparams_of": counterpart(cell.model, cell.model)}
    if cell.task.startswith(PAPER):
        found |= {"new_tokens": profile.new_tokens}
        found |= {"data": data_files(cell.task), "pairs_digest": digests.code_digest(digests.PAIRED)}
    if stage == "curves":
        found |= {"grid": list(profile.grid), "n_sweep": profile.size("sweep", cell.task)}
        reduction = profile.reduction.get(task_family(cell.task), "mean")
        found |= {"reduction": reduction} if reduction != "mean" else {}
    if stage == "answers":
        found |= {f"n_{what}": profile.size(what, cell.task) for what in ("choose", "test")}
        found |= {"tried": profile.tried} if profile.tried else {}
        if cell.task.startswith(PAPER):
            found |= {"grading_digest": digests.code_digest(digests.JUDGED)}
        if not profile.judge:
            from splitkit.runs.text_measures import identity

            found |= {"measures": identity(cell.model, cell.task)}
        if profile.judged(cell.task):
            found |= {"judge": judged_answers.identity()}
    return found


def cell_folder(cell: Cell, profile: Profile, stage: str = "trained") -> Path:
    """Where a stage of a cell is kept: its name and a hash of all that decides its numbers."""
    text = json.dumps(settings(cell, profile, stage), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return paths.CACHE / stage / f"{safe_name(cell.slug)}-{digest}"


def cell_folders(cell: Cell, profile: Profile) -> dict[str, Path]:
    """The folder of each stage that a cell of a profile has."""
    wanted = {"trained": True, "curves": profile.swept(cell), "answers": profile.scored(cell)}
    return {stage: cell_folder(cell, profile, stage) for stage in STAGES if wanted[stage]}
