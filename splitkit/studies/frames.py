"""Tables of cells: their keys, the columns that they need, and the task families that they are pooled by."""

from collections.abc import Iterator
from typing import cast

import pandas as pd

from splitkit.tasks import FAMILIES, task_family

CELL = ["model", "task", "form", "objective", "seed"]
"""Keys of a cell."""
CURVE = [*CELL, "split"]
"""Keys of a mean curve."""
ROW = ["model", "form", "objective"]
"""Keys of a row of the paper's tables of results."""
ODDS = ["preference", "utility"]
"""The two curves of a cell: mean log-odds (Eq. 7 and 8) against m."""


def require(table: pd.DataFrame, *columns: str) -> None:
    """Raise a ValueError that names the columns that a table lacks, and those that it has."""
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"the table lacks the columns {missing}; it has {list(table.columns)}")


def family_column(table: pd.DataFrame) -> pd.Series:
    """The family of each row's task, as a column named "family"."""
    return table["task"].map(task_family).rename("family")


def families_of(tasks: pd.Series) -> list[str]:
    """The families of a column of tasks, each once, in the paper's order; others after them by name."""
    found = set(tasks.map(task_family))
    return [name for name in FAMILIES if name in found] + sorted(found - set(FAMILIES))


def by_model(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each model, the word "all" in place of a family, and the model's rows."""
    for model, rows in table.groupby("model", sort=True):
        yield str(model), "all", rows


def by_model_and_family(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each model and task family, in the order of names, and their rows."""
    for (model, family), rows in table.groupby(["model", family_column(table)], sort=True):
        yield str(model), str(family), rows


def family_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean curve of each family: over the concepts of AxBench and over seeds, at equal relative strength.

    `curves` has the columns of `mean_curves.curves`. A cell whose utility is undefined, which it then is at
    every strength, is left out of the mean of utility.

    Returns:
        One row per (model, task, form, objective, split, m_relative), task being a family: preference and
        utility in their units, preference_sd and utility_sd (standard deviation over the cells, NaN for a
        single one), n_cells, and seed, "mean" everywhere.

    Raises:
        ValueError: when a column is missing, or the cells of a family do not have the same strengths.
    """
    require(curves, *CURVE, "m_relative", *ODDS)
    keys = [*ROW, "split", "task"]
    grouped = curves.assign(task=curves["task"].map(task_family)).groupby([*keys, "m_relative"], sort=False)
    wanted = {curve: (curve, "mean") for curve in ODDS}
    wanted |= {f"{curve}_sd": (curve, "std") for curve in ODDS} | {"n_cells": ("preference", "size")}
    # the named aggregation's keywords are dynamic, which pandas' types do not know
    table = cast(pd.DataFrame, grouped.agg(**wanted).reset_index())  # type: ignore[call-overload]
    counts = table.groupby(keys)["n_cells"].nunique()
    if (counts > 1).any():
        unequal = dict(zip(keys, counts.idxmax(), strict=True))
        raise ValueError(f"the cells of {unequal} were not measured at the same relative strengths")
    table.insert(table.columns.get_loc("m_relative"), "seed", "mean")
    return table[[*CURVE, *(name for name in table.columns if name not in CURVE)]]
