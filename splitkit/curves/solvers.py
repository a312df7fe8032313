"""Two independent least-squares solvers for curves of the form (basis of m) D(m) + constant.

Both work on m within -1..1 and y of mean 0 and variance 1. Their six decay parameters are
theta = (m+, log L+, log p+, m-, log L-, log p-). D is continuous at 0 where h+ = h- or h+ = -h-, with the
signed root h = sign(c) (p log(1 + c^2 / L))^(1/2), c the centre: -log D(0) = h^2. Written so, the constraint
keeps a gradient at c = 0, where that of D+(0) - D-(0) vanishes and stops SLSQP; the signs are its branches.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.optimize import minimize

from splitkit.curves.least_squares import minimise, unexplained
from splitkit.curves.validity import Validity

# Of m in units of the grid's largest |m|. Beyond these D is flat over the grid or narrower than its steps.
LOWER = np.array([-1.0, math.log(1e-4), math.log(0.05)] * 2)
UPPER = np.array([1.0, math.log(25.0), math.log(20.0)] * 2)
NAMES = ("m_plus", "L_plus", "p_plus", "m_minus", "L_minus", "p_minus")
BRANCHES = (1.0, -1.0)
STARTS, CHECKED_STARTS = 3, 12
"""Starts on each branch, of SLSQP and of the solver that checks it."""
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
    order = np.argsort(m, kind="stable")
    m, y, basis = m[order], y[order], basis[order]
    best: Solution | None = None
    for branch in BRANCHES:
        for start in _starts(m, y, basis, branch, 0, STARTS):
            theta = _slsqp(m, y, basis, branch, start)
            coefficients, cost, _ = _projected(theta, m, y, basis)
            if best is None or cost < best.cost:
                near = (theta - LOWER < 1e-3 * (UPPER - LOWER)) | (UPPER - theta < 1e-3 * (UPPER - LOWER))
                names = tuple(name for name, bound in zip(NAMES, near, strict=True) if bound)
                best = Solution(validity_of(theta), coefficients, cost, names)
    assert best is not None
    return best


def solve_parametrised(m: np.ndarray, y: np.ndarray, basis: np.ndarray) -> Solution:
    """The same least squares by Levenberg-Marquardt, with continuity built into the parameters.

    Free are k (D(0) = e^-k^2) and, through the sine transform of MINUIT and lmfit that keeps them in bounds,
    both widths and exponents; the centres follow from k. No constraint, no gradient by hand, four times as
    many other starts and another algorithm: what agrees with `solve_constrained` is no artefact of either.
    """
    starts = [_starts(m, y, basis, branch, 1, CHECKED_STARTS) for branch in BRANCHES]
    branch = np.repeat(BRANCHES, CHECKED_STARTS)

    def residual(free: np.ndarray, rows: np.ndarray) -> np.ndarray:
        theta = theta_of(free, branch[rows, None])
        # what no coefficients can explain
        each = decay(theta, m)
        rest = unexplained(y, *(column * each for column in basis.T)) / math.sqrt(len(y))
        return np.concatenate([rest, np.maximum(np.abs(theta[..., [0, 3]]) - 1, 0)], axis=-1)

    free, cost = minimise(residual, np.stack([_to_free(theta) for part in starts for theta in part]))
    theta = theta_of(free, branch)
    cost = np.where(np.abs(theta[:, [0, 3]]).max(axis=1) > 1 + 1e-2, math.inf, cost)
    if not np.isfinite(cost).any():
        return Solution(validity_of(LOWER), np.zeros(basis.shape[1] + 1), math.inf)
    best = theta[cost.argmin()]
    coefficients, least, _ = _projected(best, m, y, basis)
    return Solution(validity_of(best), coefficients, least)


def validity_of(theta: np.ndarray) -> Validity:
    """D of Eq. 12 from theta (6,)."""
    centres, scales = theta[0::3].tolist(), np.exp(theta).tolist()
    return Validity(centres[0], scales[1], scales[2], centres[1], scales[4], scales[5])


def decay(theta: np.ndarray, m: np.ndarray) -> np.ndarray:
    """D(m) of Eq. 12, (..., point), for theta (..., 6)."""
    found = np.empty((*theta.shape[:-1], len(m)))
    for first, rows in ((0, m >= 0), (3, m < 0)):
        centre, width, exponent = (theta[..., first + i, None] for i in range(3))
        found[..., rows] = np.exp(-np.exp(exponent) * np.log1p((m[rows] - centre) ** 2 * np.exp(-width)))
    return found


def _projected(
    theta: np.ndarray, m: np.ndarray, y: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, float, np.ndarray]:
    """Best coefficients for theta, 1 - R^2, and its gradient (6,), at ascending m."""
    middle = int(m.searchsorted(0.0))
    sides = (0, slice(middle, None)), (3, slice(None, middle))
    each, design = np.empty_like(m), np.ones((len(m), basis.shape[1] + 1))
    terms = []
    for first, rows in sides:
        centre, width, exponent = theta[first : first + 3].tolist()
        width, exponent = math.exp(width), math.exp(exponent)
        distance = m[rows] - centre
        square = distance * distance
        logs = np.log1p(square / width)
        each[rows] = np.exp(-exponent * logs)
        terms.append((exponent, distance, square, width + square, logs))
    np.multiply(basis, each[:, None], out=design[:, :-1])
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    residual = y - design @ coefficients
    # the cost falls by this as D rises by a share of itself
    weight = 2 / len(y) * residual * (basis @ coefficients[:-1]) * each
    gradient = np.empty(6)
    for (first, rows), (exponent, distance, square, total, logs) in zip(sides, terms, strict=True):
        share = weight[rows] * exponent / total
        gradient[first] = -2 * (share @ distance)
        gradient[first + 1] = -(share @ square)
        gradient[first + 2] = exponent * (weight[rows] @ logs)
    return coefficients, float(residual @ residual) / len(y), gradient


def _roots(theta: np.ndarray) -> tuple[float, float]:
    """h on the two sides."""
    sides = (theta[:3].tolist(), theta[3:].tolist())
    right, left = (
        math.copysign(math.sqrt(math.exp(p) * math.log1p(c * c * math.exp(-w))), c) for c, w, p in sides
    )
    return right, left


def _root(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """h on the two sides (2,), and its derivatives with respect to that side's three parameters (2, 3)."""
    h, derivatives = [], []
    # one number at a time: SLSQP asks for this as often as for the curve
    for centre, width, exponent in (theta[:3].tolist(), theta[3:].tolist()):
        width, exponent = math.exp(width), math.exp(exponent)
        value = math.copysign(math.sqrt(exponent * math.log1p(centre**2 / width)), centre)
        h.append(value)
        if value == 0:
            derivatives.append([math.sqrt(exponent / width), 0.0, 0.0])
        else:
            by_centre = exponent * centre / (value * (width + centre**2))
            derivatives.append([by_centre, -by_centre * centre / 2, value / 2])
    return np.array(h), np.array(derivatives)


