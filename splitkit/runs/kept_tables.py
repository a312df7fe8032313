"""Committed tables: read where the profile's are committed, computed where they are not or when asked to."""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from pandas.api.types import is_numeric_dtype

from splitkit.runs import results
from splitkit.runs.profiles import PROFILES, Profile

MADE = "SPLITKIT_MADE"
"""The variable that names the tables, comma-separated, that this run has computed already."""

FAILED = "SPLITKIT_FAILED"
"""The variable that names the tables, comma-separated, that could not be computed in this run."""

FOUND = ("answer", "at_bound", "c2", "c3", "flag", "note", "readable")
"""Columns of texts, or of truths that may be undefined, that are results and name no row."""


class TableError(RuntimeError):
    """A table is needed that could not be made in this run."""


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
    committed table keeps its bytes where the new one agrees with it (see `results.write_table`). Tables that
    SPLITKIT_MADE names were computed in this run (see `studies.tables`) and are read, whatever the profile.
    KeyError when `compute` gives other tables than it was asked for. Tables whose computation failed are
    named in SPLITKIT_FAILED: TableError to whoever needs one of them later in the run, not a second attempt.

    A run with fewer seeds than the profile has (SPLITKIT_SEEDS) computes the rows of its own seeds; those of
    the others stay as committed, so that what follows is the same tables whoever runs it.
    """
    if lost := [name for name in names if name in _named_in(FAILED)]:
        raise TableError(f"needs the table {lost[0]!r}, which could not be made in this run")
    there = all((profile.results / f"{name}.csv").exists() for name in names)
    made = set(names) <= set(_named_in(MADE))
    read = made or (profile.committed and os.environ.get("SPLITKIT_RECOMPUTE") != "1")
    if not (there and read):
        try:
            _make(names, profile, compute, tolerance, digits)
        except Exception as error:
            if not isinstance(error, TableError):
                os.environ[FAILED] = ",".join([*_named_in(FAILED), *names])
            raise
    return {name: results.read_table(name, profile) for name in names}


def _named_in(variable: str) -> list[str]:
    """The names that an environment variable holds, comma-separated."""
    return [name for name in os.environ.get(variable, "").split(",") if name]


def _make(
    names: Sequence[str],
    profile: Profile,
    compute: Callable[[], Mapping[str, pd.DataFrame]],
    tolerance: float,
    digits: int,
) -> None:
    """Compute tables and write them, with the committed rows of the seeds that this run leaves out."""
    start = time.perf_counter()
    tables = compute()
    if set(tables) != set(names):
        raise KeyError(f"computed were the tables {sorted(tables)}, to be kept are {sorted(names)}")
    seconds = time.perf_counter() - start
    for name in names:
        table = _with_other_seeds(tables[name], name, profile)
        results.write_table(table, name, profile, digits=digits, tolerance=tolerance, seconds=seconds)


def _with_other_seeds(table: pd.DataFrame, name: str, profile: Profile) -> pd.DataFrame:
    """`table` and, after it, the committed rows of the seeds that this run leaves out."""
    left_out = set(PROFILES[profile.name].seeds if profile.name in PROFILES else ()) - set(profile.seeds)
    if "seed" not in table or not left_out or not (profile.results / f"{name}.csv").exists():
        return table
    committed = results.read_table(name, profile)
    if list(committed.columns) != list(table.columns):
        return table
    # what was made from tables that hold all seeds already has their rows
    own = table[~table["seed"].isin(left_out)]
    both = pd.concat([own, committed[committed["seed"].isin(left_out)]], ignore_index=True)
    return both.loc[_as_in(committed, both)].reset_index(drop=True)


def _as_in(reference: pd.DataFrame, table: pd.DataFrame) -> pd.Index:
    """The rows of `table` in the order of `reference`, known by seed and texts but `FOUND`; new ones last.

    All else are results, which may have moved; rows alike in what is left keep their order.
    """
    named = [name for name in reference if not is_numeric_dtype(reference[name]) and name not in FOUND]
    # a mean over seeds has a word in place of its seed, so that the column is among the texts already
    keys = list(dict.fromkeys([*named, "seed"]))

    def labels(rows: pd.DataFrame) -> pd.Index:
        # an empty text and an absent value are one thing in a CSV file
        texts = rows[keys].astype(object).where(rows[keys].notna(), "").astype(str)
        return pd.MultiIndex.from_frame(texts.assign(nth=texts.groupby(keys).cumcount()))

    place = pd.Series(range(len(reference)), index=labels(reference))
    found = place.reindex(labels(table)).set_axis(table.index)
    return found.sort_values(kind="stable", na_position="last").index
