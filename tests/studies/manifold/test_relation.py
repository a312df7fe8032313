import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from splitkit.studies.manifold.estimators import ESTIMATORS
from splitkit.studies.manifold.relation import BASELINES, falling, rank_correlation, relation_table


def distances(same_law: bool, controls: bool = True) -> pd.DataFrame:
    """Cells whose utility is a function of the distance: one for all forms, or one for each."""
    rows = []
    for factor, (form, objective) in enumerate(
        [("vector", "sft"), ("lora", "sft"), ("local_weight", "sft"), ("vector", "random")], start=1
    ):
        for m in np.linspace(-4, 4, 17):
            # the forms leave the manifold at different speeds
            distance = 1 + factor * abs(m)
            utility = 3 - np.log(distance if same_law else 1 + abs(m) * (5 - factor) ** 2)
            rows.append(
                {"model": "a", "task": "t", "form": form, "objective": objective, "seed": 0, "m_relative": m}
                | {
                    "site": "layer",
                    "utility": utility + 10 * factor,
                    "moved": abs(m),
                    **dict.fromkeys(ESTIMATORS, distance),
                }
            )
    table = pd.DataFrame(rows)
    return table if controls else table[table["objective"] != "random"]


def test_one_law_is_one_curve() -> None:
    table = relation_table(distances(same_law=True)).set_index("estimator")
    assert list(table.index) == [*ESTIMATORS, *BASELINES]
    ours = table.loc["neighbours"]
    assert (ours["n_cells"], ours["n_points"]) == (3, 51)
    assert ours["spearman"] == pytest.approx(-1.0, abs=1e-3) and ours["r2_one_curve"] == pytest.approx(1.0)
    assert ours["r2_controls"] > 0.95
    # the strength alone explains less: the forms have different speeds
    assert table.loc["strength", "r2_one_curve"] < 0.9
    assert table.loc["strength", "r2_per_form"] == pytest.approx(1.0)


def test_a_law_for_each_form_is_not_one_curve() -> None:
    table = relation_table(distances(same_law=False, controls=False)).set_index("estimator")
    assert table.loc["subspace", "r2_one_curve"] < 0.8
    assert table.loc["subspace", "r2_per_form"] == pytest.approx(1.0)
    assert table["r2_controls"].isna().all()


def test_cells_without_utility_are_left_out() -> None:
    table = distances(same_law=True)
    table.loc[table["form"] == "lora", "utility"] = np.nan
    assert set(relation_table(table)["n_cells"]) == {2}


def test_rank_correlation_resamples_cells() -> None:
    rng = np.random.default_rng(0)
    cell = np.repeat(np.arange(12), 9)
    x = rng.random(len(cell))
    y = -x + 0.3 * rng.standard_normal(len(cell))
    rho, low, high = rank_correlation(x, y, cell)
    assert rho == pytest.approx(spearmanr(x, y).statistic)
    assert low < rho < high
    alone = rank_correlation(x, y, np.zeros(len(cell)))
    assert alone[1] == pytest.approx(alone[2]) == pytest.approx(rho)


def test_a_falling_curve_never_rises() -> None:
    x = np.array([3.0, 1.0, 2.0, 2.0])
    np.testing.assert_allclose(falling(x, np.array([0.0, 5.0, 2.0, 4.0])), [0.0, 5.0, 3.0, 3.0])
    np.testing.assert_allclose(falling(x, np.array([9.0, 5.0, 4.0, 6.0])), [6.0, 6.0, 6.0, 6.0])


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="lacks the columns \\['utility'\\]"):
        relation_table(distances(same_law=True).drop(columns="utility"))
