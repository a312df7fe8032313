"""Result tables with their provenance, compared with the committed reference before they replace it."""

import json
import math
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from splitkit.datasets.tasks import data_files
from splitkit.runs.judged_answers import identity, is_judged
from splitkit.runs.profiles import Profile, get_profile
from splitkit.steering.model_files import named_model_digest
from splitkit.steering.pairs import PAPER
from splitkit.storage import paths
from splitkit.storage.digests import data_digest
from splitkit.storage.files import check_writable, write_whole

_PACKAGES = ("torch", "transformers", "numpy", "scipy", "pandas")


@dataclass(frozen=True)
class Comparison:
    """How a new table compares with the one that was there."""

    agrees: bool
    max_deviation: float
    reason: str


@dataclass(frozen=True)
class Written:
    """What `write_table` did: status is 'new', 'kept' (the reference's bytes stay) or 'replaced'."""

    path: Path
    status: str
    max_deviation: float
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name}: {self.status} ({self.reason})"


def round_significant(frame: pd.DataFrame, digits: int | Mapping[str, int] = 6) -> pd.DataFrame:
    """Round float columns to a number of significant digits, or the columns named to theirs (others: 6)."""
    rounded = frame.copy()
    for column in rounded.select_dtypes("floating").columns:
        n = digits if isinstance(digits, int) else digits.get(column, 6)
        # a table's bytes depend neither on the platform's last bit nor on a sign of zero
        rounded[column] = [float(f"{value:.{n}g}") + 0.0 for value in rounded[column]]
    return rounded


def compare(
    new: pd.DataFrame, old: pd.DataFrame, tolerance: float | Mapping[str, float] = 1e-3
) -> Comparison:
    """Whether |new - old| <= tolerance * max(1, |old|) in every number, and all else is equal.

    `max_deviation` is the largest |new - old| / max(1, |old|); infinite where rows or columns differ, or
    where one of two unequal numbers is infinite.
    """
    if list(new.columns) != list(old.columns):
        return Comparison(False, math.inf, f"columns were {list(old.columns)}, are {list(new.columns)}")
    if len(new) != len(old):
        return Comparison(False, math.inf, f"{len(old)} rows before, {len(new)} now")
    worst, excess, beyond = 0.0, "", pd.Series(False, index=range(len(old)))
    for column in new.columns:
        a, b = new[column].reset_index(drop=True), old[column].reset_index(drop=True)
        if not (pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b)):
            # an empty text and an absent value are one thing in a CSV file
            texts = [values.astype(object).where(values.notna(), "").astype(str) for values in (a, b)]
            if not (texts[0] == texts[1]).all():
                return Comparison(False, math.inf, f"column {column!r} holds other entries")
            continue
        if not (a.isna() == b.isna()).all():
            return Comparison(False, math.inf, f"column {column!r} is undefined in other rows")
        left, right = a.astype(float), b.astype(float)
        deviation = (left - right).abs() / right.abs().clip(lower=1.0)
        # beside an infinity the quotient is 0 or undefined
        deviation = deviation.mask(left.abs().eq(math.inf) | right.abs().eq(math.inf), math.inf)
        deviation = deviation.where(left != right, 0.0)
        largest = float(deviation.max()) if deviation.notna().any() else 0.0
        allowed = tolerance if isinstance(tolerance, (int, float)) else tolerance.get(column, 1e-3)
        if largest > allowed:
            excess = excess or f"column {column!r} moved by {largest:.2g} in row {deviation.idxmax()}"
        beyond |= deviation > allowed
        worst = max(worst, largest)
    if excess:
        return Comparison(False, worst, f"{excess}, beyond tolerance in {beyond.sum()} of {len(old)} rows")
    return Comparison(True, worst, f"within tolerance, largest deviation {worst:.2g}")


def _revision() -> str:
    """The code's revision, marked when the package or its data differ from it; 'unknown' without git."""
    if not paths.IN_CLONE:
        return "unknown"
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=paths.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [
                "git",
                "status",
                "--porcelain",
                "--",
                "splitkit",
                "data/hparams.csv",
                "data/world",
                "data/models",
            ],
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with local changes" if changed else head


def _processor() -> str:
    """The CPU's name where Linux tells it, else what the platform says."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _accelerator() -> str:
    """The GPU's name if torch is in use and sees one; torch is not loaded only to ask."""
    torch: Any = sys.modules.get("torch")
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else "none"


def provenance(profile: Profile, seconds: float | None = None) -> dict[str, Any]:
    """What a number depends on: digests of models and data, seeds, versions, revision, hardware, seconds."""
    own = [task for task in profile.tasks if task.startswith(PAPER)]
    files = {name: digest for task in own for name, digest in data_files(task).items()}
    return {
        "profile": profile.name,
        "models": {model: named_model_digest(model) for model in profile.models},
        "data": {
            "world": data_digest(paths.DATA / "world"),
            "paper": data_digest(paths.PAPER),
            **({"files": files} if files else {}),
        },
        **({"judge": identity()} if any(map(is_judged, own)) else {}),
        "seeds": list(profile.seeds),
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "revision": _revision(),
        "cpu": _processor(),
        "gpu": _accelerator(),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def write_table(
    frame: pd.DataFrame,
    name: str,
    profile: Profile,
    *,
    digits: int | Mapping[str, int] = 6,
    tolerance: float | Mapping[str, float] = 1e-3,
    seconds: float | None = None,
) -> Written:
    """Write `<name>.csv` and `<name>.provenance.json` into the profile's results folder, each whole or not.

    Floats are rounded to `digits` significant ones. A table that is there already and agrees within
    `tolerance` (see `compare`) keeps its bytes, so that two machines give one committed file.
    PermissionError names the folder.
    """
    folder = profile.results
    check_writable(folder)
    path = folder / f"{name}.csv"
    new = round_significant(frame.reset_index(drop=True), digits)
    status, comparison = "new", Comparison(False, 0.0, "there was none")
    if path.exists():
        comparison = compare(new, read_table(name, profile), tolerance)
        status = "kept" if comparison.agrees else "replaced"
    if status != "kept":
        write_whole(path, new.to_csv(index=False, lineterminator="\n"))
        record = json.dumps(provenance(profile, seconds), indent=2, sort_keys=True)
        write_whole(folder / f"{name}.provenance.json", record + "\n")
    written = Written(path, status, comparison.max_deviation, comparison.reason)
    note = notes_folder(profile) / f"{name}.txt"
    # a table that a run writes again agrees with itself: that is no news of what was there before
    if status != "kept" or not note.exists():
        write_whole(note, f"{written}\n")
    return written


def notes_folder(profile: Profile) -> Path:
    """Where a run's notes lie on how each table that it wrote compares with the one there was."""
    return paths.CACHE / "comparisons" / profile.folder


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
