"""Shapes of measured curves: the straight part, the peak, the ends (claims C2-C4)."""

from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import linregress, spearmanr

CENTRE = 0.5
"""Largest |m| that counts as small, in matching strengths: dh is at most half as large as the activation."""
LINEAR_R2 = 0.95
"""Least R² of a straight line."""
SETTLED = 0.1
"""Largest share of a side's change that the last doubling of |m| makes when the side has settled.

On a grid to 64, a logarithm, which never settles, changes by 0.14 to 0.17 there.
"""
NOISE = 3.0
"""Least range of a curve that is judged, in standard errors."""
DECLINE = -0.8
"""Largest rank correlation (Spearman) of |m| and utility, from the peak outwards, of a curve that falls."""
FEWEST = 5
"""Least number of strengths that a straight line around 0 is judged by."""

NAN = float("nan")
_CELL = ["model", "task", "form", "objective", "seed"]


@dataclass(frozen=True)
class PreferenceShape:
    """Preference against m: `c2` is None where there are too few strengths to tell."""

    linear_r2: float
    slope: float
    end_negative: float
    end_positive: float
    c2: bool | None


@dataclass(frozen=True)
class UtilityShape:
    """Utility against m: `c3` is None where there are too few strengths to tell."""

    peak_m: float
    decline_negative: float
    decline_positive: float
    settles_negative: float
    settles_positive: float
    c3: bool | None


def _defined(m: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float arrays (strengths,), by rising m, without the strengths at which y is undefined."""
    strengths, values = np.asarray(m, dtype=float), np.asarray(y, dtype=float)
    if strengths.shape != values.shape or strengths.ndim != 1:
        raise ValueError(
            "m and the curve must be one-dimensional and equally long, "
            f"got {strengths.shape} and {values.shape}"
        )
    keep = np.isfinite(values)
    order = np.argsort(strengths[keep])
    return strengths[keep][order], values[keep][order]


def _end(reach: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """|y(M) - y(M / 2)| / (max y - min y) of one side, M its largest |m|: the last doubling's share."""
    order = np.argsort(reach)
    last = abs(y[order][-1] - float(np.interp(reach.max() / 2, reach[order], y[order])))
    spread = float(np.ptp(y))
    return last / spread if spread > 0 else NAN


def preference_shape(m: ArrayLike, preference: ArrayLike, centre: float = CENTRE) -> PreferenceShape:
    """Linear, then bending, then settled: a line over |m| <= centre, and the change of the last doubling.

    `m` in matching strengths, `preference` in nats, both (strengths,). C2 holds for the curve when that line
    has R² >= LINEAR_R2 and both sides have settled (see SETTLED). ValueError for unequal lengths.
    """
    strengths, values = _defined(m, preference)
    near = np.abs(strengths) <= centre
    if near.sum() < FEWEST:
        return PreferenceShape(NAN, NAN, NAN, NAN, c2=None)
    x, y = strengths[near], values[near]
    line = linregress(x, y)
    slope, r2 = float(line.slope), float(line.rvalue**2)
    # a curve that does not move at all has no slope to be linear in
    if ((y - y.mean()) ** 2).sum() < 1e-18 or slope == 0.0:
        return PreferenceShape(NAN, 0.0, NAN, NAN, c2=False)
    sides = [side * strengths >= 0 for side in (-1, 1)]
    low, high = (_end(np.abs(strengths[side]), values[side]) for side in sides)
    settled = max(low, high) <= SETTLED
    return PreferenceShape(r2, slope, low, high, c2=bool(r2 >= LINEAR_R2 and settled))


def utility_shape(m: ArrayLike, utility: ArrayLike) -> UtilityShape:
    """A peak near 0, a fall on both sides, settled ends: argmax, rank correlations, the last doubling.

    `m` in matching strengths, `utility` in nats, both (strengths,). C3 holds for the curve when |argmax| <=
    CENTRE, Spearman's correlation with |m| from the peak outwards is <= DECLINE on both sides, and both sides
    have settled (see SETTLED). ValueError for unequal lengths.
    """
    strengths, values = _defined(m, utility)
    if len(values) < 2 * FEWEST - 1:
        return UtilityShape(NAN, NAN, NAN, NAN, NAN, c3=None)
    top = int(np.argmax(values))
    declines, ends = [], []
    for side in (-1, 1):
        outwards = side * strengths >= side * strengths[top]
        x, y = strengths[outwards], values[outwards]
        if len(x) < 3:
            # the peak lies at the edge of the grid: there is no fall on this side
            declines.append(NAN)
            ends.append(NAN)
            continue
        declines.append(float(spearmanr(side * x, y).statistic))
        ends.append(_end(np.abs(x), y))
    near = bool(abs(strengths[top]) <= CENTRE)
    falls = all(decline <= DECLINE for decline in declines)
    settles = all(end <= SETTLED for end in ends)
    return UtilityShape(
        float(strengths[top]), declines[0], declines[1], ends[0], ends[1], c3=near and falls and settles
    )


def shape_table(curves: pd.DataFrame, split: str = "train") -> pd.DataFrame:
    """One row per cell of a table of `splitkit.curves`: both shapes, and whether C2 and C3 hold.

    `preference_range` and `utility_range` say how far each curve moves over the grid, in nats. One that moves
    by no more than NOISE of its standard errors (median over the grid) has no shape to judge: None. KeyError
    lists the splits there are when there is none of that name.
    """
    chosen = curves[curves["split"] == split]
    if chosen.empty:
        raise KeyError(f"no curves of split {split!r}; there are {sorted(set(curves['split']))}")
    rows: list[dict[Hashable, Any]] = []
    for key, curve in chosen.groupby(_CELL, sort=True):
        shapes = (
            preference_shape(curve["m_relative"], curve["preference"]),
            utility_shape(curve["m_relative"], curve["utility"]),
        )
        merged = {name: value for shape in shapes for name, value in asdict(shape).items()}
        for curve_name, verdict in (("preference", "c2"), ("utility", "c3")):
            merged[f"{curve_name}_range"] = moved = float(np.ptp(curve[curve_name].dropna()))
            if moved <= NOISE * curve[f"{curve_name}_sem"].median():
                merged[verdict] = None
        named: dict[Hashable, Any] = dict(zip(_CELL, key, strict=True))
        rows.append(named | dict(merged))
    return pd.DataFrame(rows)


def linear_by_centre(curves: pd.DataFrame, centres: tuple[float, ...], split: str = "train") -> pd.DataFrame:
    """Shares of cells for which C2 holds, by form, for several ends of "small m".

    One row per (model, form, centre): `straight` (R² of the line >= LINEAR_R2) and `c2`, over the cells whose
    preference can be judged (see `shape_table`); NaN where a centre has fewer than FEWEST strengths. No rows
    where no cell can be judged.
    """
    rows = []
    for key, curve in curves[curves["split"] == split].groupby(_CELL, sort=True):
        if np.ptp(curve["preference"]) <= NOISE * curve["preference_sem"].median():
            continue
        for centre in centres:
            shape = preference_shape(curve["m_relative"], curve["preference"], centre)
            known = shape.c2 is not None
            straight = float(shape.linear_r2 >= LINEAR_R2) if known else NAN
            judged = {"straight": straight, "c2": float(bool(shape.c2)) if known else NAN}
            rows.append({"model": key[0], "form": key[2], "centre": centre, **judged})
    table = pd.DataFrame(rows, columns=["model", "form", "centre", "straight", "c2"])
    return table.groupby(["model", "form", "centre"], as_index=False)[["straight", "c2"]].mean()
