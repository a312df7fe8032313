"""What a nat of preference buys, what a nat of utility costs, and how many nats to spend.

The tables are those of `log_odds.joined`, which also has the rules by which all this is judged.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from splitkit.studies.frames import CELL
from splitkit.studies.text.log_odds import FOUND, GONE, HALVED, Interval, interval
from splitkit.tasks import family_of

BUDGETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Nats of utility that the rule for users may spend."""
_Numbers = Float[np.ndarray, " strength"]


def dying(table: pd.DataFrame) -> pd.DataFrame:
    """The nats of utility (and the strength) at which fluency is halved and gone, by model, family and form.

    Returns:
        Indexed by model, family and form: cells; halved and gone, "median (quartiles)" over the cells in
        which text gets so far, in nats below the unsteered model's utility; at m, the median strength of
        halving; never halved, never gone: shares of cells that keep that much at every strength asked.
    """
    rows = []
    for keys, cell in _cells(table.dropna(subset=["fluency"])):
        found = {}
        for name, share in (("halved", HALVED), ("gone", GONE)):
            found[name], found[f"{name}_m"] = _crossing(cell, share)
        rows.append(keys | found)
    cells = pd.DataFrame(rows).groupby(FOUND)
    return pd.DataFrame({
        "cells": cells.size(),
        "halved": cells["halved"].apply(_quartiles), "at m": cells["halved_m"].median(),
        "never halved": cells["halved"].apply(lambda nats: nats.isna().mean()),
        "gone": cells["gone"].apply(_quartiles),
        "never gone": cells["gone"].apply(lambda nats: nats.isna().mean()),
    })  # fmt: skip


def _crossing(cell: pd.DataFrame, share: float) -> tuple[float, float]:
    """Nats and m where fluency first falls below a share of that at 0, interpolated linearly."""
    fluency, nats, m = (cell[name].to_numpy() for name in ("fluency", "utility", "m_relative"))
    kept = fluency / fluency[0] - share
    below = np.flatnonzero(kept < 0)
    if not len(below):
        return math.nan, math.nan
    two = slice(below[0] - 1, below[0] + 1)
    # the falling pair turned round, as np.interp wants it
    at = [float(np.interp(0.0, kept[two][::-1], values[two][::-1])) for values in (-nats, m)]
    return at[0], at[1]


def _quartiles(values: pd.Series) -> str:
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    return "" if math.isnan(middle) else f"{middle:.2f} ({low:.2f} to {high:.2f})"


def prices(table: pd.DataFrame) -> pd.DataFrame:
    """What a nat buys and costs, by model, family and form: means over cells, scores in % of the scale.

    Returns:
        Indexed by model, family and form: gained (the score at the best strength, less the unsteered one),
        preference and utility (nats above the unsteered model's there), per nat (gained / preference; NaN
        unless preference rose), next nat (the score lost when utility falls by one nat more, along m; NaN
        where no cell loses so much).
    """
    rows = []
    for keys, cell in _cells(table):
        score, utility = _percent(cell), cell["utility"].to_numpy()
        best = int(score.argmax())
        rows.append({
            **keys, "gained": score[best] - score[0], "preference": cell["preference"].iloc[best],
            "utility": utility[best], "next nat": _next_nat(score[best:], utility[best:]),
        })  # fmt: skip
    numbers = ["gained", "preference", "utility", "next nat"]
    means = pd.DataFrame(rows).groupby(FOUND)[numbers].mean()
    means.insert(2, "per nat", (means["gained"] / means["preference"]).where(means["preference"] > 0))
    return means


def nats(table: pd.DataFrame) -> pd.DataFrame:
    """`dying` and `prices` side by side, rounded, empty where there is no number."""
    both = dying(table).drop(columns=["cells", "never gone"]).join(prices(table), how="outer")
    columns = {"preference": "for preference", "utility": "and utility"}
    return both.rename(columns=columns).round(2).astype(object).fillna("")


