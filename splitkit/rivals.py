"""Rivals of Eq. 15 and 17: other curves, with four to eight free parameters, printed beside each."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq, leastsq

from splitkit.decay import COEFFICIENTS, fit_preference, fit_utility

Points = Float[np.ndarray, " point"]
Predict = Callable[[Points], Points]
DEGREES = {"preference": 8, "utility": 7}
"""Free parameters of Eq. 15 and 17: those they name, less one for continuity at m = 0."""
CUBIC, LOGISTIC, LOG = 4, 7, 6
_STARTS = 8
"""Fewer leave two logistics in a poor minimum where one step is inside another."""
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


def fit_rival(rival: str, curve: str, m: Points, y: Points, grid: Points) -> Predict:
    """Least-squares fit of a rival to y (point,) at strengths m (point,), as a function of m.

    "decay" is (alpha m + beta) D(m) + b (Eq. 15) or beta_u D(m) + b_u (Eq. 17); "gaussian" has in place of D
    e^-((m - c±)^2 / w±), continuous at 0; "logistic" is a constant and two logistic steps; "log" never
    settles, b + s c± log(1 + |m - m0| / L±) with s the sign of m - m0 for preference and
    b - c± log(1 + (m - m0)^2 / L±) for utility, ± by the side of m0; "polynomial" has as many coefficients as
    the decay has free parameters; "kernel" is the Nadaraya-Watson smoother with a Gaussian kernel, whose
    width gives it that many degrees of freedom. Polynomials and kernel are over places on `grid`, not over m:
    where the grid is denser near 0 than far out, m would be a handicap to them.

    Raises:
        KeyError: for an unknown rival.
        ValueError: when there are not more points than free parameters.
    """
    free = parameters(rival, curve)
    if len(np.unique(m)) <= free:
        raise ValueError(f"{len(np.unique(m))} strengths do not determine {free} parameters.")
    unit = float(np.abs(grid).max())
    if rival == "decay":
        return (fit_preference if curve == "preference" else fit_utility)(m, y).predict
    if rival in ("cubic", "polynomial"):
        place = _Grid(grid).place
        polynomial = np.polynomial.Chebyshev.fit(place(m), y, free - 1, domain=[0, 1])
        return lambda at: polynomial(place(at))
    if rival == "kernel":
        return _kernel(m, y, free, _Grid(grid))
    if rival == "logistic":
        design, starts = _logistic_design()
    else:
        design, starts = (_log_design if rival == "log" else _gaussian_design)(curve)
    return _projected_fit(design, starts, m / unit, y, unit)


def _kernel(m: Points, y: Points, degrees: int, grid: _Grid) -> Predict:
    places = grid.place(m)

    def weights(at: Points, width: float) -> np.ndarray:
        exponent = -0.5 * ((at[:, None] - places) / width) ** 2
        kernel = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        return kernel / kernel.sum(axis=1, keepdims=True)

    def excess(log_width: float) -> float:
        return float(np.trace(weights(places, math.exp(log_width)))) - degrees

    width = math.exp(brentq(excess, math.log(1e-3), math.log(10.0)))
    return lambda at: weights(grid.place(at), width) @ y


def _logistic_design() -> tuple[Callable[[np.ndarray, Points], np.ndarray], np.ndarray]:
    """Steps at theta[0], theta[1] of log widths theta[2], theta[3], on m in units of the largest."""

    def design(theta: np.ndarray, x: Points) -> np.ndarray:
        steps = [np.tanh((x - c) / (2 * math.exp(w))) for c, w in zip(theta[:2], theta[2:], strict=True)]
        return np.column_stack([*steps, np.ones_like(x)])

    places, widths = (0.05, 0.2, 0.5), (0.03, 0.15)
    starts = [
        [a, b, math.log(w), math.log(v)]
        for a, b in [(-p, q) for p in places for q in places] + [(-0.02, 0.3), (0.02, -0.3)]
        for w, v in [(w, v) for w in widths for v in widths]
    ]
    return design, np.array(starts)


def _gaussian_design(curve: str) -> tuple[Callable[[np.ndarray, Points], np.ndarray], np.ndarray]:
    """D = e^-(m / w+ - h)^2 for m >= 0 and e^-(m / w- - s h)^2 for m < 0, s = 1 or -1: equal at 0.

    theta = (log w+, log w-, h, s); s is of the start, since nothing changes with its size.
    """

    def design(theta: np.ndarray, x: Points) -> np.ndarray:
        branch = 1.0 if theta[3] >= 0 else -1.0
        right = np.exp(-((x * math.exp(-theta[0]) - theta[2]) ** 2))
        left = np.exp(-((x * math.exp(-theta[1]) - branch * theta[2]) ** 2))
        decay = np.where(x >= 0, right, left)
        slope = [x * decay] if curve == "preference" else []
        return np.column_stack([*slope, decay, np.ones_like(x)])

    scales, roots = (0.05, 0.2, 0.7), (-0.7, 0.1, 0.7)
    starts = [
        [math.log(a), math.log(b), h, s] for a in scales for b in scales for h in roots for s in (1.0, -1.0)
    ]
    return design, np.array(starts)


def _log_design(curve: str) -> tuple[Callable[[np.ndarray, Points], np.ndarray], np.ndarray]:
    """Sides of a logarithm that meet at theta[0], of log widths theta[1] (right) and theta[2] (left).

    For utility L± is the square of a width, so that both curves are searched over the same widths.
    """
    power = 1 if curve == "preference" else 2

    def design(theta: np.ndarray, x: Points) -> np.ndarray:
        sides = [
            sign * np.log1p((np.maximum(sign * (x - theta[0]), 0) * math.exp(-width)) ** power)
            for sign, width in ((1, theta[1]), (-1, theta[2]))
        ]
        return np.column_stack([*sides, np.ones_like(x)])

    centres, widths = (-0.3, -0.05, 0.0, 0.05, 0.3), (0.02, 0.1, 0.5)
    starts = [[c, math.log(a), math.log(b)] for c in centres for a in widths for b in widths]
    return design, np.array(starts)


def _projected_fit(
    design: Callable[[np.ndarray, Points], np.ndarray], starts: np.ndarray, x: Points, y: Points, unit: float
) -> Predict:
    """Levenberg-Marquardt over theta from the best starts, the coefficients solved exactly."""

    def solved(theta: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(design(theta, x), y, rcond=None)[0]

    def residual(theta: np.ndarray) -> np.ndarray:
        bounded = np.clip(theta, -8, 8)
        return np.concatenate([y - design(bounded, x) @ solved(bounded), (theta - bounded) * y.std()])

    cost = [float(np.sum(residual(start) ** 2)) for start in starts]
    tried = [
        leastsq(residual, starts[i], maxfev=400, full_output=True)[0] for i in np.argsort(cost)[:_STARTS]
    ]
    best = np.clip(min(tried, key=lambda theta: float(np.sum(residual(theta) ** 2))), -8, 8)
    coefficients = solved(best)
    return lambda m: design(best, m / unit) @ coefficients
