"""Refits: many resamples of one curve fitted at once, each from the curve's own fit."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from splitkit.curves.decay import COEFFICIENTS, Fit, curve
from splitkit.curves.least_squares import coefficients, minimise, unexplained
from splitkit.curves.solvers import NAMES, decay, free_of, theta_of
from splitkit.curves.validity import Validity


@dataclass(frozen=True)
class Refits:
    """The fits of several draws: parameters and R^2, each (draw,); NaN for a draw that is constant or NaN.

    `parameters` have the names and the units of the fit that they started from.
    """

    kind: str
    parameters: dict[str, Float[np.ndarray, " draw"]]
    r2: Float[np.ndarray, " draw"]

    def predict(self, m: Float[np.ndarray, " point"]) -> Float[np.ndarray, "draw point"]:
        """Eq. 15 or 17 of every draw at each m."""
        return curve(self.kind, m, {name: values[:, None] for name, values in self.parameters.items()})


def refit(fit: Fit, m: Float[np.ndarray, " point"], y: Float[np.ndarray, "draw point"]) -> Refits:
    """Eq. 15 or 17 by least squares for every row of y, from the parameters of `fit` and nowhere else.

    Levenberg-Marquardt on all draws together, with continuity at 0 built into the parameters and the
    coefficients of D solved exactly within each step (variable projection). For resamples of the data that
    `fit` describes: they are close to it, and other starts would cost a hundred times as much.

    Args:
        fit: what `fit_preference` or `fit_utility` found for the data that was resampled.
        m: (point,) strengths, in the unit of `fit`.
        y: (draw, point) one resampled curve per row.

    Raises:
        ValueError: when the shapes do not fit each other, or `fit` has no decay because its y was constant.
    """
    if y.ndim != 2 or m.shape != y.shape[1:]:
        raise ValueError(f"m {m.shape} must be (point,) and y {y.shape} (draw, point).")
    if fit.note:
        raise ValueError(f"There is no fit to start from: {fit.note}.")
    names, unit = COEFFICIENTS[fit.kind], float(np.abs(m).max())
    values = np.full((len(y), len(names) + 6), np.nan)
    r2 = np.full(len(y), np.nan)
    usable = np.isfinite(y).all(axis=1)
    usable[usable] = np.ptp(y[usable], axis=1) > 1e-12 * np.abs(y[usable]).max(axis=1)
    if usable.any():
        centre, scale = y[usable].mean(axis=1, keepdims=True), y[usable].std(axis=1, keepdims=True)
        theta, solved, cost = _solve(
            m / unit, (y[usable] - centre) / scale, fit.kind, fit.validity.scaled(1 / unit)
        )
        solved = solved * scale
        solved[:, -1] += centre[:, 0]
        if fit.kind == "preference":
            solved[:, 0] /= unit
        found = np.where(np.arange(6) % 3 == 0, theta, np.exp(theta)) * np.tile([unit, unit**2, 1], 2)
        values[usable] = np.concatenate([solved, found], axis=1)
        r2[usable] = 1 - cost
    return Refits(fit.kind, dict(zip((*names, *NAMES), values.T, strict=True)), r2)


def _solve(
    x: np.ndarray, z: np.ndarray, kind: str, start: Validity
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """theta (draw, 6) as in `solvers`, coefficients (draw, basis + 1) and 1 - R^2 (draw,) of rows of z."""
    first, branch = free_of(start)

    def columns(theta: np.ndarray) -> tuple[np.ndarray, ...]:
        each = decay(theta, x)
        return (x * each, each) if kind == "preference" else (each,)

    def residual(free: np.ndarray, rows: np.ndarray) -> np.ndarray:
        theta = theta_of(free, branch)
        rest = unexplained(z[rows, None], *columns(theta)) / math.sqrt(len(x))
        # keeps the centres within the grid, as in `solvers`
        return np.concatenate([rest, np.maximum(np.abs(theta[..., [0, 3]]) - 1, 0)], axis=-1)

    free, cost = minimise(residual, np.tile(first, (len(z), 1)))
    theta = theta_of(free, branch)
    return theta, coefficients(z, *columns(theta)), cost
