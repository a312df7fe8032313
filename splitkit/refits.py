"""Refits: many resamples of one curve fitted at once, each from the curve's own fit."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from splitkit.decay import COEFFICIENTS, Fit
from splitkit.solvers import LOWER, NAMES, UPPER
from splitkit.validity import Validity

_STEPS = 60
_PATIENCE = 1e-8
"""A draw is done when a step lowers its 1 - R^2 by less than this share of it."""
_DIFFERENCE = 1e-6
_LOW, _HIGH = LOWER[[1, 2, 4, 5]], UPPER[[1, 2, 4, 5]]


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
        value = {name: values[:, None] for name, values in self.parameters.items()}
        right = (1 + (m - value["m_plus"]) ** 2 / value["L_plus"]) ** -value["p_plus"]
        left = (1 + (m - value["m_minus"]) ** 2 / value["L_minus"]) ** -value["p_minus"]
        decay = np.where(m >= 0, right, left)
        if self.kind == "preference":
            return (value["alpha"] * m + value["beta"]) * decay + value["b"]
        return value["beta_u"] * decay + value["b_u"]


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
        theta, coefficients, cost = _solve(
            m / unit, (y[usable] - centre) / scale, fit.kind, fit.validity.scaled(1 / unit)
        )
        coefficients = coefficients * scale
        coefficients[:, -1] += centre[:, 0]
        if fit.kind == "preference":
            coefficients[:, 0] /= unit
        decay = np.where(np.arange(6) % 3 == 0, theta, np.exp(theta)) * np.tile([unit, unit**2, 1], 2)
        values[usable] = np.concatenate([coefficients, decay], axis=1)
        r2[usable] = 1 - cost
    return Refits(fit.kind, dict(zip((*names, *NAMES), values.T, strict=True)), r2)


def _solve(
    x: np.ndarray, z: np.ndarray, kind: str, start: Validity
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """theta (draw, 6) as in `solvers`, coefficients (draw, basis + 1) and 1 - R^2 (draw,) of rows of z."""
    basis = np.stack([x, np.ones_like(x)], axis=1) if kind == "preference" else np.ones((len(x), 1))
    first, branch = _free(start)
    free = np.tile(first, (len(z), 1))
    residual, coefficients = _residual(free, branch, x, z, basis)
    cost = (residual**2).sum(axis=1)
    damping = np.full(len(z), 1e-3)
    active = np.ones(len(z), dtype=bool)
    for _ in range(_STEPS):
        rows = np.flatnonzero(active)
        if not len(rows):
            break
        here = residual[rows]
        jacobian = np.empty((*here.shape, 5))
        for i in range(5):
            moved = free[rows]
            moved[:, i] += _DIFFERENCE
            jacobian[:, :, i] = (_residual(moved, branch, x, z[rows], basis)[0] - here) / _DIFFERENCE
        normal = jacobian.transpose(0, 2, 1) @ jacobian
        diagonal = np.einsum("dii->di", normal)
        damped = normal + (damping[rows, None] * diagonal + 1e-12)[:, :, None] * np.eye(5)
        step = -np.linalg.solve(damped, jacobian.transpose(0, 2, 1) @ here[:, :, None])[:, :, 0]
        candidate = free[rows] + np.clip(step, -1, 1)
        found, solved = _residual(candidate, branch, x, z[rows], basis)
        after = (found**2).sum(axis=1)
        better = after < cost[rows]
        gained = np.where(better, cost[rows] - after, np.inf)
        kept = rows[better]
        free[kept], residual[kept], coefficients[kept] = candidate[better], found[better], solved[better]
        done = (gained <= _PATIENCE * cost[rows]) | (~better & (damping[rows] > 1e6))
        cost[kept] = after[better]
        damping[rows] = np.where(better, damping[rows] / 5, damping[rows] * 4).clip(1e-9, 1e9)
        active[rows[done]] = False
    return _theta(free, branch), coefficients, cost


def _residual(
    free: np.ndarray, branch: float, x: np.ndarray, z: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What no coefficients can explain, scaled so that its squares sum to 1 - R^2, and the best coefficients.

    Two more residuals keep the centres within the grid, as in `solvers`.
    """
    theta = _theta(free, branch)
    side = np.where(x >= 0, 0, 3)
    centre, width, exponent = (theta[:, side + i] for i in range(3))
    decay = np.exp(-np.exp(exponent) * np.log1p((x - centre) ** 2 * np.exp(-width)))
    design = np.concatenate([basis * decay[:, :, None], np.ones((*decay.shape, 1))], axis=2)
    transposed = design.transpose(0, 2, 1)
    # a ridge far below rounding of the data: where D is flat over the grid its column is the constant's
    normal = transposed @ design + 1e-10 * np.eye(design.shape[2])
    coefficients = np.linalg.solve(normal, transposed @ z[:, :, None])[:, :, 0]
    residual = (z - (design @ coefficients[:, :, None])[:, :, 0]) / math.sqrt(len(x))
    excess = np.maximum(np.abs(theta[:, [0, 3]]) - 1, 0)
    return np.concatenate([residual, excess], axis=1), coefficients


def _theta(free: np.ndarray, branch: float) -> np.ndarray:
    """theta (draw, 6), continuous at 0, from k with D(0) = e^-k^2 and angles of L+, p+, L-, p-: (draw, 5)."""
    width_exponent = _LOW + (_HIGH - _LOW) * (np.sin(free[:, 1:]) + 1) / 2
    sides = []
    for sign, width, exponent in zip(
        (1.0, branch), width_exponent[:, 0::2].T, width_exponent[:, 1::2].T, strict=True
    ):
        squared = np.minimum(free[:, 0] ** 2 * np.exp(-exponent), 50.0)
        centre = sign * np.sign(free[:, 0]) * np.exp(width / 2) * np.sqrt(np.expm1(squared))
        sides += [centre, width, exponent]
    return np.stack(sides, axis=1)


def _free(validity: Validity) -> tuple[np.ndarray, float]:
    """The inverse of `_theta` for one decay, and which of the two continuous branches it is on."""
    v = validity
    logs = np.log([v.L_plus, v.p_plus, v.L_minus, v.p_minus])
    # the sine is flat at its ends: a start exactly there could never leave
    angles = np.arcsin(np.clip(2 * (logs - _LOW) / (_HIGH - _LOW) - 1, -0.99, 0.99))
    k = math.copysign(math.sqrt(v.p_plus * math.log1p(v.m_plus**2 / v.L_plus)), v.m_plus)
    return np.array([k, *angles]), -1.0 if v.m_plus * v.m_minus < 0 else 1.0
