"""Two independent least-squares solvers for curves of the form (basis of m) D(m) + constant.

Both work on m within -1..1 and y of mean 0 and variance 1. Their six decay parameters are
theta = (m+, log L+, log p+, m-, log L-, log p-). D is continuous at 0 where h+ = h- or h+ = -h-, with the
signed root h = sign(c) (p log(1 + c^2 / L))^(1/2), c the centre: -log D(0) = h^2. Written so, the constraint
keeps a gradient at c = 0, where that of D+(0) - D-(0) vanishes and stops SLSQP; the signs are its branches.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import leastsq, minimize

from splitkit.validity import Validity

# Of m in units of the grid's largest |m|. Beyond these D is flat over the grid or narrower than its steps.
LOWER = np.array([-1.0, math.log(1e-4), math.log(0.05)] * 2)
UPPER = np.array([1.0, math.log(25.0), math.log(20.0)] * 2)
NAMES = ("m_plus", "L_plus", "p_plus", "m_minus", "L_minus", "p_minus")
BRANCHES = (1.0, -1.0)
STARTS = 3
CANDIDATES = 120


@dataclass(frozen=True)
class Solution:
    """Decay, coefficients (n_basis + 1,) of the basis times D and of the constant, and 1 - R^2."""

    validity: Validity
    coefficients: np.ndarray
    cost: float
    at_bound: tuple[str, ...] = ()


def solve_constrained(m: np.ndarray, y: np.ndarray, basis: np.ndarray) -> Solution:
    """Least squares by SLSQP with D(0+) = D(0-) as an equality constraint (appendix E).

    Coefficients that enter linearly are solved exactly within each step, so SLSQP moves only theta; by the
    envelope theorem the gradient with respect to theta is that at fixed coefficients.

    Args:
        m: (point,) strengths within -1..1.
        y: (point,) values of mean 0 and variance 1.
        basis: (point, n_basis) what multiplies D.
    """
    best: Solution | None = None
    for branch in BRANCHES:
        for start in _starts(m, y, basis, branch, seed=0):
            theta = _slsqp(m, y, basis, branch, start)
            coefficients, cost, _ = _projected(theta, m, y, basis)
            if best is None or cost < best.cost:
                near = (theta - LOWER < 1e-3 * (UPPER - LOWER)) | (UPPER - theta < 1e-3 * (UPPER - LOWER))
                names = tuple(name for name, bound in zip(NAMES, near, strict=True) if bound)
                best = Solution(_validity(theta), coefficients, cost, names)
    assert best is not None
    return best


def solve_parametrised(m: np.ndarray, y: np.ndarray, basis: np.ndarray) -> Solution:
    """The same least squares by Levenberg-Marquardt, with continuity built into the parameters.

    Free are k (D(0) = e^-k^2) and, through the sine transform of MINUIT and lmfit that keeps them in bounds,
    both widths and exponents; the centres follow from k. No constraint, no gradient by hand, other starts and
    another algorithm: what agrees with `solve_constrained` is no artefact of either.
    """
    weight = 1 / math.sqrt(len(y))
    best: Solution | None = None
    for branch in BRANCHES:
        for start in _starts(m, y, basis, branch, seed=1):

            def residuals(free: np.ndarray, branch: float = branch) -> np.ndarray:
                theta = _from_free(free, branch)
                # what no coefficients can explain: y less its projection on the design's columns
                design = np.column_stack([basis * _decay(theta, m)[:, None], np.ones_like(m)])
                q, _ = np.linalg.qr(design)
                excess = np.maximum(np.abs(theta[[0, 3]]) - 1, 0)
                return np.concatenate([(y - q @ (q.T @ y)) * weight, excess])

            # full_output: a start that runs out of calls is one among several, no warning
            found, *_ = leastsq(
                residuals, _to_free(start), maxfev=600, xtol=1e-6, ftol=1e-7, full_output=True
            )
            theta = _from_free(found, branch)
            if np.abs(theta[[0, 3]]).max() > 1 + 1e-2:
                continue
            coefficients, cost, _ = _projected(theta, m, y, basis)
            if best is None or cost < best.cost:
                best = Solution(_validity(theta), coefficients, cost)
    return best or Solution(_validity(LOWER), np.zeros(basis.shape[1] + 1), math.inf)


def _validity(theta: np.ndarray) -> Validity:
    centres, scales = theta[0::3].tolist(), np.exp(theta).tolist()
    return Validity(centres[0], scales[1], scales[2], centres[1], scales[4], scales[5])


def _decay(theta: np.ndarray, m: np.ndarray) -> np.ndarray:
    """D (..., point) for theta (..., 6)."""
    side = np.where(m >= 0, 0, 3)
    centre, width, exponent = (theta[..., side + i] for i in range(3))
    return np.exp(-np.exp(exponent) * np.log1p((m - centre) ** 2 * np.exp(-width)))


def _decay_gradient(theta: np.ndarray, m: np.ndarray, decay: np.ndarray) -> np.ndarray:
    """dD / dtheta, (point, 6)."""
    gradient = np.zeros((len(m), 6))
    for first, rows in ((0, m >= 0), (3, m < 0)):
        centre, width, exponent = theta[first], math.exp(theta[first + 1]), math.exp(theta[first + 2])
        distance, value = m[rows] - centre, decay[rows] * exponent
        square = distance**2
        gradient[rows, first] = value * 2 * distance / (width + square)
        gradient[rows, first + 1] = value * square / (width + square)
        gradient[rows, first + 2] = -value * np.log1p(square / width)
    return gradient


def _projected(
    theta: np.ndarray, m: np.ndarray, y: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Best coefficients for theta, 1 - R^2, and its gradient (6,)."""
    decay = _decay(theta, m)
    design = np.column_stack([basis * decay[:, None], np.ones_like(m)])
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    residual = y - design @ coefficients
    slope = basis @ coefficients[:-1]
    gradient = -2 / len(y) * (residual * slope) @ _decay_gradient(theta, m, decay)
    return coefficients, float(residual @ residual) / len(y), gradient


