"""Settings: all that decides a cell's numbers, stage by stage, and the folder that follows from it."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from splitkit import digests, paths
from splitkit.paper import task_family
from splitkit.profiles import Cell, Profile

STAGES = ("trained", "curves", "answers")
"""What is kept of a cell: the intervention; its losses over the grid; its answers and their scores."""

_KEYS = ["model", "form", "objective", "task_family"]


def hparams(cell: Cell, profile: Profile | None = None) -> dict[str, Any]:
    """The training settings of a cell: its row of data/hparams.csv, the profile's overrides before them.

    KeyError names the row that is missing. An empty entry leaves `train`'s own default; diffmean, which is a
    closed form, has no settings and no row.
    """
    if cell.objective == "diffmean":
        return {}
    path = paths.DATA / "hparams.csv"
    wanted = (cell.model, cell.form, cell.objective, task_family(cell.task))
    found = _recorded(path, path.stat().st_mtime_ns).get(wanted, [])
    if len(found) != 1:
        raise KeyError(
            f"{len(found)} rows of {path.name} for {dict(zip(_KEYS, wanted, strict=True))}, not one"
        )
    settings = found[0] | (dict(profile.overrides) if profile else {})
    # a column with an empty cell is read as floats: 2.0 epochs are 2
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in settings.items()}


@cache
def _recorded(path: Path, modified: int) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """The entries of each row of a version of data/hparams.csv, by the row's keys."""
    rows: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for _, row in pd.read_csv(path, dtype={"negative": str}).iterrows():
        rows.setdefault(tuple(row[_KEYS]), []).append(row.drop(_KEYS).dropna().to_dict())
    return rows


def settings(cell: Cell, profile: Profile, stage: str = "trained") -> dict[str, Any]:
    """All that decides a cell's numbers at a stage, as plain JSON values."""
    trained = {
        **asdict(cell),
        "hparams": hparams(cell, profile),
        "n_train": profile.size("train", cell.task),
        "model_digest": digests.model_digest(cell.model),
        "world_digest": digests.data_digest(paths.DATA / "world"),
    }
    if stage == "trained":
        return trained | {"code_digest": digests.code_digest(digests.TRAINED)}
    if stage == "curves":
        grid = {"grid": list(profile.grid), "n_sweep": profile.size("sweep", cell.task)}
        return trained | grid | {"code_digest": digests.code_digest(digests.SWEPT)}
    asked = {f"n_{what}": profile.size(what, cell.task) for what in ("choose", "test")}
    return trained | asked | {"code_digest": digests.code_digest(digests.ANSWERED)}


def stages(cell: Cell, profile: Profile) -> list[str]:
    """The stages that a cell of a profile has."""
    wanted = {"trained": True, "curves": profile.swept(cell), "answers": profile.scored(cell)}
    return [stage for stage in STAGES if wanted[stage]]


def cell_folder(cell: Cell, profile: Profile, stage: str = "trained") -> Path:
    """Where a stage of a cell is kept: its name and a hash of all that decides its numbers."""
    text = json.dumps(settings(cell, profile, stage), sort_keys=True)
    return paths.CACHE / stage / f"{cell.slug}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def finished(cell: Cell, profile: Profile) -> bool:
    """Whether every stage of a cell is there."""
    return all(cell_folder(cell, profile, stage).exists() for stage in stages(cell, profile))
