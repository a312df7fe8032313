"""Do the log-odds predict what the model writes? Losses of held-out answers beside scores of written ones.

The rules, committed before any number here was computed. (An outside reader's correlations over all points
of the record were known: utility with fluency .87 to .93 in most forms, preference with concept -.20 to
-.03. The intervals, the comparison with the strength, between cells and the halves were not.)

* **What is correlated.** Spearman's rank correlation of a log-odds of test pairs and a mean score of
  validation answers, over all strengths asked of all objectives of one form, within one *unit*.
* **Unit**: a concept where a family has several tasks, else a seed. The mean over units gets a 95 %
  t-interval. A unit whose score has one value only, at floor or ceiling, has no correlation and is left out
  and counted.
* **Grades**: a correlation above `PREDICTS` is "holds", above `WEAK` "in part", below that "does not hold".
  "undecided" where the two ends of the interval have different grades, where fewer than `FEWEST` units are
  left, or where the grade of the interval changes when `PREDICTS` is moved within `PREDICTS_RANGE`.
* **More than the strength?** Whatever falls as m grows is correlated with all that does. So the same
  correlation is taken with -m (for utility) or m (for preference), and the log-odds says more only where the
  interval of the difference lies above 0.
* **Between cells** the points are a unit's cells (form x objective), each at its chosen strength, its score
  that of the test answers. A unit is judged where at least `FEWEST` of its cells are off floor and ceiling.
* **Text dies** where mean fluency first falls below `HALVED` of the unsteered model's; it is gone below
  `GONE`.
* **The rule for users** (how many nats of utility to spend, or which strength to take) has one constant,
  chosen on every other unit by the mean loss of score and tried on the rest, and the other way round. It
  beats its rival where the interval of the paired difference over units lies on one side of 0.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from splitkit.runs.profiles import WITH_SCORES
from splitkit.studies.claims import CEILING
from splitkit.studies.decisions.intervals import mean
from splitkit.studies.frames import CELL, ODDS, by_model_and_family, family_column, require
from splitkit.studies.scores import VANILLA
from splitkit.tasks import family_of

PREDICTS = 0.5
"""Rank correlation above which one predicts the other: a quarter of the variance of ranks is shared."""
PREDICTS_RANGE = (0.4, 0.6)
WEAK = 0.2
"""Rank correlation above which one says a little about the other."""
FEWEST = 3
"""Fewest units, and cells of a unit, that are judged."""
HALVED, GONE = 0.5, 0.1
"""Shares of the unsteered model's fluency at which text is half dead, and dead."""
USABLE_NATS = 1.0
"""Utility may be so many nats below the unsteered model's in the usable window."""
ALL = "all"
"""In place of a form: the points of all forms, on one scale of nats or of matching strengths."""
SIGN = {"utility": -1.0, "preference": 1.0}
"""How the strength is turned where it stands in place of a log-odds."""
FOUND = ["model", "family", "form"]


class Interval(NamedTuple):
    """A mean over units with its 95 % t-interval; the ends are NaN for fewer than two, all for none."""

    mean: float
    low: float
    high: float
    units: int

    def __str__(self) -> str:
        if not self.units:
            return ""
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]" if self.units > 1 else f"{self.mean:.2f}"


def interval(values: Sequence[float]) -> Interval:
    """The mean of those values that are not NaN, with its t-interval."""
    found = mean(np.array([value for value in values if not math.isnan(value)]))
    return Interval(found.value, found.low, found.high, found.units)


def grade(found: Interval) -> str:
    """The grade of a rank correlation by the rules above."""
    if found.units < FEWEST:
        return "undecided"
    ends = {_above(end, bar) for end in found[1:3] for bar in (PREDICTS, *PREDICTS_RANGE)}
    return ends.pop() if len(ends) == 1 else "undecided"


def _above(value: float, bar: float) -> str:
    return "holds" if value > bar else "in part" if value > WEAK else "does not hold"


def joined(curves: pd.DataFrame, strengths: pd.DataFrame, unsteered: pd.DataFrame) -> pd.DataFrame:
    """Log-odds of test pairs beside mean scores of validation answers, at every strength that was asked.

    The mean curves (`mean_curves.curves`) are interpolated linearly to the strengths of `strength_scores` (of
    `scores.score_base`); `unsteered` (of `samples.samples`) gives the scores at 0. Directions that no
    objective of the paper learned, cells without curves and those whose utility is undefined are left out.

    Returns:
        One row per cell and strength, 0 first: the keys of a cell, family, unit, m_relative; preference and
        utility, nats per token above those at 0; score, fluency and concept, NaN where there is none; effect,
        what is steered for: concept, where a family has one, else the score.

    Raises:
        ValueError: when a column is missing, or no cell has both curves of test pairs and answers.
    """
    require(curves, *CELL, "split", "m_relative", *ODDS)
    scored, learned = ["score", "concept", "fluency"], {name for _, name in WITH_SCORES}
    asked = dict(list(strengths[strengths["m_relative"] != 0].groupby(CELL)))
    base = unsteered.set_index(["model", "task"]).reindex(columns=scored)
    parts = []
    for key, curve in curves[curves["split"] == "test"].groupby(CELL):
        if key not in asked or key[3] not in learned or curve["utility"].isna().any():
            continue
        rows, line = asked[key].sort_values("m_relative"), curve.sort_values("m_relative")
        part = pd.DataFrame({"m_relative": [0.0, *rows["m_relative"]]})
        for odds in ODDS:
            per_token = line[odds] / line.get("tokens", 1.0)
            values = np.interp(part["m_relative"], line["m_relative"], per_token)
            part[odds] = values - values[0]
        part[scored] = np.vstack([base.loc[key[:2]], rows[scored]]).astype(float)
        parts.append(part.assign(**dict(zip(CELL, key, strict=True))))
    if not parts:
        raise ValueError("no cell has both curves of test pairs and answers at several strengths")
    table = pd.concat(parts, ignore_index=True)
    table["family"] = family_column(table)
    several = table["family"].map(table.groupby("family")["task"].nunique()) > 1
    table["unit"] = table["task"].where(several, "seed " + table["seed"].astype(str))
    table["effect"] = table["concept"].fillna(table["score"])
    return table[[*CELL, "family", "unit", "m_relative", *ODDS, *scored, "effect"]]


