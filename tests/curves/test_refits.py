"""Refits of resamples against the fits that start from nothing."""

import numpy as np
import pytest

from splitkit.curves.decay import Fit, fit_preference, fit_utility, preference_curve, utility_curve
from splitkit.curves.refits import refit
from splitkit.curves.validity import Validity

M = 8 * np.sinh(np.linspace(-3, 3, 25)) / np.sinh(3)
SYMMETRIC = Validity(1.2, 6.0, 1.3, -1.2, 6.0, 1.3)
LEANING = Validity(0.8, 5.0, 1.0, 0.8, 5.0, 1.0)


@pytest.mark.parametrize("validity", [SYMMETRIC, LEANING])
@pytest.mark.parametrize("kind", ["preference", "utility"])
def test_refits_equal_fits_from_several_starts(kind: str, validity: Validity) -> None:
    if kind == "preference":
        fitter, curve = fit_preference, preference_curve(M, 1.0, 0.2, 0.1, validity)
    else:
        fitter, curve = fit_utility, utility_curve(M, 3.0, -2.0, validity)
    random = np.random.default_rng(0)
    y = curve + 0.03 * curve.std() * random.standard_normal((3, len(M)))
    refits = refit(fitter(M, curve), M, y)
    for i, row in enumerate(y):
        cold: Fit = fitter(M, row)
        assert refits.r2[i] == pytest.approx(cold.r2, abs=1e-5)
        np.testing.assert_allclose(refits.predict(M)[i], cold.predict(M), atol=0.01)
        decay = Validity(*[float(refits.parameters[name][i]) for name in Validity.__dataclass_fields__])
        assert abs(decay.gap) < 1e-6


def test_constant_and_undefined_draws_are_undefined() -> None:
    curve = preference_curve(M, 1.0, 0.2, 0.1, SYMMETRIC)
    y = np.stack([curve, np.ones_like(M), np.where(M > 1, np.nan, curve)])
    refits = refit(fit_preference(M, curve), M, y)
    assert refits.r2[0] > 1 - 1e-6
    assert np.isnan(refits.r2[1:]).all() and np.isnan(refits.parameters["alpha"][1:]).all()


def test_bad_shapes_and_a_constant_fit_are_refused() -> None:
    curve = preference_curve(M, 1.0, 0.2, 0.1, SYMMETRIC)
    with pytest.raises(ValueError, match="draw, point"):
        refit(fit_preference(M, curve), M, curve)
    with pytest.raises(ValueError, match="constant"):
        refit(fit_preference(M, np.ones_like(M)), M, curve[None])
