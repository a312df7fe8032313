"""Result tables with their provenance, compared with those that are there before they replace them."""

import hashlib
import json
import math
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from splitkit.datasets.tasks import data_files
from splitkit.runs.judged_answers import identity
from splitkit.runs.profiles import Cell, Profile, get_profile
from splitkit.steering.model_files import named_model_digest
from splitkit.steering.pairs import PAPER
from splitkit.storage import paths
from splitkit.storage.digests import code_digest, data_digest, file_digest
from splitkit.storage.files import check_writable, write_whole

FOUND = ("answer", "at_bound", "c2", "c3", "flag", "note", "readable")
"""Columns of texts, or of truths that may be undefined, that are results and name no row."""
_CELL = ("model", "task", "form", "objective", "seed")
_CODE = ("curves", "datasets", "judging", "paper.py", "runs", "steering", "studies", "tasks.py", "world")
"""The code that a kept table is made by."""
_REVISED = ("splitkit", "data/hparams.csv", "data/hparams", "data/world", "data/models")
_PACKAGES = ("torch", "transformers", "numpy", "scipy", "pandas")


@dataclass(frozen=True)
class Comparison:
    """A new table beside the one that was there; `moved` marks the new rows that do not agree."""

    agrees: bool
    max_deviation: float
    reason: str
    moved: np.ndarray


@dataclass(frozen=True)
class Written:
    """A table after `write_table`: its status is 'new', 'kept' (its bytes stay) or 'replaced'.

    `rows` were computed; of these `moved` do not agree with the rows that were there.
    """

    name: str
    status: str
    max_deviation: float
    reason: str
    rows: int
    moved: int

    def __str__(self) -> str:
        return f"{self.name}.csv: {self.status} ({self.reason})"


def round_significant(frame: pd.DataFrame, digits: int = 6) -> pd.DataFrame:
    """Round float columns to significant digits."""
    rounded = frame.copy()
    for column in rounded.select_dtypes("floating").columns:
        # a table's bytes depend neither on the platform's last bit nor on a sign of zero
        rounded[column] = [float(f"{value:.{digits}g}") + 0.0 for value in rounded[column]]
    return rounded


def compare(
    new: pd.DataFrame, old: pd.DataFrame, tolerance: float | Mapping[str, float] = 1e-3
) -> Comparison:
    """Compare two tables: they agree if |new - old| <= tolerance * max(1, |old|) and all else is equal.

    `max_deviation` is the largest |new - old| / max(1, |old|); infinite where rows, columns or texts differ,
    or where one of two unequal numbers is undefined or infinite.
    """
    if list(new.columns) != list(old.columns) or len(new) != len(old):
        was, now = (f"{len(table)} rows with columns {list(table.columns)}" for table in (old, new))
        reason = f"{was} before, {now} now"
        return Comparison(False, math.inf, reason, np.ones(len(new), dtype=bool))
    worst, reason, moved = 0.0, "", np.zeros(len(new), dtype=bool)
    for column in new.columns if len(new) else ():
        deviation = _deviation(new[column].reset_index(drop=True), old[column].reset_index(drop=True))
        allowed = tolerance if isinstance(tolerance, (int, float)) else tolerance.get(column, 1e-3)
        beyond, row = (deviation > allowed).to_numpy(), deviation.idxmax()
        if beyond.any() and not reason:
            was, now = (str(table[column].iloc[row])[:60] for table in (old, new))
            reason = f"column {column!r} moved by {deviation.max():.2g} in row {row}, from {was} to {now}"
        moved, worst = moved | beyond, max(worst, float(deviation.max()))
    if reason:
        reason += f", beyond tolerance in {moved.sum()} of {len(old)} rows"
    return Comparison(not reason, worst, reason or f"within tolerance, largest deviation {worst:.2g}", moved)


def _deviation(new: pd.Series, old: pd.Series) -> pd.Series:
    """|new - old| / max(1, |old|) row by row; infinite where unequal entries are not both finite numbers."""
    if not (is_numeric_dtype(new) and is_numeric_dtype(old)):
        return (_as_text(new) != _as_text(old)).map({True: math.inf, False: 0.0})
    left, right = new.astype(float), old.astype(float)
    deviation = (left - right).abs() / right.abs().clip(lower=1.0)
    deviation = deviation.where(np.isfinite(left) & np.isfinite(right), math.inf)
    return deviation.mask((left == right) | (left.isna() & right.isna()), 0.0)


