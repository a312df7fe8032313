"""The contest: the curve that made the points wins it, on the strengths that were left out too."""

import numpy as np
import pandas as pd
import pytest

from splitkit.curves.decay import preference_curve, utility_curve
from splitkit.curves.validity import Validity
from splitkit.studies.rival_curves import (
    CANDIDATES,
    CRITERIA,
    conclusion,
    rival_table,
    score_curves,
    standing,
)

M = 8 * np.sinh(np.linspace(-3, 3, 33)) / np.sinh(3)
CURVE = Validity(1.2, 6.0, 1.3, -1.2, 6.0, 1.3)


def curves(m: np.ndarray) -> pd.DataFrame:
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, len(m)))
    keys = {"model": "a", "task": "b", "form": "vector", "objective": "sft", "seed": 0, "split": "train"}
    return pd.DataFrame(
        {
            "m_relative": m,
            "preference": preference_curve(m, 1.0, 0.2, 0.1, CURVE) + noise[0],
            "utility": utility_curve(m, 3.0, -2.0, CURVE) + noise[1],
        }
    ).assign(**keys)


def test_the_true_form_wins() -> None:
    table = rival_table(curves(M), jobs=1)
    assert len(table) == 2 * len(CANDIDATES)
    found = standing(table).set_index(["curve", "rival"])
    for curve in ("preference", "utility"):
        assert found.loc[(curve, "decay"), [f"{name}_best" for name in CRITERIA]].tolist() == [1.0] * 4
        assert found.loc[(curve, "decay"), "bic"] == 0.0
    said = conclusion(standing(table))
    assert len(said) == 6 and said[-1] == "On these curves Eq. 17 is special."
    assert "best form in 100% of the curves; it has the lowest" in said[0]
    reversed_ = standing(table.assign(outer=-table["outer"]))
    assert conclusion(reversed_)[-1] == "On these curves Eq. 17 is special on one of the tests only."


def test_errors_are_of_what_was_left_out() -> None:
    place = np.linspace(-1, 1, 33)
    cubic = place**3 - 0.2 * place**2 + place
    rows = score_curves("preference", M[::-1], cubic[None, ::-1]).set_index("rival").to_dict("index")
    assert rows["cubic"]["outer"] < 1e-6 and rows["cubic"]["interleaved"] < 1e-6
    assert rows["kernel"]["outer"] > 0.1
    # a likelihood ratio by hand: n log(RSS / n) + 2 k, relative to the lowest
    kernel, gaussian = rows["kernel"], rows["gaussian"]
    ratio = 33 * np.log((1 - kernel["r2"]) / (1 - gaussian["r2"]))
    assert kernel["aic"] - gaussian["aic"] == pytest.approx(ratio + 2 * (8 - 6))


def test_too_few_strengths_and_undefined_curves() -> None:
    coarse = 8 * np.sinh(np.linspace(-3, 3, 13)) / np.sinh(3)
    table = rival_table(curves(coarse).assign(utility=np.nan), jobs=1).set_index("rival")
    assert set(table["curve"]) == {"preference"}
    assert np.isnan(table.loc["decay", "interleaved"]) and table.loc["cubic", "interleaved"] > 0
    assert np.isfinite(table.loc["decay", "outer"])
    assert "cannot be judged" in conclusion(standing(table.reset_index()))[0]
