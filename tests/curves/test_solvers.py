"""Gradients against finite differences; the least squares against lmfit and against scipy's own solver."""

import math

import lmfit
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from splitkit.curves import solvers
from splitkit.curves.validity import Validity

M = np.linspace(-1, 1, 31)
THETA = np.array([0.2, math.log(0.3), math.log(1.2), -0.4, math.log(0.1), math.log(0.7)])


def target(m: np.ndarray) -> np.ndarray:
    """A smooth S with a sag: no curve of Eq. 15, so that a fit leaves something over."""
    y = np.tanh(3 * m) + 0.3 * np.exp(-(((m - 0.3) / 0.2) ** 2))
    return (y - y.mean()) / y.std()


def test_gradients_equal_finite_differences() -> None:
    basis, y = np.stack([M, np.ones_like(M)], axis=1), target(M)
    _, _, gradient = solvers._projected(THETA, M, y, basis)
    numeric = approx_fprime(THETA, lambda theta: solvers._projected(theta, M, y, basis)[1], 1e-7)
    np.testing.assert_allclose(gradient, numeric, atol=1e-5)
    _, derivative = solvers._root(THETA)
    numeric = approx_fprime(THETA, lambda theta: solvers._root(theta)[0], 1e-7)
    np.testing.assert_allclose(derivative[0], numeric[0, :3], atol=1e-5)
    np.testing.assert_allclose(derivative[1], numeric[1, 3:], atol=1e-5)


def test_root_is_minus_log_validity_at_zero() -> None:
    h, _ = solvers._root(THETA)
    left = Validity(0.0, 1.0, 1.0, -0.4, 0.1, 0.7)
    assert math.exp(-(h[1] ** 2)) == pytest.approx(float(left(-1e-15)))


@pytest.mark.parametrize("branch", solvers.BRANCHES)
def test_free_parameters_are_continuous_and_invertible(branch: float) -> None:
    free = np.array([-0.4, 0.3, -0.5, 0.1, 0.6])
    theta = solvers.theta_of(free, branch)
    assert abs(solvers.validity_of(theta).gap) < 1e-14
    np.testing.assert_allclose(solvers._to_free(theta), free, atol=1e-12)


def test_both_solvers_agree_with_lmfit() -> None:
    basis, y = np.stack([M, np.ones_like(M)], axis=1), target(M)
    constrained, parametrised = (
        solve(M, y, basis) for solve in (solvers.solve_constrained, solvers.solve_parametrised)
    )
    assert parametrised.cost == pytest.approx(constrained.cost, abs=5e-4)

    # lmfit with every parameter free and the continuity as a heavy residual, started nearby
    start = constrained.validity
    parameters = lmfit.Parameters()
    for name, value in zip(("alpha", "beta", "b"), constrained.coefficients, strict=True):
        parameters.add(name, value=1.05 * value + 0.01)
    for name in solvers.NAMES:
        low = -1 if name.startswith("m") else 1e-4 if name.startswith("L") else 0.05
        parameters.add(name, value=1.05 * getattr(start, name), min=low, max=25 if low > 0 else 1)

    def residuals(p: lmfit.Parameters) -> np.ndarray:
        validity = Validity(*[p[name].value for name in solvers.NAMES])
        curve = (p["alpha"].value * M + p["beta"].value) * validity(M) + p["b"].value
        return np.append(y - curve, 1e3 * validity.gap)

    found = lmfit.minimize(residuals, parameters)
    assert np.mean(found.residual[:-1] ** 2) == pytest.approx(constrained.cost, rel=0.02)