def _as_text(values: pd.Series) -> pd.Series:
    # an empty text and an absent value are one thing in a CSV file
    return values.astype(object).where(values.notna(), "").astype(str)


def _revision() -> str:
    """The code's revision, marked when the package or its data differ from it; 'unknown' without git."""
    if not paths.IN_CLONE:
        return "unknown"
    ask: Any = partial(subprocess.check_output, cwd=paths.ROOT, stderr=subprocess.DEVNULL, text=True)
    try:
        head = ask(["git", "rev-parse", "HEAD"]).strip()
        changed = ask(["git", "status", "--porcelain", "--", *_REVISED]).strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with local changes" if changed else head


def _processor() -> str:
    """The CPU's name where Linux tells it, else what the platform says."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.*\S)", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _accelerator() -> str:
    """The GPU's name if torch is in use and sees one; torch is not loaded only to ask."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else "none"


def _sources(profile: Profile) -> dict[str, Any]:
    """Digests of the models and the data of a profile, and its judge."""
    own = [task for task in profile.tasks if task.startswith(PAPER)]
    files = {name: digest for task in own for name, digest in data_files(task).items()}
    return {
        "models": {model: named_model_digest(model) for model in profile.models},
        "data": {
            "world": data_digest(paths.DATA / "world"),
            "paper": data_digest(paths.PAPER),
            **({"files": files} if files else {}),
        },
        **({"judge": identity()} if any(map(profile.judged, own)) else {}),
    }


