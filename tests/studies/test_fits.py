"""The table of fits of mean curves whose parameters are known."""

import numpy as np
import pandas as pd
import pytest

from splitkit.curves.decay import preference_curve, utility_curve
from splitkit.curves.validity import Validity
from splitkit.studies.fits import fit_table, fitted_curve, r2_within

M = np.linspace(-4, 4, 21)
CURVE = Validity(0.5, 2.0, 1.0, 0.5, 2.0, 1.0)


def curves() -> pd.DataFrame:
    keys = {
        "model": "tiny-qwen2",
        "task": "psychopathy",
        "form": "vector",
        "objective": "split",
        "seed": 0,
    }
    part = pd.DataFrame(
        {
            "m_relative": M,
            "preference": preference_curve(M, 1.5, 0.2, 0.1, CURVE),
            "utility": utility_curve(M, 3.0, -2.0, CURVE),
        }
    ).assign(**keys)
    return pd.concat([part.assign(split="train"), part.assign(split="test", utility=np.nan)])


def test_each_cell_split_and_curve_has_a_row_that_predicts_it() -> None:
    table = fit_table(curves())
    assert table[["split", "curve"]].to_numpy().tolist() == [
        ["train", "preference"],
        ["train", "utility"],
        ["test", "preference"],
        ["test", "utility"],
    ]
    train = curves().query("split == 'train'")
    for row in table.query("split == 'train'").to_dict("records"):
        np.testing.assert_allclose(fitted_curve(row, M), train[row["curve"]], atol=1e-3)
        assert row["r2"] > 1 - 1e-6 and not row["flagged"]
        assert row["breakdown_positive"] == pytest.approx(0.5 + np.sqrt(2), rel=0.01)


def test_undefined_utility_is_a_row_without_r2() -> None:
    row = fit_table(curves()).iloc[-1]
    assert np.isnan(row["r2"]) and "Eq. 8" in row["note"]
    assert np.isnan(fitted_curve(row, M)).all()


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match="m_relative"):
        fit_table(curves().drop(columns="m_relative"))


def test_r2_within_a_window_is_of_its_strengths_alone() -> None:
    bent = (
        curves()
        .query("split == 'train'")
        .assign(preference=lambda t: t["preference"] + (t["m_relative"] > 2))
    )
    fits = fit_table(curves().query("split == 'train'"))
    inside, whole = (r2_within(fits, bent, window).set_index("curve") for window in (2, 4))
    beyond = (M > 2).astype(float)
    y = preference_curve(M, 1.5, 0.2, 0.1, CURVE)
    expected = 1 - (beyond**2).sum() / ((y + beyond - (y + beyond).mean()) ** 2).sum()
    assert inside.loc["preference", "strengths"] == 11 and whole.loc["preference", "strengths"] == 21
    assert inside.loc["preference", "r2_within"] > 0.999
    assert whole.loc["preference", "r2_within"] == pytest.approx(expected, abs=1e-3)


def test_a_fit_without_r2_has_none_within_a_window_either() -> None:
    found = r2_within(fit_table(curves()), curves(), 1.0)
    assert found["r2_within"].isna().tolist() == [False, False, False, True]
    with pytest.raises(ValueError, match=r"within 0\.0"):
        r2_within(fit_table(curves()), curves().query("m_relative != 0"), 0.0)
