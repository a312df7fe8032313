"""Fits of known curves: recovered, continuous, free of units; bad input is named."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from splitkit.curves.decay import fit_preference, fit_utility, mean_curve, preference_curve, r2, utility_curve
from splitkit.curves.validity import Validity

M = np.linspace(-4, 4, 41)
# continuous at 0: -log D(0) is 1 log(1 + 0.5^2 / 2) on both sides
PEAK = Validity(0.5, 2.0, 1.0, 0.8, 0.64 / (math.exp(math.log(1.125) / 1.7) - 1), 1.7)


def test_true_curves_are_recovered() -> None:
    preference = fit_preference(M, preference_curve(M, 1.5, 0.4, -0.7, PEAK))
    utility = fit_utility(M, utility_curve(M, 3.0, -2.0, PEAK))
    for fit in (preference, utility):
        assert fit.r2 > 1 - 1e-8 and not fit.flagged and fit.at_bound == []
        for name in ("m_plus", "L_plus", "p_plus", "m_minus"):
            assert fit.parameters[name] == pytest.approx(getattr(PEAK, name), rel=0.02)
        assert fit.breakdown().positive == pytest.approx(0.5 + math.sqrt(2), rel=1e-3)
    assert [preference.parameters[name] for name in ("alpha", "beta", "b")] == pytest.approx(
        [1.5, 0.4, -0.7], rel=0.01
    )


@pytest.mark.parametrize("centre", [0.0, 0.7])
def test_noise_leaves_the_curve(centre: float) -> None:
    noise = np.random.default_rng(1).normal(scale=0.05, size=M.size)
    validity = Validity(centre, 2.0, 1.0, centre, 2.0, 1.0)
    truth = utility_curve(M, 3.0, -2.0, validity)
    fit = fit_utility(M, truth + noise)
    assert r2(truth, fit.predict(M)) > 0.998
    assert abs(fit.agreement) < 0.002


@pytest.mark.parametrize("fit", [fit_preference, fit_utility])
def test_fits_are_continuous_at_zero(fit) -> None:  # type: ignore[no-untyped-def]
    found = fit(M, np.tanh(M - 0.3) + 0.5 * np.exp(-(M**2)))
    assert abs(found.validity.gap) < 1e-8
    assert found.predict(np.array([-1e-12])) == pytest.approx(found.predict(np.array([0.0])), abs=1e-8)


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_units_of_m_do_not_matter(unit: float) -> None:
    y = np.tanh(M) + 0.2 * np.exp(-((M - 1) ** 2))
    plain, scaled = fit_preference(M, y), fit_preference(M * unit, 100 * y + 5)
    assert scaled.r2 == pytest.approx(plain.r2, abs=1e-6)
    np.testing.assert_allclose(scaled.predict(M * unit), 100 * plain.predict(M) + 5, atol=0.05)
    assert scaled.breakdown().positive == pytest.approx(unit * plain.breakdown().positive, rel=1e-2)


def test_fits_repeat_to_the_bit() -> None:
    y = np.tanh(M) + 0.1 * np.sin(3 * M)
    assert fit_preference(M, y) == fit_preference(M, y)


def test_r2_equals_that_of_a_regression_and_can_be_negative() -> None:
    y = M + np.sin(5 * M)
    line = linregress(M, y)
    assert r2(y, line.intercept + line.slope * M) == pytest.approx(line.rvalue**2)
    assert r2(y, -y) < 0
    fit = fit_utility(M, utility_curve(M, 1.0, 0.0, PEAK))
    assert fit.score(M, -utility_curve(M, 1.0, 0.0, PEAK)) < 0


def test_constant_values_have_no_r2() -> None:
    fit = fit_preference(M, np.full_like(M, 3.0))
    assert math.isnan(fit.r2) and "constant" in fit.note and not fit.flagged
    np.testing.assert_array_equal(fit.predict(M), 3.0)
    assert "constant" in fit.breakdown().note and math.isnan(fit.breakdown().positive)


def test_bad_input_is_named() -> None:
    y = np.tanh(M)
    with pytest.raises(ValueError, match="2 of 41 values of y are NaN"):
        fit_utility(M, np.where(M > 3.7, np.nan, y))
    with pytest.raises(ValueError, match="one side"):
        fit_preference(np.abs(M), y)
    with pytest.raises(ValueError, match="7 distinct m are too few for the 9 parameters"):
        fit_preference(np.linspace(-1, 1, 7), np.arange(7.0))
    with pytest.raises(ValueError, match=r"\(41,\) and y \(40,\)"):
        fit_preference(M, y[1:])


def sweep() -> pd.DataFrame:
    rows = pd.DataFrame([{"m": m, "pair": pair} for pair in (0, 1, 2) for m in (1.0, -1.0, 0.0)])
    rows["preference"] = rows["m"] * (rows["pair"] + 1)
    rows["utility"] = -(rows["m"] ** 2) + rows["pair"]
    return rows


def test_mean_curve_by_hand() -> None:
    table = sweep()
    table.loc[(table["pair"] == 2) & (table["m"] == 0), "utility"] = np.nan
    curve = mean_curve(table)
    assert curve["m"].tolist() == [-1.0, 0.0, 1.0]
    assert curve["preference"].tolist() == [-2.0, 0.0, 2.0]
    # the third pair is left out of utility at every m, although it is undefined at one only
    assert curve["utility"].tolist() == [-0.5, 0.5, -0.5]
    assert curve["n_pairs"].tolist() == [3] * 3 and curve["n_pairs_utility"].tolist() == [2] * 3
    assert curve["share_undefined"].tolist() == pytest.approx([0, 1 / 3, 0])
    assert curve["preference_sem"].tolist() == pytest.approx([1 / math.sqrt(3), 0, 1 / math.sqrt(3)])


def test_mean_curve_without_a_defined_pair_is_nan() -> None:
    curve = mean_curve(sweep().assign(utility=np.nan))
    assert curve["utility"].isna().all() and (curve["share_undefined"] == 1).all()
    assert curve["preference"].notna().all()


def test_mean_curve_refuses_incomplete_sweeps() -> None:
    with pytest.raises(ValueError, match="1 of 9"):
        mean_curve(sweep().drop(index=4))
    with pytest.raises(ValueError, match="twice"):
        mean_curve(pd.concat([sweep(), sweep()]))
    with pytest.raises(ValueError, match="utility"):
        mean_curve(sweep().drop(columns="utility"))
