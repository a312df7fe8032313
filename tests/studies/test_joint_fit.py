"""One D for two curves: found where it is there, missed where it is not."""

import numpy as np
import pandas as pd
import pytest

from splitkit.curves.decay import preference_curve, r2, utility_curve
from splitkit.curves.validity import Validity
from splitkit.studies.joint_fit import fit_joint, joint_table

M = 8 * np.sinh(np.linspace(-3, 3, 25)) / np.sinh(3)
NARROW, WIDE = Validity(0.3, 0.8, 1.0, 0.3, 0.8, 1.0), Validity(1.2, 30.0, 1.3, -1.2, 30.0, 1.3)
NOISE = 0.02 * np.random.default_rng(0).standard_normal((2, len(M)))


def pair(of_utility: Validity) -> tuple[np.ndarray, np.ndarray]:
    preference = preference_curve(M, 1.0, 0.2, 0.1, NARROW)
    utility = utility_curve(M, 3.0, -2.0, of_utility)
    return preference + NOISE[0] * preference.std(), utility + NOISE[1] * utility.std()


def test_one_decay_is_found_and_is_enough() -> None:
    preference, utility = pair(NARROW)
    fit = fit_joint(M, preference, utility)
    assert min(fit.r2.values()) > 0.998
    assert fit.breakdown.positive == pytest.approx(NARROW.reach[1], rel=0.1)
    assert abs(fit.validity.gap) < 1e-8
    assert fit.aic < 0 and fit.bic < fit.aic
    at = fit.validity(M)
    columns = np.stack([M * at, at, np.ones_like(M)], axis=1)
    predicted = columns @ np.linalg.lstsq(columns, preference)[0]
    assert fit.r2["preference"] == pytest.approx(r2(preference, predicted))
    for kind, alone in fit.r2_separate.items():
        assert fit.r2[kind] <= alone + 1e-4


def test_two_decays_are_told_from_one() -> None:
    fit = fit_joint(M, *pair(WIDE))
    assert min(fit.r2_separate.values()) > 0.998 > min(fit.r2.values())
    assert fit.aic > 0 and fit.bic > 0


def test_units_and_order_do_not_matter() -> None:
    preference, utility = pair(NARROW)
    plain = fit_joint(M, preference, utility)
    scaled = fit_joint(50 * M[::-1], 7 * preference[::-1] + 1, 0.1 * utility[::-1])
    assert scaled.r2 == pytest.approx(plain.r2, abs=1e-5)
    assert scaled.breakdown.negative == pytest.approx(50 * plain.breakdown.negative, rel=0.01)


def test_a_row_for_each_cell_split_and_seed() -> None:
    preference, utility = pair(NARROW)
    one = pd.DataFrame({"m_relative": M, "preference": preference, "utility": utility})
    keys = {"model": "a", "task": "b", "form": "vector", "objective": "sft"}
    parts = [one.assign(**keys, seed=seed, split="train") for seed in (0, 1)]
    parts.append(one.assign(**keys, seed=0, split="test", utility=np.nan))
    table = joint_table(pd.concat(parts), jobs=1)
    assert table[["seed", "split"]].to_numpy().tolist() == [[0, "train"], [1, "train"], [0, "test"]]
    assert table["r2_utility_joint"].iloc[0] > 0.998 and table["breakdown_positive_joint"].iloc[0] > 0
    assert np.isnan(table["r2_preference_joint"].iloc[2]) and "Eq. 8" in table["note"].iloc[2]


def test_constant_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="utility curve is constant"):
        fit_joint(M, pair(NARROW)[0], np.ones_like(M))
