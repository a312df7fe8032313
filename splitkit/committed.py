"""Committed tables: read where the profile's are committed, computed where they are not or when asked to."""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from splitkit import results
from splitkit.profiles import Profile


def committed_tables(
    names: Sequence[str],
    profile: Profile,
    compute: Callable[[], Mapping[str, pd.DataFrame]],
    *,
    tolerance: float,
    digits: int = 6,
) -> dict[str, pd.DataFrame]:
    """The tables of those names: the embedded profile's from the committed files, else from `compute`.

    With SPLITKIT_RECOMPUTE=1, or when one of them is missing, the embedded profile's are computed too, and a
    committed table keeps its bytes where the new one agrees with it (see `results.write_table`). KeyError
    when `compute` gives other tables than it was asked for.
    """
    there = all((profile.results / f"{name}.csv").exists() for name in names)
    if not (there and profile.name == "embedded") or os.environ.get("SPLITKIT_RECOMPUTE") == "1":
        start = time.perf_counter()
        tables = compute()
        if set(tables) != set(names):
            raise KeyError(f"computed were the tables {sorted(tables)}, to be kept are {sorted(names)}")
        seconds = time.perf_counter() - start
        for name in names:
            results.write_table(
                tables[name], name, profile, digits=digits, tolerance=tolerance, seconds=seconds
            )
    return {name: results.read_table(name, profile) for name in names}
