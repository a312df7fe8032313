"""Bootstrap over pairs: intervals of R², parameters and breakdown strengths of one cell."""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from splitkit.curves.decay import COEFFICIENTS, Fit, fit_preference, fit_utility
from splitkit.curves.refits import Refits, refit
from splitkit.curves.solvers import NAMES
from splitkit.curves.validity import Validity

DRAWS = 200
"""Number of bootstrap draws."""
INTERVAL = (2.5, 97.5)
"""Percentiles of the intervals."""
SPLITS = ("train", "test")
_FITTERS = {"preference": fit_preference, "utility": fit_utility}


@dataclass(frozen=True)
class Estimate:
    """A number, and its value in each draw (draw,); infinite where a breakdown is beyond the grid."""

    value: float
    draws: Float[np.ndarray, " draw"]
    flag: str = ""

    def interval(self) -> tuple[float, float]:
        """The 2.5 and 97.5 % percentiles of the draws that are defined; NaN where fewer than half are."""
        defined = self.draws[~np.isnan(self.draws)]
        if len(defined) < len(self.draws) / 2:
            return math.nan, math.nan
        # of the draws themselves: between a finite and an infinite one there is nothing
        low, high = np.percentile(defined, INTERVAL, method="inverted_cdf")
        return float(low), float(high)


@dataclass(frozen=True)
class _Curve:
    """A curve's points for the pairs as they are (point,) and for each draw of them (draw, point)."""

    mean: np.ndarray
    draws: np.ndarray


def pair_counts(task: str, split: str, n_pairs: int, draws: int = DRAWS) -> np.ndarray:
    """Counts of each pair in each draw, (draw, pair): n_pairs out of n_pairs with replacement.

    Seeded by task and split, so that in one draw all cells of a task have the same pairs, and averages over
    them vary as they would with other pairs.
    """
    random = np.random.default_rng(zlib.crc32(f"{task} {split}".encode()))
    return random.multinomial(n_pairs, np.full(n_pairs, 1 / n_pairs), size=draws)


def bootstrap_cell(
    sweeps: dict[str, pd.DataFrame], strengths: Float[np.ndarray, " point"], task: str, draws: int = DRAWS
) -> dict[tuple[str, str, str], Estimate]:
    """R², parameters and breakdown strengths of a cell's fits, each with `draws` bootstrap draws over pairs.

    In every draw the pairs of train and of test are drawn anew, both curves are refitted to both, and R² of
    the train fit on the test curve is taken ("transfer").

    Args:
        sweeps: of "train" and "test": one row per (m, pair), with m, pair, preference, utility.
        strengths: (point,) the sweeps' m, ascending, in units of the matching strength.
        task: the seed of the draws.

    Returns:
        By (split, curve, quantity): split "train", "test" or "transfer", curve "preference" or "utility",
        quantity "r2", and except for transfer a parameter of Eq. 12, 15 or 17 or "breakdown_negative" or
        "breakdown_positive", where D = 1/2: -inf or inf when that is outside the grid, 0 when D is below 1/2
        from m = 0 on.

    Raises:
        ValueError: when a sweep has another number of strengths, or a curve cannot be fitted.
    """
    estimates: dict[tuple[str, str, str], Estimate] = {}
    for curve, fitter in _FITTERS.items():
        curves = {
            split: _resampled(sweeps[split], curve, len(strengths), task, split, draws) for split in SPLITS
        }
        fits: dict[str, tuple[Fit, Refits]] = {}
        for split, points in curves.items():
            fit = None if np.isnan(points.mean).any() else fitter(strengths, points.mean)
            if fit is None or fit.note:
                reason = fit.note if fit else "no pair has Eq. 8 defined at every m"
                estimates |= {(split, curve, name): _undefined(draws, reason) for name in _quantities(curve)}
                continue
            fits[split] = fit, refit(fit, strengths, points.draws)
            described = _described(*fits[split])
            estimates |= {(split, curve, name): estimate for name, estimate in described.items()}
        transfer = _undefined(draws, "no curve to transfer")
        if len(fits) == len(SPLITS):
            (fit, refits), points = fits["train"], curves["test"]
            transfer = Estimate(
                fit.score(strengths, points.mean), _r2(points.draws, refits.predict(strengths))
            )
        estimates["transfer", curve, "r2"] = transfer
    return estimates


def interval_rows(estimates: dict[tuple[str, str, str], Estimate]) -> list[dict[str, Any]]:
    """One row per estimate: split, curve, quantity, value, low, high, share_finite, flag."""
    rows = []
    for (split, curve, quantity), estimate in estimates.items():
        low, high = estimate.interval()
        finite = float(np.isfinite(estimate.draws).mean())
        row = {"split": split, "curve": curve, "quantity": quantity, "value": estimate.value}
        rows.append(row | {"low": low, "high": high, "share_finite": finite, "flag": estimate.flag})
    return rows


def _resampled(sweep: pd.DataFrame, curve: str, n_points: int, task: str, split: str, draws: int) -> _Curve:
    """Means over pairs as `mean_curve` takes them: utility over the pairs that have it at every m."""
    values = sweep.pivot(index="m", columns="pair", values=curve).sort_index().to_numpy(dtype=float)
    if len(values) != n_points:
        raise ValueError(f"the {split} sweep has {len(values)} strengths, not {n_points}.")
    counts = pair_counts(task, split, values.shape[1], draws)
    if curve == "utility":
        defined = ~np.isnan(values).any(axis=0)
        values, counts = values[:, defined], counts[:, defined]
    total = counts.sum(axis=1, keepdims=True)
    mean = values.mean(axis=1) if values.shape[1] else np.full(n_points, np.nan)
    # a draw without a single defined pair has no curve
    weights = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    return _Curve(mean, weights @ values.T if values.shape[1] else np.full((draws, n_points), np.nan))


def _described(fit: Fit, refits: Refits) -> dict[str, Estimate]:
    described = {"r2": Estimate(fit.r2, refits.r2, "the two solvers disagree" if fit.flagged else "")}
    for name, value in fit.parameters.items():
        flag = "at the edge of the search" if name in fit.at_bound else ""
        described[name] = Estimate(value, refits.parameters[name], flag)
    edges = fit.lowest, fit.highest
    decays = np.stack([refits.parameters[name] for name in NAMES], axis=1)
    ends = np.array([_breakdown(Validity(*decay), *edges) for decay in decays.tolist()])
    for side, value, column in zip(
        ("negative", "positive"), _breakdown(fit.validity, *edges), ends.T, strict=True
    ):
        flag = "outside the grid" if math.isinf(value) else "D < 1/2 from m = 0 on" if value == 0 else ""
        described[f"breakdown_{side}"] = Estimate(value, column, flag)
    return described


def _breakdown(validity: Validity, lowest: float, highest: float) -> tuple[float, float]:
    """The m where D = 1/2 on each side, negative first: infinite beyond the grid, 0 before 0."""
    negative, positive = validity.reach
    return (
        -math.inf if negative < lowest else min(negative, 0.0),
        math.inf if positive > highest else max(positive, 0.0),
    )


def _r2(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """R² of each row; NaN where the row is constant or undefined."""
    spread = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return 1 - ((y - predicted) ** 2).sum(axis=1) / np.where(spread > 0, spread, np.nan)


def _quantities(curve: str) -> list[str]:
    return ["r2", *COEFFICIENTS[curve], *NAMES, "breakdown_negative", "breakdown_positive"]


def _undefined(draws: int, reason: str) -> Estimate:
    return Estimate(math.nan, np.full(draws, np.nan), reason)
