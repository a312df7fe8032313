import numpy as np
import pandas as pd
import pytest

from splitkit.studies.manifold.left_out import COLUMNS, left_out_table
from splitkit.studies.manifold.relation import falling_at
from tests.studies.manifold.test_relation import distances


def test_one_law_predicts_a_form_that_was_left_out() -> None:
    table = left_out_table(distances(same_law=True))
    assert list(table) == COLUMNS
    # controls are neither predicted nor predictors
    cells = table[["form_left_out", "unit"]].drop_duplicates().to_numpy().tolist()
    assert sorted(cells) == [["local_weight", "sft/0"], ["lora", "sft/0"], ["vector", "sft/0"]]
    assert table.groupby("estimator").size().to_dict() == {"subspace": 3, "neighbours": 3}
    # the slowest form stays within what the others show; equal lengths are of different distances
    near = table[table["form_left_out"] == "vector"]
    assert (near["r2_distance"] > 0.95).all() and (near["r2_length"] < 0).all()


def test_the_prediction_is_of_the_other_forms_alone() -> None:
    law = distances(same_law=True, controls=False)
    other = law.assign(utility=law["utility"].where(law["form"] != "lora", 3.0 - law["moved"]))
    same, moved = (left_out_table(t).set_index(["form_left_out", "estimator"]) for t in (law, other))
    change = (law["utility"] - 3 - 10 * 2)[law["form"] == "lora"]
    rest = law[law["form"] != "lora"]
    start = rest.groupby("form")["utility"].transform("max")
    guess = falling_at(rest["subspace"], rest["utility"] - start, law[law["form"] == "lora"]["subspace"])
    expected = 1 - ((change - guess) ** 2).sum() / ((change - change.mean()) ** 2).sum()
    assert same.loc[("lora", "subspace"), "r2_distance"] == pytest.approx(expected)
    assert moved.loc[("lora", "subspace"), "r2_distance"] != pytest.approx(expected)


def test_what_cannot_be_predicted_has_no_row() -> None:
    table = distances(same_law=True)
    table.loc[table["form"] == "lora", "utility"] = np.nan
    assert set(left_out_table(table)["form_left_out"]) == {"vector", "local_weight"}
    alone = left_out_table(table[table["form"] == "vector"])
    assert alone.empty and list(alone) == COLUMNS
    with pytest.raises(ValueError, match="lacks the columns \\['moved'\\]"):
        left_out_table(table.drop(columns="moved"))


def test_a_curve_is_level_beyond_its_points() -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([5.0, 3.0, 4.0])
    np.testing.assert_allclose(falling_at(x, y, np.array([0.0, 1.5, 2.5, 9.0])), [5.0, 4.25, 3.5, 3.5])
    assert isinstance(falling_at(x, y, pd.Series(x)), np.ndarray)
