"""Kept tables: a study's tables, read where they are there and up to date, else computed and written."""

import functools
import json
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from splitkit.runs.profiles import CONTROLS, Cell, Profile
from splitkit.runs.results import read_table, table_key, write_table
from splitkit.storage import paths
from splitkit.storage.files import held, write_whole

Compute = Callable[[Profile, int], Mapping[str, pd.DataFrame]]
Source = Literal["cells", "first seed", "tables", "itself"]

POOLED: Mapping[str, Callable[[Profile, Cell], bool]] = {
    "curves": Profile.swept,
    "window_fits": Profile.swept,
    "answer_scores": Profile.scored,
    "manifold_distance": lambda profile, cell: (
        profile.swept(cell) and (cell.seed == profile.seeds[0] or cell.objective in CONTROLS)
    ),
}
"""The cells that have rows in some tables."""

_MADE: ContextVar[set[str] | None] = ContextVar("made", default=None)
"""Names of the tables that the main job has made so far; None outside of it."""


class TableError(RuntimeError):
    """A table is needed that could not be made in this run."""


@dataclass(eq=False)
class Study:
    """A function (profile, jobs) -> tables, and the names that its tables are kept under; see `kept`."""

    compute: Compute
    names: tuple[str, ...]
    tolerance: float | Mapping[str, float]
    digits: int
    of: Source
    means: Sequence[str]
    pools: Sequence[str]

    def __post_init__(self) -> None:
        functools.update_wrapper(self, self.compute)

    def __call__(self, profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
        """The tables of a profile by their names; those of the record are read, see `kept`.

        TableError, while the main job runs, for a table that it could not make.
        """
        for name in self.names:
            if (trace := _trace(name, profile)).exists() and held(profile.results):
                raise TableError(f"the table {name!r} could not be made in this run, see {trace}")
        made = _MADE.get()
        # a part of a record that has no means yet goes without them
        without = set(self.means) if profile.part and profile.committed else set()
        there = all(_up_to_date(name, profile) for name in self.names if name not in without)
        due = made is not None and not set(self.names) <= made and self._at_hand(profile)
        if due or not there:
            self._make(profile, jobs)
            if made is not None:
                made.update(self.names)
        found = [name for name in self.names if name not in without or _up_to_date(name, profile)]
        return {name: read_table(name, profile) for name in found}

    def _at_hand(self, profile: Profile) -> bool:
        """Tell whether a run of these cells computes the tables, see `kept`."""
        if not profile.part or self.of in ("cells", "tables"):
            return True
        own = [cell for cell in profile.whole.cells() if cell.seed == profile.seeds[0]]
        return (any if self.of == "first seed" else all)(cell in profile.part for cell in own)

    def _make(self, profile: Profile, jobs: int) -> None:
        start = time.perf_counter()
        of = profile if self.of in ("cells", "first seed") else profile.whole
        tables = self.compute(of, jobs)
        if set(tables) != set(self.names):
            raise KeyError(f"computed were the tables {sorted(tables)}, to be kept are {sorted(self.names)}")
        how: Any = {
            "digits": self.digits,
            "tolerance": self.tolerance,
            "seconds": time.perf_counter() - start,
        }
        for name in self.names:
            if not (of.part and name in self.means and (of.committed or _up_to_date(name, profile))):
                write_table(tables[name], name, of, **how)


def kept(
    *names: str,
    tolerance: float | Mapping[str, float],
    digits: int = 6,
    of: Source = "cells",
    means: Sequence[str] = (),
    pools: Sequence[str] = (),
) -> Callable[[Compute], Study]:
    """Keep the tables that a function (profile, jobs) returns under these names.

    The committed profile's tables are read where they are there. Those of another profile are read where they
    were made by the present code, models and data, for the same profile. The main job computes every table
    once (see `make_tables`); a table that agrees with the one that is there keeps its bytes.

    Args:
        tolerance: how far a number may be off, as a share of max(1, |number there|); or that by column.
        digits: significant digits that are written.
        of: what a run of some of the profile's cells does. "cells": each row comes of one model, task and
            seed, and the run writes its own rows. "first seed": the same, of the first seed alone. "tables":
            the function reads kept tables, which hold all rows, and gets the whole profile. "itself": the
            function trains and measures for itself; a run that has not all cells of the first seed reads.
        means: those of the names that only all cells together give; a run of some cells reads them, and goes
            without them as long as a record has none.
        pools: tables of `POOLED` whose cells go together into one row, so that all have to be there.
    """
    return lambda compute: Study(compute, names, tolerance, digits, of, means, pools)


def make_tables(studies: Iterable[Study], profile: Profile, jobs: int, read: Iterable[str] = ()) -> list[str]:
    """Make the tables of every study, one after the other, in `jobs` processes; what failed, in words.

    Tables named in `read` are read where a study needs them and they are there. Seconds go to standard
    output. A failure ends neither the other tables nor the run. Its traceback is kept until the next run; as
    long as `profile.results` is held, whoever needs the table gets a TableError.
    """
    for old in _trace("", profile).parent.glob("*.txt"):
        old.unlink()
    failed: list[str] = []
    token = _MADE.set(set(read))
    try:
        for study in studies:
            start, said = time.perf_counter(), f"table {', '.join(study.names)}"
            try:
                study(profile, jobs)
                said += f": {time.perf_counter() - start:.1f} s"
            except Exception as error:
                for name in study.names:
                    write_whole(_trace(name, profile), traceback.format_exc())
                kind = "" if isinstance(error, TableError) else f"{type(error).__name__}: "
                said += f" failed: {kind}{error}\n  traceback: {_trace(study.names[0], profile)}"
                failed.append(said)
            sys.stdout.write(f"{said}\n")
            sys.stdout.flush()
    finally:
        _MADE.reset(token)
    return failed


def lacking(study: Study, profile: Profile, made: Collection[str]) -> str:
    """The cells that a committed pooled table would be made without, in words; "" where all are there.

    `made` names the tables that the run makes, of its own cells. What a study measures itself ("first seed")
    is pooled by model and task, and needs the run to have all cells of those that it has.
    """
    for name in study.pools if profile.committed else ():
        every = [cell for cell in profile.whole.cells() if POOLED[name](profile, cell)]
        path, there = profile.results / f"{name}.csv", set(profile.part)
        if study.of == "first seed":
            groups = {(cell.model, cell.task) for cell in profile.part}
            every = [cell for cell in every if (cell.model, cell.task) in groups]
            there = there or set(every)
        elif (not profile.part) if name in made else (not path.exists()):
            # made whole, now or where it is needed
            continue
        elif path.exists():
            keys = read_table(name, profile)[list(every[0].key)]
            read = {Cell(*key) for key in keys.drop_duplicates().itertuples(index=False, name=None)}
            there = read | (there if name in made else set())
        if missing := [cell for cell in every if cell not in there]:
            of = "of each model and task" if study.of == "first seed" else "there are"
            return (
                f"{', '.join(study.names)}: pooled from all cells of {name} {of}, and {len(missing)} of "
                f"{len(every)} would be left out, the first {missing[0]}"
            )
    return ""


def _trace(name: str, profile: Profile) -> Path:
    """Path of the traceback of a table that failed."""
    return paths.CACHE / "failed" / profile.folder / f"{name}.txt"


def _up_to_date(name: str, profile: Profile) -> bool:
    """Tell whether a table can be read: it is on record, or was made of the present code, models and data."""
    there, origin = (profile.results / f"{name}.{end}" for end in ("csv", "provenance.json"))
    if profile.committed or not (there.exists() and origin.exists()):
        return profile.committed and there.exists()
    return json.loads(origin.read_text(encoding="utf-8")).get("key") == table_key(profile)