def _slsqp(m: np.ndarray, y: np.ndarray, basis: np.ndarray, branch: float, start: np.ndarray) -> np.ndarray:
    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        _, cost, gradient = _projected(theta, m, y, basis)
        return cost, gradient

    def gap(theta: np.ndarray) -> float:
        right, left = _roots(theta)
        return right - branch * left

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


@cache
def candidates(branch: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeded points that are continuous at 0: free (candidate, 5) and theta (candidate, 6)."""
    random = np.random.default_rng(seed).uniform(size=(CANDIDATES, 5))
    free = np.column_stack([2 * random[:, 0] - 1, 0.8 * math.pi * (random[:, 1:] - 0.5)])
    theta = theta_of(free, branch)
    within = np.abs(theta[:, [0, 3]]).max(axis=1) < 1
    return free[within], theta[within]


def _starts(
    m: np.ndarray, y: np.ndarray, basis: np.ndarray, branch: float, seed: int, count: int
) -> list[np.ndarray]:
    """The best seeded candidate of each of `count` groups: [(6,), ...]."""
    _, theta = candidates(branch, seed)
    each = decay(theta, m)
    design = np.concatenate([each[:, :, None] * basis, np.ones((*each.shape, 1))], axis=2)
    moments = design.transpose(0, 2, 1) @ design + 1e-9 * np.eye(design.shape[2])
    projection = design.transpose(0, 2, 1) @ y
    explained = np.sum(projection * np.linalg.solve(moments, projection[..., None])[..., 0], axis=1)
    groups = np.array_split(np.arange(len(theta)), count)
    return [theta[group[np.argmax(explained[group])]] for group in groups]


def theta_of(free: np.ndarray, branch: np.ndarray | float) -> np.ndarray:
    """theta (..., 6), continuous at 0, from free = (k, and angles for log L+, log p+, log L-, log p-)."""
    low, high = LOWER[[1, 2, 4, 5]], UPPER[[1, 2, 4, 5]]
    scales = low + (high - low) * (np.sin(free[..., 1:]) + 1) / 2
    sides = []
    for sign, width, exponent in (
        (1.0, scales[..., 0], scales[..., 1]),
        (branch, scales[..., 2], scales[..., 3]),
    ):
        squared = np.minimum(free[..., 0] ** 2 * np.exp(-exponent), 50.0)
        centre = sign * np.sign(free[..., 0]) * np.exp(width / 2) * np.sqrt(np.expm1(squared))
        sides += [centre, width, exponent]
    return np.stack(sides, axis=-1)


def free_of(validity: Validity) -> tuple[np.ndarray, float]:
    """The inverse of `theta_of` for one decay, and which of the two continuous branches it is on."""
    v = validity
    logs = np.log([v.L_plus, v.p_plus, v.L_minus, v.p_minus])
    low, high = LOWER[[1, 2, 4, 5]], UPPER[[1, 2, 4, 5]]
    # the sine is flat at its ends: a start exactly there could never leave
    angles = np.arcsin(np.clip(2 * (logs - low) / (high - low) - 1, -0.99, 0.99))
    k = math.copysign(math.sqrt(v.p_plus * math.log1p(v.m_plus**2 / v.L_plus)), v.m_plus)
    return np.array([k, *angles]), -1.0 if v.m_plus * v.m_minus < 0 else 1.0


def _to_free(theta: np.ndarray) -> np.ndarray:
    """The inverse of `theta_of`, for a theta that is continuous at 0."""
    low, high = LOWER[[1, 2, 4, 5]], UPPER[[1, 2, 4, 5]]
    angles = np.arcsin(np.clip(2 * (theta[[1, 2, 4, 5]] - low) / (high - low) - 1, -1, 1))
    return np.concatenate([[_root(theta)[0][0]], angles])