def provenance(profile: Profile, seconds: float | None = None) -> dict[str, Any]:
    """The origin of a number: its sources, seeds, versions, revision, hardware and seconds."""
    return _sources(profile) | {
        "profile": profile.name,
        "seeds": sorted({cell.seed for cell in profile.part}) or list(profile.seeds),
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "revision": _revision(),
        "cpu": _processor(),
        "gpu": _accelerator(),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def table_key(profile: Profile) -> str:
    """A digest of code, models, data, judge and profile: a table made under another one is out of date."""
    made_of = _sources(profile) | {"profile": asdict(profile) | {"part": None}, "code": code_digest(_CODE)}
    made_of["settings"] = file_digest(profile.hparams) if profile.hparams.exists() else "absent"
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def write_table(
    frame: pd.DataFrame,
    name: str,
    profile: Profile,
    *,
    digits: int = 6,
    tolerance: float | Mapping[str, float] = 1e-3,
    seconds: float | None = None,
) -> Written:
    """Write `<name>.csv` and `<name>.provenance.json` into the profile's results folder, each whole or not.

    Floats are rounded to `digits` significant ones. A table that is there already and agrees within
    `tolerance` (see `compare`) keeps its bytes, so that two machines give one committed file. A part of a
    profile writes the rows of its own cells (see `own_rows`); of these, those that agree stay as they are.

    PermissionError names the folder; ValueError where a part's table has other columns than the one there.
    """
    check_writable(profile.results)
    path, note = profile.results / f"{name}.csv", notes_folder(profile) / f"{name}.json"
    new = round_significant(frame.reset_index(drop=True), digits)
    status, compared = "new", Comparison(False, 0.0, "there was none", np.zeros(len(new), dtype=bool))
    if path.exists():
        every = read_table(name, profile)
        if profile.part and list(new.columns) != list(every.columns):
            raise ValueError(f"{path} has other columns than its rows have now: make the whole record")
        new = own_rows(new, profile)
        old = _replaceable(own_rows(every, profile), new, profile)
        new = new.loc[_as_in(old, new)] if profile.part else new
        compared = compare(new, old, tolerance)
        status = "kept" if compared.agrees else "replaced"
        if profile.part and status == "replaced":
            new = _merged(new, old, every, compared.moved)
    written = Written(
        name, status, compared.max_deviation, compared.reason, len(compared.moved), int(compared.moved.sum())
    )
    if status != "kept":
        write_whole(path, new.to_csv(index=False, lineterminator="\n"))
    if status != "kept" or not profile.committed:
        record = {"key": table_key(profile), **provenance(profile, seconds)}
        origin = path.with_name(f"{name}.provenance.json")
        write_whole(origin, json.dumps(record, indent=2, sort_keys=True) + "\n")
    # a table that a run writes again agrees with itself: that is no news of what was there before
    if status != "kept" or not note.exists():
        write_whole(note, json.dumps(vars(written)) + "\n")
    return written


def own_rows(table: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The rows of a table that a profile's cells make; all but for a part of one.

    A row names its cell by those of the five keys that the table has. A row of a form and objective that no
    cell has, such as the unsteered model's, is made with the cells of the first seed.
    """
    keys = [name for name in _CELL if name in table]
    if not profile.part or not keys:
        return table
    own = _made_by(table[keys], profile.part)
    foreign = _foreign(table, profile)
    of_first = [cell for cell in profile.part if cell.seed == profile.seeds[0]]
    shared = [name for name in ("model", "task") if name in table]
    beside = _made_by(table[shared], of_first) if shared else np.full(len(table), bool(of_first))
    return table[np.where(foreign, beside, own)]


def _made_by(keys: pd.DataFrame, cells: Iterable[Cell]) -> np.ndarray:
    """Which rows of some keys are those of a cell."""
    own = {tuple(getattr(cell, name) for name in keys) for cell in cells}
    return pd.MultiIndex.from_frame(keys).isin(own)


def _foreign(table: pd.DataFrame, profile: Profile) -> np.ndarray:
    """Which rows have a form and objective that no cell of the profile has."""
    if not {"form", "objective"} <= set(table):
        return np.zeros(len(table), dtype=bool)
    trained = {*profile.combinations, *profile.answered}
    return ~pd.MultiIndex.from_frame(table[["form", "objective"]]).isin(trained)


def _replaceable(old: pd.DataFrame, new: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The rows there that a part's `new` ones replace: a foreign one stays unless it was made again."""
    foreign = _foreign(old, profile)
    keys = [name for name in _CELL if name in old]
    if not profile.part or not foreign.any():
        return old
    again = pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(new[keys]))
    return old[again | ~foreign]


def _merged(new: pd.DataFrame, own: pd.DataFrame, old: pd.DataFrame, moved: np.ndarray) -> pd.DataFrame:
    """`old`, its rows `own` replaced by those of `new` that moved; in place where they are as many."""
    if len(new) == len(own):
        moved_rows = new.set_axis(own.index)[moved]
        return pd.concat([old.drop(moved_rows.index), moved_rows]).sort_index()
    both = pd.concat([new, old.drop(own.index)], ignore_index=True)
    return both.loc[_as_in(old, both)]


def _as_in(reference: pd.DataFrame, table: pd.DataFrame) -> pd.Index:
    """The rows of `table` in the order of `reference`, known by seed and texts but `FOUND`; new ones last."""
    named = [name for name in reference if not is_numeric_dtype(reference[name]) and name not in FOUND]
    # a mean over seeds has a word in place of its seed, so that the column is among the texts already
    keys = list(dict.fromkeys([*named, *({"seed"} & set(reference))]))

    def labels(rows: pd.DataFrame) -> pd.Index:
        texts = rows[keys].apply(_as_text)
        return pd.MultiIndex.from_frame(texts.assign(nth=texts.groupby(keys).cumcount()))

    place = pd.Series(range(len(reference)), index=labels(reference))
    found = place.reindex(labels(table)).set_axis(table.index)
    return found.sort_values(kind="stable", na_position="last").index


def notes_folder(profile: Profile) -> Path:
    """The folder of a run's notes: one for each table that it wrote, beside the table that was there."""
    return paths.CACHE / "comparisons" / profile.folder


def notes(profile: Profile) -> list[Written]:
    """The tables that the last run of a profile wrote, by name."""
    found = sorted(notes_folder(profile).glob("*.json"))
    return [Written(**json.loads(path.read_text(encoding="utf-8"))) for path in found]


def read_table(name: str, profile: Profile | str = "embedded") -> pd.DataFrame:
    """A result table as it was written; FileNotFoundError lists the tables there are and how to make them."""
    chosen = get_profile(profile) if isinstance(profile, str) else profile
    path = chosen.results / f"{name}.csv"
    if not path.exists():
        if chosen.committed:
            paths.require_clone("The committed results")
        there = sorted(p.stem for p in chosen.results.glob("*.csv"))
        raise FileNotFoundError(
            f"no result table {name!r} in {chosen.results}; there are {there or 'none'}. "
            f"`python -m splitkit.reproduce --profile {chosen.name}` makes them all."
        )
    # an answer in a table may hold a carriage return, which ends no line
    return pd.read_csv(path, keep_default_na=False, na_values=[""], lineterminator="\n")
