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
from splitkit.runs.profiles import Cell, Profile
from splitkit.steering.model_files import is_shipped, named_model_digest
from splitkit.steering.pairs import PAPER
from splitkit.storage import digests, paths
from splitkit.storage.files import safe_name
from splitkit.tasks import task_family

STAGES = ("trained", "curves", "answers")
"""The stages of a cell: the intervention; its losses over the grid; its answers and their scores."""

_KEYS = ["model", "form", "objective", "task_family"]


def hparams(cell: Cell, profile: Profile | None = None) -> dict[str, Any]:
    """The training settings of a cell: its row of data/hparams.csv, changed by profile and variant.

    A model that is not shipped and has no row takes the official code's of its counterpart in the paper (see
    `paper.official_settings`): nothing was searched for it.

    KeyError names the row that is missing, ValueError the entry or column that cannot be one. An empty entry
    leaves `train`'s own default; diffmean, which is a closed form, has no settings and no row.
    """
    if cell.objective == "diffmean":
        return {}
    varied = dict(cell.variant)
    if "hparams" in varied:
        return dict(varied["hparams"])
    path = paths.DATA / "hparams.csv"
    wanted = (cell.model, cell.form, cell.objective, task_family(cell.task))
    found = _recorded(path, path.stat().st_mtime_ns).get(wanted, [])
    if not found and not is_shipped(cell.model) and counterpart(cell.model, ""):
        found = [official_settings(cell.model, cell.form, cell.objective, task_family(cell.task))]
    if len(found) != 1:
        raise KeyError(
            f"{len(found)} rows of {path.name} for {dict(zip(_KEYS, wanted, strict=True))}, not one"
        )
    for name, value in found[0].items():
        if name != "negative" and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ValueError(f"{name} is {value!r} in {path.name} for {cell}; it has to be a finite number")
    settings = found[0] | (dict(profile.overrides) if profile else {})
    settings |= {name: value for name, value in varied.items() if name not in ("layer", "n_train")}
    # a column with an empty cell is read as floats: 2.0 epochs are 2
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in settings.items()}


@lru_cache(maxsize=1)
def _recorded(path: Path, modified: int) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """The entries of each row of a version of data/hparams.csv, by the row's keys."""
    try:
        table = pd.read_csv(path, dtype={"negative": str})
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path} is no CSV table: {error}") from error
    if missing := [key for key in _KEYS if key not in table]:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {list(table.columns)}")
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for _, row in table.iterrows():
        rows.setdefault(tuple(row[_KEYS]), []).append(row.drop(_KEYS).dropna().to_dict())
    return rows


def settings(cell: Cell, profile: Profile, stage: str = "trained") -> dict[str, Any]:
    """All that decides a cell's numbers at a stage, as plain JSON values."""
    varied = dict(cell.variant)
    trained = {
        **cell.key,
        **({"variant": cell.variant} if varied else {}),
        "hparams": hparams(cell, profile),
        "layer": varied.get("layer", profile.layer(cell.model)),
        "n_train": varied.get("n_train", profile.size("train", cell.task)),
        "model_digest": named_model_digest(cell.model),
        "world_digest": digests.data_digest(paths.DATA / "world"),
    }
    if not is_shipped(cell.model):
        trained |= {"dtype": profile.dtype, "device": profile.device.partition(":")[0]}
        trained |= {"hparams_of": counterpart(cell.model, cell.model)}
    if cell.task.startswith(PAPER):
        trained |= {"new_tokens": profile.new_tokens}
        trained |= {"data": data_files(cell.task), "pairs_digest": digests.code_digest(digests.PAIRED)}
    if stage == "trained":
        return trained | {"code_digest": digests.code_digest(digests.STEERED)}
    if stage == "curves":
        grid = {"grid": list(profile.grid), "n_sweep": profile.size("sweep", cell.task)}
        return trained | grid | {"code_digest": digests.code_digest(digests.STEERED)}
    asked: dict[str, Any] = {f"n_{what}": profile.size(what, cell.task) for what in ("choose", "test")}
    if profile.tried:
        asked |= {"tried": profile.tried}
    if cell.task.startswith(PAPER):
        asked |= {"grading_digest": digests.code_digest(digests.JUDGED)}
    if judged_answers.is_judged(cell.task):
        asked |= {"judge": judged_answers.identity()}
    return trained | asked | {"code_digest": digests.code_digest(digests.ANSWERED)}


def stages(cell: Cell, profile: Profile) -> list[str]:
    """The stages that a cell of a profile has."""
    wanted = {"trained": True, "curves": profile.swept(cell), "answers": profile.scored(cell)}
    return [stage for stage in STAGES if wanted[stage]]


def cell_folder(cell: Cell, profile: Profile, stage: str = "trained") -> Path:
    """Where a stage of a cell is kept: its name and a hash of all that decides its numbers."""
    text = json.dumps(settings(cell, profile, stage), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return paths.CACHE / stage / f"{safe_name(cell.slug)}-{digest}"


def cell_folders(cell: Cell, profile: Profile) -> dict[str, Path]:
    """The folder of each stage that a cell of a profile has."""
    return {stage: cell_folder(cell, profile, stage) for stage in stages(cell, profile)}
