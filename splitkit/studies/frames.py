"""Families of tasks: psychopathy, powerseeking and axbench, whose ten concepts are pooled as in the paper."""

from collections.abc import Iterator
from typing import cast

import joblib
import pandas as pd

from splitkit.runs.kept_tables import committed_tables
from splitkit.runs.profiles import Profile
from splitkit.studies.fits import KEYS, fit_table
from splitkit.tasks import FAMILIES, task_family

TABLES = ("fits", "family_fits")
_KIND = ["model", "form", "objective", "split"]
_CURVES = ["preference", "utility"]


def require(table: pd.DataFrame, *columns: str) -> None:
    """ValueError that names the columns that a table lacks, and those that it has."""
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"the table lacks the columns {missing}; it has {list(table.columns)}")


def families_of(tasks: pd.Series) -> list[str]:
    """The families of a column of tasks, each once, in the paper's order; others after them by name."""
    found = set(tasks.map(task_family))
    return [name for name in FAMILIES if name in found] + sorted(found - set(FAMILIES))


def by_model_and_family(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The rows of each model and family of a table with columns model and task, in the order of names."""
    for (model, family), rows in table.groupby(["model", table["task"].map(task_family)], sort=True):
        yield str(model), str(family), rows


def family_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean curve of each family: over the concepts of AxBench and over seeds, at equal relative strength.

    A cell whose utility is undefined is left out of the mean of utility, at all strengths alike, since a
    cell's curve has it at every strength or at none.

    Args:
        curves: a table of mean curves, one row per (model, task, form, objective, seed, split, m_relative),
            with preference and utility.

    Returns:
        One row per (model, task, form, objective, split, m_relative), task being a family: preference and
        utility in their units, preference_sd and utility_sd (standard deviation over the cells, NaN for a
        single one), n_cells, and seed, "mean" everywhere.

    Raises:
        ValueError: when a column is missing, or the cells of a family do not have the same strengths.
    """
    needed = [*KEYS, "m_relative", *_CURVES]
    if missing := [column for column in needed if column not in curves]:
        raise ValueError(f"the table of curves lacks the columns {missing}; it needs {needed}")
    keys = [*_KIND, "task"]
    grouped = curves.assign(task=curves["task"].map(task_family)).groupby([*keys, "m_relative"], sort=False)
    wanted = {curve: (curve, "mean") for curve in _CURVES}
    wanted |= {f"{curve}_sd": (curve, "std") for curve in _CURVES} | {"n_cells": ("preference", "size")}
    # the named aggregation's keywords are dynamic, which pandas' types do not know
    table = cast(pd.DataFrame, grouped.agg(**wanted).reset_index())  # type: ignore[call-overload]
    counts = table.groupby(keys)["n_cells"].nunique()
    if (counts > 1).any():
        unequal = dict(zip(keys, counts.idxmax(), strict=True))
        raise ValueError(f"the cells of {unequal} were not measured at the same relative strengths")
    table.insert(table.columns.get_loc("m_relative"), "seed", "mean")
    return table[[*KEYS, *(name for name in table.columns if name not in KEYS)]]


def fitted_tables(profile: Profile, curves: pd.DataFrame, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Eq. 15 and 17 fitted to the training curves of a profile, from the committed files or computed.

    Returns:
        "fits", a row per cell and curve, and "family_fits", the mean curves of the families fitted anew; the
        columns of `fits.fit_table`. R² of a mean curve is not the mean of R².
    """

    def compute() -> dict[str, pd.DataFrame]:
        train = curves[curves["split"] == "train"]
        cells = train[train["seed"].isin(profile.seeds)]
        tables = (cells, family_curves(train))
        return {name: _fitted(table, jobs) for name, table in zip(TABLES, tables, strict=True)}

    return committed_tables(TABLES, profile, compute, tolerance=0.05, digits=4)


def _fitted(curves: pd.DataFrame, jobs: int) -> pd.DataFrame:
    work = joblib.Parallel(n_jobs=jobs)
    found = work(joblib.delayed(fit_table)(part) for _, part in curves.groupby(KEYS, sort=False))
    return pd.concat(found, ignore_index=True)
