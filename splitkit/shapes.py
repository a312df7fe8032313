"""The shape of a measured curve: where it is straight, where it peaks, how it ends (claims C2-C4)."""

from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

CENTRE = 0.5
"""Where |m| is small: dh at most half as large as the activation it is added to (m in matching strengths)."""
END = 0.6
"""The end of a side: strengths beyond this share of the side's largest."""
LINEAR_R2 = 0.95
FLAT = 0.2
"""A slope is flat when it is below this share of the slope it is compared with."""
DECLINE = -0.8
"""Spearman's rank correlation of |m| and utility, from the peak outwards, must not be above this."""
FEWEST = 5
"""Strengths that a straight line around 0 is judged by, at least."""

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
    flat_negative: float
    flat_positive: float
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


def _slope(m: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    return float(np.polyfit(m, y, 1)[0])


def _end(m: NDArray[np.float64], y: NDArray[np.float64], side: int) -> float:
    """|slope| of the straight line through the end of one side (nats per matching strength)."""
    reach = side * m
    end = reach > END * reach.max()
    return abs(_slope(m[end], y[end])) if end.sum() >= 2 else float("nan")


def preference_shape(m: ArrayLike, preference: ArrayLike) -> PreferenceShape:
    """Linear, then bending, then settled: a line over |m| <= CENTRE, end slopes as a share of its slope.

    `m` in matching strengths, `preference` in nats, both (strengths,). C2 holds for the curve when that line
    has R² >= LINEAR_R2 and both ends are flat (slope below FLAT of the centre's). ValueError for unequal
    lengths.
    """
    strengths, values = _defined(m, preference)
    centre = np.abs(strengths) <= CENTRE
    if centre.sum() < FEWEST:
        return PreferenceShape(NAN, NAN, NAN, NAN, c2=None)
    x, y = strengths[centre], values[centre]
    slope = _slope(x, y)
    spread = float(((y - y.mean()) ** 2).sum())
    # a curve that does not move at all has no slope to be linear in
    if spread < 1e-18 or slope == 0.0:
        return PreferenceShape(float("nan"), 0.0, float("nan"), float("nan"), c2=False)
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    r2 = 1.0 - float((residual**2).sum()) / spread
    low, high = (_end(strengths, values, side) / abs(slope) for side in (-1, 1))
    if np.isnan([low, high]).any():
        return PreferenceShape(r2, slope, low, high, c2=None)
    return PreferenceShape(r2, slope, low, high, c2=bool(r2 >= LINEAR_R2 and max(low, high) < FLAT))


def utility_shape(m: ArrayLike, utility: ArrayLike) -> UtilityShape:
    """A peak near 0, a fall on both sides, flat ends: argmax, rank correlations, end slopes by the steepest.

    `m` in matching strengths, `utility` in nats, both (strengths,). C3 holds for the curve when |argmax| <=
    CENTRE, Spearman's correlation with |m| from the peak outwards is <= DECLINE on both sides, and each end's
    slope is below FLAT of the side's steepest one. ValueError for unequal lengths.
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
            declines.append(float("nan"))
            ends.append(float("nan"))
            continue
        declines.append(float(spearmanr(side * x, y).statistic))
        steepest = float(np.abs(np.diff(y) / np.diff(x)).max())
        ends.append(_end(x, y, side) / steepest if steepest > 0 else float("nan"))
    near = bool(abs(strengths[top]) <= CENTRE)
    falls = all(decline <= DECLINE for decline in declines)
    settles = all(end < FLAT for end in ends)
    return UtilityShape(
        float(strengths[top]), declines[0], declines[1], ends[0], ends[1], c3=near and falls and settles
    )


def shape_table(curves: pd.DataFrame, split: str = "train") -> pd.DataFrame:
    """One row per cell of a curve table (columns of `cells.curves`): both shapes, and whether C2 and C3 hold.

    KeyError lists the splits there are when there is none of that name.
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
        named: dict[Hashable, Any] = dict(zip(_CELL, key, strict=True))
        rows.append(named | dict(merged))
    return pd.DataFrame(rows)
