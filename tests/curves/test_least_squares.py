"""Variable projection against numpy's and scipy's least squares; a fit does not depend on its neighbours."""

import numpy as np
from scipy.optimize import least_squares

from splitkit.curves.least_squares import coefficients, minimise, minimise_from, unexplained

X = np.linspace(-1, 1, 25)
RANDOM = np.random.default_rng(0)
Y = np.tanh(4 * (X - RANDOM.uniform(-0.5, 0.5, (5, 1)))) + 0.05 * RANDOM.standard_normal((5, 25))


def residual(theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A constant and one step of free place and log width."""
    step = np.tanh((X - theta[..., :1]) * np.exp(-theta[..., 1:]))
    return unexplained(Y[rows, None], step)


def test_projection_equals_least_squares() -> None:
    columns = RANDOM.standard_normal((2, 5, 25)) * np.array([1e-9, 1e6])[:, None, None]
    rest, solved = unexplained(Y, *columns), coefficients(Y, *columns)
    for i, y in enumerate(Y):
        design = np.stack([columns[0, i] * 1e9, columns[1, i] / 1e6, np.ones(25)], axis=1)
        expected = np.linalg.lstsq(design, y, rcond=None)[0]
        np.testing.assert_allclose(rest[i], y - design @ expected, atol=1e-12)
        np.testing.assert_allclose(solved[i] * [1e-9, 1e6, 1], expected, rtol=1e-9)


def test_a_column_that_others_span_explains_nothing_more() -> None:
    np.testing.assert_allclose(unexplained(Y, X, 3 * X - 2, np.zeros(25)), unexplained(Y, X), atol=1e-12)


def test_minima_are_those_of_scipy_whoever_is_fitted_beside() -> None:
    starts = np.array([[0.0, 0.0], [0.4, -1.0], [-0.4, -1.0]])
    theta, cost = minimise_from(residual, starts, 5, finished=2)
    for i in range(5):
        alone = least_squares(lambda t, i=i: residual(t[None, None], np.array([i]))[0, 0], theta[i] + 0.05)
        np.testing.assert_allclose(cost[i], 2 * alone.cost, rtol=1e-6)
        single, _ = minimise(lambda at, rows, i=i: residual(at, rows + i), starts[:1])
        np.testing.assert_array_equal(single[0], minimise(residual, np.tile(starts[0], (5, 1)))[0][i])
