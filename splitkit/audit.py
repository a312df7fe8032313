"""Audit: cells of the committed record, drawn by lot, computed anew from nothing and held against it.

Minutes instead of the whole run's time, and a bound on how much of the record could be wrong all the same.
`python -m splitkit.audit --help`.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random

import pandas as pd

from splitkit import curvetables, paths, scoretables
from splitkit.cellresults import SPLITS, CellResult
from splitkit.cells import CellError, compute_cells
from splitkit.engines import EngineError, cores
from splitkit.files import DamagedFolder, RunInProgress, check_writable, discard
from splitkit.profiles import PROFILES, Cell, Profile
from splitkit.results import compare, read_table, round_significant

_KEYS = [item.name for item in fields(Cell)]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class _Sample(Profile):
    """A profile of which only some cells are computed."""

    chosen: tuple[Cell, ...] = ()

    def cells(self) -> list[Cell]:
        return list(self.chosen)


def draw(profile: Profile, count: int, number: int) -> list[Cell]:
    """`count` different cells of all seeds of a profile; the same `number` draws the same cells.

    ValueError unless there are as many.
    """
    every = profile.cells()
    if not 1 <= count <= len(every):
        raise ValueError(f"{count} cells; profile {profile.name} has {len(every)}: 1 to {len(every)}")
    return Random(number).sample(every, count)


def audit(
    profile: Profile, cells: Sequence[Cell], folder: Path, jobs: int = 2, progress: bool = True
) -> pd.DataFrame:
    """The cells computed anew, in `folder` alone, beside the profile's tables of curves and answers.

    Returns:
        One row per cell: its five keys; curves, the largest deviation of a mean preference or utility (nats
        per token over max(1, |recorded|)), NaN where the profile has none; answers and changed, how many test
        answers are on record and how many of them score otherwise now; agrees, by the tolerances at which the
        committed tables keep their bytes; reason, in words; seconds of the training.

    Raises:
        CellError, EngineError, RunInProgress: see `compute_cells`. What is finished is kept in `folder`.
        FileNotFoundError: when there is no record.
    """
    curves, answers = read_table("curves", profile), read_table("answer_scores", profile)
    of_profile = {item.name: getattr(profile, item.name) for item in fields(profile)}
    with _cache(folder):
        found = compute_cells(_Sample(**of_profile, chosen=tuple(cells)), jobs, progress)
        return pd.DataFrame([_row(one, profile, curves, answers) for one in found])


def _row(one: CellResult, profile: Profile, curves: pd.DataFrame, answers: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = {**vars(one.cell), "curves": float("nan"), "answers": 0, "changed": 0}
    reasons = []
    if "curves" in one.folders:
        recorded = _rows_of(one.cell, curves)
        new = pd.concat([curvetables.curve_of(one, split, profile.grid) for split in SPLITS])
        compared = compare(round_significant(_as_in(recorded, new)), recorded, curvetables.TOLERANCE)
        row["curves"] = compared.max_deviation
        reasons += [] if compared.agrees else [f"curves: {compared.reason}"]
    if "answers" in one.folders:
        recorded = _rows_of(one.cell, answers)
        new = _rows_of(one.cell, scoretables.tables([one])["answer_scores"])
        compared = compare(_as_in(recorded, new), recorded, scoretables.TOLERANCE)
        both = recorded.merge(new, on=[*_KEYS, "question"], suffixes=("", "_now"))
        row |= {"answers": len(recorded), "changed": int((both["score"] != both["score_now"]).sum())}
        reasons += [] if compared.agrees else [f"answers: {compared.reason}"]
    return row | {"agrees": not reasons, "reason": "; ".join(reasons), "seconds": one.meta["seconds"]}


def _rows_of(cell: Cell, table: pd.DataFrame) -> pd.DataFrame:
    own = (table[_KEYS] == pd.Series(vars(cell))).all(axis=1)
    return table[own].reset_index(drop=True)


def _as_in(recorded: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """`new` as CSV would give it back: an absent column of texts or numbers is one thing."""
    return new.reset_index(drop=True).astype(
        {name: kind for name, kind in recorded.dtypes.items() if new[name].isna().all()}
    )


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """`folder` as the cache, here and in processes started meanwhile."""
    before, said = paths.CACHE, os.environ.get("SPLITKIT_CACHE")
    paths.CACHE, os.environ["SPLITKIT_CACHE"] = folder, str(folder)
    try:
        yield
    finally:
        paths.CACHE = before
        if said is None:
            del os.environ["SPLITKIT_CACHE"]
        else:
            os.environ["SPLITKIT_CACHE"] = said


def bound(wrong: int, drawn: int) -> float:
    """The largest share of wrong cells under which as few as `wrong` of `drawn` still have a chance of 5 %.

    The exact (Clopper-Pearson) upper limit, as if drawn with replacement, which errs on the safe side.
    """
    from scipy.stats import binomtest

    return float(binomtest(wrong, drawn, alternative="less").proportion_ci(CONFIDENCE, "exact").high)


def summary(table: pd.DataFrame, of: int) -> str:
    """The table of `audit` as text, and what it says about all `of` cells of the record."""
    from tabulate import tabulate

    shown = table.assign(
        curves=[f"{value:.1g}" if value == value else "" for value in table["curves"]],
        answers=[f"{a} of {n} changed" if n else "" for a, n in table[["changed", "answers"]].to_numpy()],
        agrees=table["agrees"].map({True: "yes", False: "NO"}),
    )[[*_KEYS, "curves", "answers", "agrees", "reason"]]
    wrong = int((~table["agrees"]).sum())
    lines = [tabulate(shown.to_numpy().tolist(), list(shown.columns), disable_numparse=True), ""]
    lines += [f"{len(table) - wrong} of {len(table)} cells drawn by lot agree with the record."]
    lines += [f"With {CONFIDENCE:.0%} confidence at most {bound(wrong, len(table)):.0%} of all {of} do not."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 when a cell does not agree, or nothing could be computed."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.audit", description=__doc__)
    parser.add_argument("--cells", type=int, default=12, help="how many cells to draw and to compute anew")
    parser.add_argument(
        "--draw", type=int, help="the number of an earlier draw; another one each time if left out"
    )
    parser.add_argument("--jobs", type=int, default=cores(), help="processes side by side")
    chosen = parser.parse_args(arguments)
    number = secrets.randbelow(10**6) if chosen.draw is None else chosen.draw
    profile, folder = PROFILES["embedded"], paths.CACHE / "audit" / str(number)
    try:
        if chosen.jobs < 1:
            raise ValueError(f"--jobs is a number of processes, 1 or more, not {chosen.jobs}")
        drawn = draw(profile, chosen.cells, number)
        print(f"draw {number} (the same cells again: --draw {number})", flush=True)
        check_writable(folder)
        table = audit(profile, drawn, folder, chosen.jobs)
        discard(folder)
    except (OSError, ValueError, CellError, EngineError, RunInProgress, DamagedFolder) as error:
        print(f"\naudit stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\naudit was interrupted; --draw {number} goes on with it", file=sys.stderr)
        return 130
    print(summary(table, len(profile.cells())))
    return int(not table["agrees"].all())


if __name__ == "__main__":
    sys.exit(main())
