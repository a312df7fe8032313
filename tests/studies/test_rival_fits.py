"""Rivals: each recovers a curve of its own kind, with the freedom it says it has."""

from collections.abc import Callable

import numpy as np
import pytest

from splitkit.curves.decay import preference_curve
from splitkit.curves.validity import Validity
from splitkit.studies.rival_curves import CANDIDATES, DEGREES, fit_rivals, parameters

M = 8 * np.sinh(np.linspace(-3, 3, 33)) / np.sinh(3)
PLACE = np.linspace(-1, 1, 33)
STEP = np.tanh((M - 1) / 2) + 0.5 * np.tanh((M + 2) / 0.8) + 0.2
BELL = np.where(M >= 0, np.exp(-((M / 2 - 0.3) ** 2)), np.exp(-((M / 3 + 0.3) ** 2)))


def fit_rival(
    rival: str, curve: str, m: np.ndarray, y: np.ndarray, grid: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """`fit_rivals` of one curve."""
    predict = fit_rivals(rival, curve, m, y[None], grid)
    return lambda at: predict(at)[0]


@pytest.mark.parametrize(
    ("rival", "y"),
    [
        ("decay", preference_curve(M, 1.0, 0.2, 0.1, Validity(1.2, 6.0, 1.3, -1.2, 6.0, 1.3))),
        ("cubic", PLACE**3 - 0.2 * PLACE**2 + PLACE),
        ("polynomial", PLACE**7 - PLACE**2),
        ("logistic", STEP),
        ("gaussian", (M + 0.2) * BELL + 0.1),
    ],
)
def test_each_rival_recovers_its_own_kind(rival: str, y: np.ndarray) -> None:
    every_other = np.arange(33) % 2 == 0
    predict = fit_rival(rival, "preference", M[every_other], y[every_other], M)
    np.testing.assert_allclose(predict(M), y, atol=0.02 * y.std())


def test_the_gaussian_rival_has_both_branches() -> None:
    leaning = np.where(M >= 0, np.exp(-((M / 2 - 0.3) ** 2)), np.exp(-((M / 3 - 0.3) ** 2)))
    for y in (BELL, leaning):
        predict = fit_rival("gaussian", "utility", M, 3 * y - 2, M)
        np.testing.assert_allclose(predict(M), 3 * y - 2, atol=1e-3)


@pytest.mark.parametrize("centre", [-1.1, 0.0, 0.4])
def test_the_log_rival_meets_at_its_centre(centre: float) -> None:
    away = M - centre
    side, width = np.where(away >= 0, 1.5, 0.6), np.where(away >= 0, 2.0, 0.5)
    laws = {
        "preference": 0.3 + np.sign(away) * side * np.log(1 + np.abs(away) / width),
        "utility": 0.3 - side * np.log(1 + away**2 / width),
    }
    for curve, y in laws.items():
        every_other = np.arange(33) % 2 == 0
        predict = fit_rival("log", curve, M[every_other], y[every_other], M)
        np.testing.assert_allclose(predict(M), y, atol=1e-3)
        at = np.array([centre - 1e-9, centre + 1e-9])
        np.testing.assert_allclose(predict(at), 0.3, atol=1e-3)
        # it never settles: far outside the grid it still moves
        assert abs(predict(np.array([1e4]))[0] - predict(np.array([1e3]))[0]) > 1
        assert parameters("log", curve) == 6


def test_free_parameters_run_from_four_to_eight() -> None:
    counts = [parameters(rival, curve) for rival in CANDIDATES for curve in DEGREES]
    assert (min(counts), max(counts)) == (4, 8)


def test_the_smoother_has_the_freedom_of_the_decay() -> None:
    # it is linear in y: the trace of its matrix is the sum of what each point says of itself
    itself = [fit_rival("kernel", "utility", M, unit, M)(M)[i] for i, unit in enumerate(np.eye(33))]
    assert sum(itself) == pytest.approx(parameters("kernel", "utility")) == pytest.approx(7)
    assert parameters("kernel", "preference") == 8


def test_unknown_rivals_and_too_few_strengths_are_refused() -> None:
    with pytest.raises(KeyError, match="gaussian"):
        parameters("spline", "preference")
    with pytest.raises(ValueError, match="8 strengths do not determine 8"):
        fit_rival("polynomial", "preference", M[:8], M[:8], M)