def between_strengths(curves: pd.DataFrame) -> pd.DataFrame:
    """Error of linear interpolation at every other strength from its neighbours: median and 95 % of |error|.

    In nats, by curve; the spacing is twice that of `joined`, so its errors are about a quarter of these.
    """
    errors: dict[str, list[float]] = {odds: [] for odds in ODDS}
    for _, curve in curves[(curves["split"] == "test") & (curves["m_relative"] >= 0)].groupby(CELL):
        line = curve.sort_values("m_relative")
        known, left_out = line.iloc[::2], line.iloc[1:-1:2]
        for odds in ODDS:
            guessed = np.interp(left_out["m_relative"], known["m_relative"], known[odds])
            errors[odds] += list(abs(guessed - left_out[odds]))
    return pd.DataFrame(errors).quantile([0.5, 0.95])


def correlations(table: pd.DataFrame, odds: str, measure: str) -> pd.DataFrame:
    """Spearman's rank correlation of a log-odds with a measure of answers, by model, family and form.

    `table` is of `joined`. Rows of form "all" take the points of all forms together. The usable window ends
    where utility has lost `USABLE_NATS`.

    Returns:
        Indexed by model, family and form: units (those with a correlation / all), grid (over all strengths)
        and its verdict; then, in the window alone: window and its verdict, in a cell (the mean over the cells
        of a unit of the correlation along m), by m (m in place of the log-odds), more (window minus by m).
        Numbers are "mean [95 % interval over units]".
    """
    steered = table[table["m_relative"] > 0].dropna(subset=[measure])
    rows = []
    for model, family, form, part in _by_form(steered):
        usable = part[part["utility"] >= -USABLE_NATS]
        by_m = usable.assign(**{odds: SIGN[odds] * usable["m_relative"]})
        grid, window, strength = (_of_units(some, odds, measure) for some in (part, usable, by_m))
        cells = usable.groupby(CELL)[[odds, measure]].apply(_spearman)
        along = cells.groupby(usable.groupby(CELL)["unit"].first()).mean()
        found, inside = interval(grid), interval(window)
        rows.append({
            "model": model, "family": family, "form": form, "units": f"{found.units}/{len(grid)}",
            "grid": str(found), "verdict": grade(found), "window": str(inside), "there": grade(inside),
            "in a cell": str(interval(along)), "by m": str(interval(strength)),
            "more": str(interval(window - strength)),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index(FOUND)


def _by_form(table: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    for model, family, rows in by_model_and_family(table):
        for form, part in rows.groupby("form"):
            yield model, family, str(form), part
        yield model, family, ALL, rows


def _of_units(points: pd.DataFrame, odds: str, measure: str) -> pd.Series:
    return points.groupby("unit")[[odds, measure]].apply(_spearman)


def _spearman(two: pd.DataFrame) -> float:
    """NaN for fewer than three points, or where all of one side are equal."""
    ordered = len(two) > 2 and (two.nunique() > 1).all()
    return float(spearmanr(two.to_numpy()).statistic) if ordered else math.nan


def chosen(table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Each cell at the strength that validation chose: the rows of `joined` there, with the test scores.

    `scores` is of `scores.score_base`. score, fluency and effect are those of test answers.
    """
    own = scores[scores["form"] != VANILLA].assign(effect=lambda rows: rows["concept"].fillna(rows["score"]))
    tested = ["score", "fluency", "effect"]
    kept = table.drop(columns=["concept", *tested])
    on = [*CELL, "m_relative"]
    both = [rows.round({"m_relative": 4}) for rows in (kept, own[[*on, *tested]])]
    return both[0].merge(both[1], on=on, validate="1:1")


def between_cells(points: pd.DataFrame, odds: str, measure: str) -> pd.DataFrame:
    """The correlation over the cells of a unit, at their chosen strengths: `points` is of `chosen`.

    Returns:
        One row per model and family: cells, at_the_ends (the share of them within 1 % of floor or ceiling),
        units (judged / all), rho "mean [95 % interval over units]", and verdict, its grade.
    """
    rows = []
    for model, family, part in by_model_and_family(points.dropna(subset=[measure])):
        top = family_of(part["task"].iloc[0]).top
        off = part[measure].between(CEILING * top, (1 - CEILING) * top, inclusive="neither")
        free = off.groupby(part["unit"]).sum()
        found = interval(_of_units(part, odds, measure)[free >= FEWEST])
        rows.append({
            "model": model, "family": family, "cells": len(part), "at_the_ends": 1 - off.mean(),
            "units": f"{found.units}/{len(free)}", "rho": str(found), "verdict": grade(found),
        })  # fmt: skip
    return pd.DataFrame(rows)