def _root(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """h on the two sides (2,), and its derivatives with respect to that side's three parameters (2, 3)."""
    centre, width, exponent = theta[0::3], np.exp(theta[1::3]), np.exp(theta[2::3])
    h = np.sign(centre) * np.sqrt(exponent * np.log1p(centre**2 / width))
    safe = np.where(h == 0, 1.0, h)
    outer = width + centre**2
    by_centre = np.where(h == 0, np.sqrt(exponent / width), exponent * centre / (safe * outer))
    by_width = np.where(h == 0, 0.0, -exponent * centre**2 / (2 * safe * outer))
    return h, np.stack([by_centre, by_width, h / 2], axis=1)


def _slsqp(m: np.ndarray, y: np.ndarray, basis: np.ndarray, branch: float, start: np.ndarray) -> np.ndarray:
    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        _, cost, gradient = _projected(theta, m, y, basis)
        return cost, gradient

    def gap(theta: np.ndarray) -> float:
        h, _ = _root(theta)
        return h[0] - branch * h[1]

    def gap_gradient(theta: np.ndarray) -> np.ndarray:
        _, derivative = _root(theta)
        return np.concatenate([derivative[0], -branch * derivative[1]])

    constraint = {"type": "eq", "fun": gap, "jac": gap_gradient}
    result = minimize(
        objective,
        start,
        jac=True,
        method="SLSQP",
        bounds=np.column_stack([LOWER, UPPER]),
        constraints=[constraint],
        options={"ftol": 1e-9, "maxiter": 150},
    )
    theta = np.clip(result.x, LOWER, UPPER)
    # SLSQP meets the constraint to about 1e-6; two Newton steps of least length meet it to rounding
    for _ in range(2):
        gradient = gap_gradient(theta)
        theta = theta - gap(theta) * gradient / (gradient @ gradient)
    return theta


def _starts(m: np.ndarray, y: np.ndarray, basis: np.ndarray, branch: float, seed: int) -> list[np.ndarray]:
    """From seeded candidates that meet the constraint, the best of each of STARTS groups: [(6,), ...]."""
    random = np.random.default_rng(seed).uniform(size=(CANDIDATES, 5))
    free = np.column_stack([2 * random[:, 0] - 1, 0.8 * math.pi * (random[:, 1:] - 0.5)])
    theta = np.stack([_from_free(row, branch) for row in free])
    theta = theta[np.abs(theta[:, [0, 3]]).max(axis=1) < 1]
    decay = _decay(theta, m)
    design = np.concatenate([decay[:, :, None] * basis, np.ones((*decay.shape, 1))], axis=2)
    moments = design.transpose(0, 2, 1) @ design + 1e-9 * np.eye(design.shape[2])
    projection = design.transpose(0, 2, 1) @ y
    explained = np.sum(projection * np.linalg.solve(moments, projection[..., None])[..., 0], axis=1)
    groups = np.array_split(np.arange(len(theta)), STARTS)
    return [theta[group[np.argmax(explained[group])]] for group in groups]


def _from_free(x: np.ndarray, branch: float) -> np.ndarray:
    """theta (6,), continuous at 0, from x = (k, and angles for log L+, log p+, log L-, log p-)."""
    low, high = LOWER[[1, 2, 4, 5]], UPPER[[1, 2, 4, 5]]
    right_width, right_exponent, left_width, left_exponent = low + (high - low) * (np.sin(x[1:]) + 1) / 2
    sides = []
    for sign, width, exponent in ((1.0, right_width, right_exponent), (branch, left_width, left_exponent)):
        root = math.sqrt(math.exp(width) * math.expm1(min(x[0] ** 2 * math.exp(-exponent), 50.0)))
        sides.append([sign * math.copysign(root, x[0]), width, exponent])
    return np.array(sides).ravel()


def _to_free(theta: np.ndarray) -> np.ndarray:
    """The inverse of `_from_free`, for a theta that is continuous at 0."""
    low, high = LOWER[[1, 2, 4, 5]], UPPER[[1, 2, 4, 5]]
    angles = np.arcsin(np.clip(2 * (theta[[1, 2, 4, 5]] - low) / (high - low) - 1, -1, 1))
    return np.concatenate([[_root(theta)[0][0]], angles])
