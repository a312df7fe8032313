"""Least squares for many small fits at once; coefficients that enter linearly are solved exactly."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Residual = Callable[[Float[np.ndarray, "fit trial parameter"], Int[np.ndarray, " fit"]], np.ndarray]
"""From several trials of theta per fit, and these fits' numbers, to residuals (fit, trial, residual)."""

_STEPS = 80
_FIRST_STEPS = 6
_PATIENCE = 1e-8
"""Share of its sum of squares that a step has to gain, or the fit is done."""
_DIFFERENCE = 1e-6
_PARALLEL = 1e-20
"""Share of a column's square; less than that beside the other columns is rounding."""


def unexplained(
    y: Float[np.ndarray, "*batch point"], *columns: Float[np.ndarray, "*batch point"]
) -> Float[np.ndarray, "*batch point"]:
    """y - A (A^+ y): the part of y that no columns and no constant explain, by Gram-Schmidt."""
    rest = y - y.mean(axis=-1, keepdims=True)
    axes: list[np.ndarray] = []
    for column in columns:
        axis = column - column.mean(axis=-1, keepdims=True)
        size = _dot(axis, axis)
        for other in axes:
            axis = axis - other * _dot(other, axis)
        left = _dot(axis, axis)
        # a column that others span already explains nothing more
        axis = axis / np.sqrt(np.where(left > _PARALLEL * size, left, np.inf))
        axes.append(axis)
        rest = rest - axis * _dot(axis, rest)
    return rest


def coefficients(
    y: Float[np.ndarray, "*batch point"], *columns: Float[np.ndarray, "*batch point"]
) -> Float[np.ndarray, "*batch coefficient"]:
    """A^+ y: the least-squares coefficients of the columns, and last of a constant."""
    design = np.stack(np.broadcast_arrays(*columns, np.ones_like(y)), axis=-1)
    # a column's size must not decide whether it counts
    size = np.linalg.norm(design, axis=-2, keepdims=True)
    size = np.where(size > 0, size, 1.0)
    return ((np.linalg.pinv(design / size, rcond=1e-10) @ y[..., None]) / size.swapaxes(-1, -2))[..., 0]


def minimise(
    residual: Residual, start: Float[np.ndarray, "fit parameter"], steps: int = _STEPS
) -> tuple[Float[np.ndarray, "fit parameter"], Float[np.ndarray, " fit"]]:
    """argmin over theta of |residual|^2 by Levenberg-Marquardt, for all fits side by side.

    Each fit has a damping of its own. Slopes are differences, for all parameters in one call of `residual`.

    Returns:
        theta (fit, parameter) and |residual|^2 (fit,).
    """
    theta = np.array(start, dtype=float)
    n_fits, n_parameters = theta.shape
    left = residual(theta[:, None], np.arange(n_fits))[:, 0]
    cost = (left**2).sum(axis=1)
    damping = np.full(n_fits, 1e-3)
    shifts = _DIFFERENCE * np.eye(n_parameters)
    active = np.arange(n_fits)
    for _ in range(steps):
        if not len(active):
            break
        here = left[active]
        slopes = (residual(theta[active, None] + shifts, active) - here[:, None]) / _DIFFERENCE
        normal = slopes @ slopes.transpose(0, 2, 1)
        diagonal = np.einsum("fpp->fp", normal)
        damped = normal + (damping[active, None] * diagonal + 1e-12)[:, :, None] * np.eye(n_parameters)
        step = -np.linalg.solve(damped, slopes @ here[:, :, None])[:, :, 0]
        candidate = theta[active] + np.clip(step, -1, 1)
        found = residual(candidate[:, None], active)[:, 0]
        after, before = (found**2).sum(axis=1), cost[active]
        better = after < before
        kept = active[better]
        theta[kept], left[kept], cost[kept] = candidate[better], found[better], after[better]
        done = np.where(better, before - after <= _PATIENCE * before, damping[active] > 1e6)
        damping[active] = np.where(better, damping[active] / 5, damping[active] * 4).clip(1e-9, 1e9)
        active = active[~done]
    return theta, cost


def minimise_from(
    residual: Residual, starts: Float[np.ndarray, "start parameter"], n_fits: int, finished: int
) -> tuple[Float[np.ndarray, "fit parameter"], Float[np.ndarray, " fit"]]:
    """The best result of `minimise` for each fit, from several starts.

    A few steps are made from every start; only the `finished` best ones are followed to the end.
    """
    each, n_starts = np.arange(n_fits), len(starts)
    owner = each.repeat(n_starts)
    theta, cost = minimise(
        lambda at, rows: residual(at, owner[rows]), np.tile(starts, (n_fits, 1)), steps=_FIRST_STEPS
    )
    chosen = np.argsort(cost.reshape(n_fits, n_starts), axis=1, kind="stable")[:, :finished]
    chosen = (chosen + n_starts * each[:, None]).ravel()
    theta, cost = minimise(lambda at, rows: residual(at, owner[chosen][rows]), theta[chosen])
    best = cost.reshape(n_fits, -1).argmin(axis=1) + len(chosen) // n_fits * each
    return theta[best], cost[best]


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...p,...p->...", a, b)[..., None]
