"""Audit: cells of the committed record, drawn by lot, computed anew from nothing and held against it.

It takes minutes, and bounds how much of the record could be wrong all the same.
"""

import argparse
import math
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pandas as pd
from joblib.externals.loky import get_reusable_executor

from splitkit.runs.cell_results import SPLITS, CellResult
from splitkit.runs.cells import CellError, compute_cells
from splitkit.runs.engines import EngineError, cores
from splitkit.runs.profiles import PROFILES, Profile
from splitkit.runs.results import compare, read_table, round_significant
from splitkit.storage import paths
from splitkit.storage.files import DamagedFolder, RunInProgress, check_writable, discard
from splitkit.studies import mean_curves, scores

_KEYS = ["model", "task", "form", "objective", "seed"]
TOLERANCE = mean_curves.TOLERANCE
"""Largest deviation that agrees, as a share of max(1, |recorded|). The rounding of another processor moves
most curves by a thousandth of that; it also tips a greedy answer here and there, and a strength that ties."""
CONFIDENCE = 0.95
"""Share of draws for which `bound` is right."""


def draw(profile: Profile, count: int, number: int) -> Profile:
    """The part of a profile with `count` of its cells; one `number` always draws the same ones."""
    every = profile.cells()
    if not 1 <= count <= len(every):
        raise ValueError(f"{count} cells; profile {profile.name} has {len(every)}: 1 to {len(every)}")
    chosen = set(Random(number).sample(every, count))
    return profile.of(chosen.__contains__)


def audit(profile: Profile, folder: Path, jobs: int = 2) -> pd.DataFrame:
    """The cells of a part of a profile computed anew, in `folder` alone, beside their recorded numbers.

    A cell of the closed form answers for the unsteered model too. FileNotFoundError when there is no record;
    and what `compute_cells` raises: what is finished is kept in `folder`.

    Returns:
        One row per cell: its five keys; curves, the largest deviation of a mean preference or utility (nats
        per token over max(1, |recorded|)), NaN where the profile has no curve of it; answers, the number of
        its test answers on record, and changed, of those that score otherwise now or are not there; agrees,
        whether curves, the mean score of the test answers and that of the validation answers at every
        strength are within `TOLERANCE`; reason, in words.
    """
    record = {name: read_table(name, profile) for name in ("curves", *scores.BASE)}
    with _cache(folder):
        return pd.DataFrame([_row(one, profile, record) for one in compute_cells(profile, jobs)])


def _row(one: CellResult, profile: Profile, record: dict[str, pd.DataFrame]) -> dict[str, object]:
    new: dict[str, pd.DataFrame] = {}
    if "curves" in one.folders:
        new["curves"] = pd.concat([mean_curves.curve_of(one, split, profile) for split in SPLITS])
    if "answers" in one.folders:
        new |= scores.tables([one])
    row: dict[str, object] = {**one.cell.key, "curves": float("nan"), "answers": 0, "changed": 0}
    reasons = []
    for name, table in new.items():
        old, now = _recorded(table, record[name]), round_significant(table.reset_index(drop=True))
        if name == "answer_scores":
            both = old.merge(now, "left", on=[*_KEYS, "question"], suffixes=("", "_now"))
            row |= {"answers": len(old), "changed": int((both["score"] != both["score_now"]).sum())}
            continue
        columns = ["preference", "utility"] if name == "curves" else ["score"]
        compared = compare(now[columns], old.reindex(columns=columns), TOLERANCE)
        reasons += [] if compared.agrees else [f"{name}: {compared.reason}"]
        if name == "curves":
            row["curves"] = compared.max_deviation
    return row | {"agrees": not reasons, "reason": "; ".join(reasons)}


def _recorded(new: pd.DataFrame, record: pd.DataFrame) -> pd.DataFrame:
    """The record's rows of the cells that `new` has rows of."""
    own = pd.MultiIndex.from_frame(new[_KEYS].drop_duplicates())
    return record[pd.MultiIndex.from_frame(record[_KEYS]).isin(own)].reset_index(drop=True)


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """`folder` as the cache, here and in processes started meanwhile; those there were know another one."""
    before, said = paths.CACHE, os.environ.get("SPLITKIT_CACHE")
    get_reusable_executor().shutdown()
    paths.CACHE, os.environ["SPLITKIT_CACHE"] = folder, str(folder)
    try:
        yield
    finally:
        get_reusable_executor().shutdown()
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
    wrong, drawn = int((~table["agrees"]).sum()), len(table)
    lines = [tabulate(shown.to_numpy().tolist(), list(shown.columns), disable_numparse=True), ""]
    lines += [f"{drawn - wrong} of {drawn} cells drawn by lot agree with the record."]
    if drawn < of:
        most = math.ceil(1000 * bound(wrong, drawn)) / 10
        lines += [f"With {CONFIDENCE:.0%} confidence at most {most:.1f} % of all {of} do not."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 when a cell does not agree, or nothing could be computed."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.audit", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="embedded", help="whose record")
    parser.add_argument("--cells", type=int, default=12, help="how many cells to draw and to compute anew")
    parser.add_argument(
        "--draw", type=int, help="the number of an earlier draw; another one each time if left out"
    )
    parser.add_argument("--jobs", type=int, default=cores(), help="processes side by side")
    chosen = parser.parse_args(arguments)
    number = secrets.randbelow(10**6) if chosen.draw is None else chosen.draw
    profile, folder = PROFILES[chosen.profile], paths.CACHE / "audit" / str(number)
    try:
        paths.require_clone("The committed results")
        if chosen.jobs < 1:
            raise ValueError(f"--jobs is a number of processes, 1 or more, not {chosen.jobs}")
        drawn = draw(profile, chosen.cells, number)
        print(f"draw {number} (the same cells again: --draw {number})", flush=True)
        check_writable(folder)
        table = audit(drawn, folder, chosen.jobs)
        print(summary(table, len(profile.cells())), flush=True)
        if not table["agrees"].all():
            print(f"\nwhat was computed is in {folder}")
            return 1
        discard(folder)
    except KeyboardInterrupt:
        print(f"\naudit was interrupted; --draw {number} goes on with it", file=sys.stderr)
        return 130
    except (OSError, ValueError, CellError, EngineError, RunInProgress, DamagedFolder) as error:
        print(f"\naudit stopped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
