"""Rivals of Eq. 15 and 17: other curves, with four to eight free parameters, printed beside each."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from splitkit.curves.decay import COEFFICIENTS, fit_preference, fit_utility
from splitkit.curves.least_squares import coefficients, minimise_from, unexplained

Points = Float[np.ndarray, " point"]
Curves = Float[np.ndarray, "curve point"]
PredictAll = Callable[[Points], Curves]
_Design = Callable[[np.ndarray, Points], tuple[np.ndarray, ...]]
"""From theta (..., parameter) and m in units of the largest to columns (..., point)."""
DEGREES = {"preference": 8, "utility": 7}
"""Free parameters of Eq. 15 and 17: those they name, less one for continuity at m = 0."""
CUBIC, LOGISTIC, LOG = 4, 7, 6
_FINISHED = 12
"""Fewer leave two logistics in a poor minimum where one step is inside another."""
_EDGE = 8.0
"""How far from 0 the nonlinear parameters are searched."""
RIVALS: dict[str, str] = {
    "decay": "Eq. 15 / 17",
    "polynomial": "polynomial",
    "cubic": "cubic",
    "logistic": "two logistics",
    "gaussian": "Gaussian decay",
    "log": "two-sided log",
    "kernel": "kernel smoother",
}


@dataclass(frozen=True)
class _Grid:
    """Places of strengths on the full grid, 0 to 1: a grid denser near 0 is even there."""

    strengths: Points

    def place(self, m: Points) -> Points:
        return np.interp(m, self.strengths, np.linspace(0, 1, len(self.strengths)))


def parameters(rival: str, curve: str) -> int:
    """Free parameters of a rival, 4 to 8; for the kernel smoother its effective degrees of freedom, trace S.

    The two-sided log has b, m0, c+, c-, L+ and L-.

    KeyError lists the rivals there are.
    """
    if rival not in RIVALS:
        raise KeyError(f"no rival {rival!r}; there are {list(RIVALS)}")
    # Gaussian decay: two widths and D(0) beside the coefficients
    gaussian = len(COEFFICIENTS[curve]) + 3
    own = {"cubic": CUBIC, "logistic": LOGISTIC, "gaussian": gaussian, "log": LOG}
    return own.get(rival, DEGREES[curve])


def fit_rivals(rival: str, curve: str, m: Points, y: Curves, grid: Points) -> PredictAll:
    """Least-squares fits of a rival to every row of y (curve, point) at strengths m (point,): functions of m.

    "decay" is (alpha m + beta) D(m) + b (Eq. 15) or beta_u D(m) + b_u (Eq. 17), by the solver of `decay`
    alone, unchecked; "gaussian" has in place of D e^-((m - c±)^2 / w±), continuous at 0; "logistic" is a
    constant and two logistic steps; "log" never settles, b + s c± log(1 + |m - m0| / L±) with s the sign of
    m - m0 for preference and b - c± log(1 + (m - m0)^2 / L±) for utility, ± by the side of m0; "polynomial"
    has as many coefficients as the decay has free parameters; "kernel" is the Nadaraya-Watson smoother with a
    Gaussian kernel, whose width gives it that many degrees of freedom. Polynomials and kernel are over places
    on `grid`, not over m: where the grid is denser near 0 than far out, m would be a handicap to them.

    Raises:
        KeyError: for an unknown rival.
        ValueError: when there are not more points than free parameters.
    """
    free = parameters(rival, curve)
    if len(np.unique(m)) <= free:
        raise ValueError(f"{len(np.unique(m))} strengths do not determine {free} parameters.")
    if rival == "decay":
        fitter = fit_preference if curve == "preference" else fit_utility
        fits = [fitter(m, row, checked=False) for row in y]
        return lambda at: np.stack([fit.predict(at) for fit in fits])
    if rival in ("cubic", "polynomial"):
        place = _Grid(grid).place
        polynomials = [np.polynomial.Chebyshev.fit(place(m), row, free - 1, domain=[0, 1]) for row in y]
        return lambda at: np.stack([polynomial(place(at)) for polynomial in polynomials])
    if rival == "kernel":
        return _kernel(m, y, free, _Grid(grid))
    if rival == "logistic":
        design, starts = _logistic_design()
    else:
        design, starts = (_log_design if rival == "log" else _gaussian_design)(curve)
    return _projected_fits(design, starts, m, y, float(np.abs(grid).max()))


def _kernel(m: Points, y: Curves, degrees: int, grid: _Grid) -> PredictAll:
    places = grid.place(m)

    def weights(at: Points, width: float) -> np.ndarray:
        exponent = -0.5 * ((at[:, None] - places) / width) ** 2
        kernel = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        return kernel / kernel.sum(axis=1, keepdims=True)

    def excess(log_width: float) -> float:
        return float(np.trace(weights(places, math.exp(log_width)))) - degrees

    width = math.exp(brentq(excess, math.log(1e-3), math.log(10.0)))
    return lambda at: y @ weights(grid.place(at), width).T


def _logistic_design() -> tuple[_Design, np.ndarray]:
    """Steps at theta[0], theta[1] of log widths theta[2], theta[3], on m in units of the largest."""

    def design(theta: np.ndarray, x: Points) -> tuple[np.ndarray, ...]:
        steps = np.tanh((x - theta[..., :2, None]) / (2 * np.exp(theta[..., 2:, None])))
        return steps[..., 0, :], steps[..., 1, :]

    places, widths = (0.05, 0.2, 0.5), (0.03, 0.15)
    starts = [
        [a, b, math.log(w), math.log(v)]
        for a, b in [(-p, q) for p in places for q in places] + [(-0.02, 0.3), (0.02, -0.3)]
        for w, v in [(w, v) for w in widths for v in widths]
    ]
    return design, np.array(starts)


def _gaussian_design(curve: str) -> tuple[_Design, np.ndarray]:
    """D = e^-(m / w+ - h)^2 for m >= 0 and e^-(m / w- - s h)^2 for m < 0, s = 1 or -1: equal at 0.

    theta = (log w+, log w-, h, s); s is of the start, since nothing changes with its size.
    """

    def design(theta: np.ndarray, x: Points) -> tuple[np.ndarray, ...]:
        right, left, h, s = np.moveaxis(theta[..., None], -2, 0)
        branch = np.where(s >= 0, 1.0, -1.0)
        side = x >= 0
        root = x * np.exp(-np.where(side, right, left)) - np.where(side, 1.0, branch) * h
        decay = np.exp(-(root**2))
        return (x * decay, decay) if curve == "preference" else (decay,)

    scales, roots = (0.05, 0.2, 0.7), (-0.7, 0.1, 0.7)
    starts = [
        [math.log(a), math.log(b), h, s] for a in scales for b in scales for h in roots for s in (1.0, -1.0)
    ]
    return design, np.array(starts)


def _log_design(curve: str) -> tuple[_Design, np.ndarray]:
    """Sides of a logarithm that meet at theta[0], of log widths theta[1] (right) and theta[2] (left).

    For utility L± is the square of a width, so that both curves are searched over the same widths.
    """
    power = 1 if curve == "preference" else 2

    def design(theta: np.ndarray, x: Points) -> tuple[np.ndarray, ...]:
        centre, right, left = np.moveaxis(theta[..., None], -2, 0)
        away = x - centre
        return tuple(
            np.log1p((np.maximum(sign * away, 0) * np.exp(-width)) ** power)
            for sign, width in ((1, right), (-1, left))
        )

    centres, widths = (-0.3, -0.05, 0.0, 0.05, 0.3), (0.02, 0.1, 0.5)
    starts = [[c, math.log(a), math.log(b)] for c in centres for a in widths for b in widths]
    return design, np.array(starts)


def _projected_fits(design: _Design, starts: np.ndarray, m: Points, y: Curves, unit: float) -> PredictAll:
    """Levenberg-Marquardt over theta from the best starts of each curve, the coefficients solved exactly."""
    x, spread = m / unit, y.std(axis=1, keepdims=True)
    z = y / np.where(spread > 0, spread, 1.0)

    def residual(theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        bounded = np.clip(theta, -_EDGE, _EDGE)
        rest = unexplained(z[rows, None], *design(bounded, x))
        return np.concatenate([rest, theta - bounded], axis=-1)

    theta, _ = minimise_from(residual, starts, len(y), _FINISHED)
    best = np.clip(theta, -_EDGE, _EDGE)
    solved = coefficients(y, *design(best, x))

    def predict(at: Points) -> Curves:
        columns = (*design(best, at / unit), 1.0)
        return np.asarray(sum(solved[:, [i]] * column for i, column in enumerate(columns)))

    return predict