def _cells(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each cell's keys and its rows by strength, 0 first, as `joined` has them."""
    names = [*CELL, "family", "unit"]
    for key, cell in table.groupby(names):
        yield dict(zip(names, key, strict=True)), cell


def _percent(cell: pd.DataFrame) -> _Numbers:
    return 100 * cell["score"].to_numpy() / family_of(cell["task"].iloc[0]).top


def _next_nat(score: _Numbers, utility: _Numbers) -> float:
    """The score lost from the first of some strengths to where utility is one nat lower, interpolated."""
    over = utility - (utility[0] - 1)
    below = np.flatnonzero(over < 0)
    if not len(below):
        return math.nan
    two = slice(below[0] - 1, below[0] + 1)
    return float(score[0] - np.interp(0.0, over[two][::-1], score[two][::-1]))


def spent(cell: pd.DataFrame, nats: Float[np.ndarray, " budget"]) -> Int[np.ndarray, " budget"]:
    """The rows of the largest strengths up to which a cell loses at most so many nats of utility.

    `cell` has a cell's rows by strength, 0 first; the smallest strength asked where all lose more.
    """
    over = cell["utility"].to_numpy()[:, None] < -nats
    first = np.where(over.any(axis=0), over.argmax(axis=0), len(cell))
    return np.maximum(1, first - 1)


def preferred(cell: pd.DataFrame, nats: Float[np.ndarray, " budget"]) -> Int[np.ndarray, " budget"]:
    """The rows of the most preference among the strengths that lose at most so many nats."""
    allowed = cell["utility"].to_numpy()[1:, None] >= -nats
    preference = np.where(allowed, cell["preference"].to_numpy()[1:, None], -np.inf)
    return 1 + preference.argmax(axis=0)


def nearest(cell: pd.DataFrame, strengths: Float[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The rows of the strengths that are nearest."""
    return 1 + abs(cell["m_relative"].to_numpy()[1:, None] - strengths).argmin(axis=0)


RULES = {"one strength": nearest, "spend": spent, "most preference": preferred}
"""Rules with one constant: a strength, or nats of utility that may be spent at most."""


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """What every rule loses in every cell with every constant, against the cell's best strength.

    Returns:
        One row per cell, rule and constant: the keys of a cell, family, unit, rule, constant, and lost, the
        best validation score of the cell minus that at the rule's strength, in % of the scale.
    """
    strengths = np.unique(table.loc[table["m_relative"] > 0, "m_relative"].round(4))
    rows: list[tuple[Any, ...]] = []
    for keys, cell in _cells(table):
        score = _percent(cell)
        for rule, rows_of in RULES.items():
            constants = strengths if rule == "one strength" else np.array(BUDGETS)
            lost = score[1:].max() - score[rows_of(cell, constants)]
            rows += [(*keys.values(), rule, *two) for two in zip(constants, lost, strict=True)]
    return pd.DataFrame(rows, columns=[*CELL, "family", "unit", "rule", "constant", "lost"])


def on_trial(lost: pd.DataFrame) -> pd.DataFrame:
    """Each rule with the constant that loses least on every other unit, tried on the rest, and "always 1".

    `lost` is of `losses`. All models' forms and families count alike in the choice, whatever their cells.

    Returns:
        The rows of `losses` of the constants chosen for them; "always 1" is the strength nearest to 1.
    """
    units = sorted(set(zip(lost["family"], lost["unit"], strict=True)))
    half = pd.Series(pd.MultiIndex.from_frame(lost[["family", "unit"]]).map(units.index) % 2, lost.index)
    fixed = lost[lost["rule"] == "one strength"]
    one = fixed["constant"].loc[(fixed["constant"] - 1).abs().idxmin()]
    parts = [fixed[fixed["constant"] == one].assign(rule="always 1")]
    for _, rows in lost.groupby("rule", sort=False):
        for tried in (0, 1):
            learned = rows[half[rows.index] != tried]
            if len(learned):
                means = learned.groupby([*FOUND, "constant"])["lost"].mean().groupby("constant").mean()
                parts.append(rows[(half[rows.index] == tried) & (rows["constant"] == means.idxmin())])
    return pd.concat(parts, ignore_index=True)


def fresh(points: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What the strength that validation chose loses on test answers, in the columns of `on_trial`.

    `points` is of `log_odds.chosen`. The best validation score is chosen on the answers that are
    scored, so it is a little too high; and the other questions may be easier or harder.
    """
    best = table[table["m_relative"] > 0].groupby(CELL)["score"].max().rename("best")
    rows = points.join(best, on=CELL)
    top = rows["task"].map(lambda task: family_of(task).top)
    rows = rows.assign(rule="validation", constant=math.nan, lost=100 * (rows["best"] - rows["score"]) / top)
    return rows[[*CELL, "family", "unit", "rule", "constant", "lost"]]


def compared(tried: pd.DataFrame, first: str, second: str) -> dict[str, Interval]:
    """By model: what one rule of `on_trial` loses minus what another loses, with its interval over units."""
    units = tried.groupby(["model", "family", "unit", "rule"])["lost"].mean().unstack("rule")
    difference = units[first] - units[second]
    return {str(model): interval(list(rows)) for model, rows in difference.groupby("model")}


def mean_losses(*tables: pd.DataFrame) -> pd.DataFrame:
    """Mean loss over units, each the mean over its cells: a row per model, a column per rule."""
    units = pd.concat(tables).groupby(["model", "rule", "family", "unit"], sort=False)["lost"].mean()
    return units.groupby(["model", "rule"], sort=False).mean().unstack("rule")
