"""Log-odds beside answers: joined at the right strengths, ranked within units, graded by the rules."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from splitkit.studies.frames import CELL
from splitkit.studies.text import log_odds as text

M = [0.25, 0.5, 1.0, 2.0, 4.0]


def key(
    task: str = "axbench/ocean", form: str = "vector", seed: int = 0, objective: str = "split"
) -> dict[str, object]:
    return dict(zip(CELL, ("tiny-qwen2", task, form, objective, seed), strict=True))


def made(keys: list[dict[str, object]]) -> tuple[pd.DataFrame, ...]:
    """Curves with utility -1 - m and preference 3 m, scores by strength, and the unsteered scores."""
    grid = np.array([-1.0, 0.0, 0.375, 1.5, 8.0])
    line = pd.DataFrame({"m_relative": grid, "preference": 3 * grid, "utility": -1 - grid})
    curves = pd.concat([line.assign(split="test", **one) for one in keys])
    scored = pd.DataFrame({"m_relative": M, "score": [1.0, 2, 1, 0, 0], "concept": [1.0, 2, 2, 2, 2]})
    strengths = pd.concat(
        [scored.assign(fluency=[2.0, 2, 1, 0, 0], **one) for one in keys], ignore_index=True
    )
    tasks = sorted({str(one["task"]) for one in keys})
    unsteered = pd.DataFrame(
        {"model": "tiny-qwen2", "task": tasks, "score": 0.0, "concept": 0.0, "fluency": 2.0}
    )
    return curves, strengths, unsteered


def test_log_odds_stand_at_the_strengths_that_were_asked() -> None:
    table = text.joined(*made([key()]))
    assert table["m_relative"].tolist() == [0.0, *M]
    np.testing.assert_allclose(table["preference"], [0.0, *(3 * m for m in M)])
    np.testing.assert_allclose(table["utility"], [0.0, *(-m for m in M)])
    assert table["effect"].tolist() == [0.0, 1, 2, 2, 2, 2]
    assert set(table["unit"]) == {"seed 0"}


def test_concepts_are_units_and_controls_are_left_out() -> None:
    keys = [key(), key("axbench/music"), key(objective="random")]
    table = text.joined(*made(keys))
    assert set(table["unit"]) == {"axbench/ocean", "axbench/music"}
    assert set(table["objective"]) == {"split"}
    with pytest.raises(ValueError, match="no cell has both"):
        text.joined(*made([key(objective="random")]))


def test_interpolation_is_exact_on_a_line() -> None:
    curves = made([key()])[0]
    assert (text.between_strengths(curves) < 1e-12).all(axis=None)


def test_ranks_are_scipys_and_undefined_without_variation() -> None:
    two = pd.DataFrame({"a": [3.0, 1, 2, 2], "b": [1.0, 5, 2, 2.5]})
    expected = stats.spearmanr(two["a"], two["b"]).statistic
    assert text._spearman(two) == pytest.approx(expected)
    assert math.isnan(text._spearman(two.assign(b=1.0))) and math.isnan(text._spearman(two.head(2)))


def test_the_interval_is_scipys() -> None:
    values = [0.2, 0.5, math.nan, 0.6]
    low, high = stats.ttest_1samp([0.2, 0.5, 0.6], 0).confidence_interval()
    assert text.interval(values)[1:] == pytest.approx((low, high, 3))
    assert str(text.interval([0.5])) == "0.50" and str(text.interval([])) == ""


@pytest.mark.parametrize(
    ("low", "high", "units", "expected"),
    [
        (0.65, 0.9, 3, "holds"),
        (0.65, 0.9, 2, "undecided"),
        (0.55, 0.9, 9, "undecided"),  # a bar of 0.6 would say otherwise
        (0.25, 0.35, 9, "in part"),
        (0.1, 0.3, 9, "undecided"),
        (-0.9, 0.15, 9, "does not hold"),
    ],
)
def test_grades(low: float, high: float, units: int, expected: str) -> None:
    assert text.grade(text.Interval((low + high) / 2, low, high, units)) == expected


def test_correlations_by_form_and_over_all() -> None:
    keys = [key(task, form) for task in ("axbench/ocean", "axbench/music") for form in ("vector", "lora")]
    table = text.joined(*made(keys))
    found = text.correlations(table, "utility", "fluency").loc[("tiny-qwen2", "axbench")]
    assert list(found.index) == ["lora", "vector", text.ALL]
    expected = stats.spearmanr([-m for m in M], [2, 2, 1, 0, 0]).statistic
    assert found.loc["lora", "grid"] == f"{expected:.2f} [{expected:.2f}, {expected:.2f}]"
    # utility is -m here, so that it says nothing more than m
    assert (found["more"] == "0.00 [0.00, 0.00]").all() and (found["verdict"] == "undecided").all()


def test_between_cells_leaves_out_units_at_the_ceiling() -> None:
    keys = [key(form=form, seed=seed) for form in ("vector", "lora", "local_weight") for seed in (0, 1)]
    table = text.joined(*made(keys))
    m = {"vector": 0.25, "lora": 0.5, "local_weight": 1.0}
    scores = pd.DataFrame(keys).assign(score=1.0, fluency=2.0, concept=[0.5, 2.0, 1.0, 2.0, 1.5, 2.0])
    scores["m_relative"] = scores["form"].map(m)
    found = text.between_cells(text.chosen(table, scores), "preference", "effect").iloc[0]
    assert (found["units"], found["at_the_ends"], found["rho"]) == ("1/2", 0.5, "1.00")
    assert found["verdict"] == "undecided"
