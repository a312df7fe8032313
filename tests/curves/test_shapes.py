"""Shapes: curves that have the claimed pattern, and curves that lack one part of it each."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from splitkit.curves.shapes import linear_by_centre, preference_shape, shape_table, utility_shape
from splitkit.runs.profiles import get_profile, strength_grid

M = np.array(get_profile("embedded").grid)
Curve = Callable[[np.ndarray], np.ndarray]


def s_curve(m: np.ndarray) -> np.ndarray:
    return 2 * np.tanh(m / 1.2) + 0.3


def bell(m: np.ndarray) -> np.ndarray:
    return 3 * (1 + (m - 0.1) ** 2 / 1.5) ** -1.5 - 4


def test_the_claimed_pattern_is_recognised() -> None:
    preference = preference_shape(M, s_curve(M))
    assert preference.c2 is True
    assert preference.linear_r2 > 0.99
    assert preference.slope == pytest.approx(2 / 1.2, rel=0.1)
    utility = utility_shape(M, bell(M))
    assert utility.c3 is True
    assert abs(utility.peak_m) < 0.2
    assert utility.decline_negative == utility.decline_positive == pytest.approx(-1.0)
    # a peak exactly at 0 leaves both sides their ends
    assert utility_shape(M, bell(M + 0.1)).c3 is True
    # turned round, as for a concept that is steered away from
    assert preference_shape(M, -s_curve(M)).c2 is True


@pytest.mark.parametrize(
    "curve",
    [
        pytest.param(lambda m: 2 * m, id="never settles"),
        pytest.param(np.arcsinh, id="grows like a logarithm"),
        pytest.param(lambda m: np.where(m > 0, s_curve(m), m), id="settles on one side only"),
        pytest.param(lambda m: m**2 * np.exp(-(m**2)), id="not linear near 0"),
        pytest.param(lambda m: np.zeros_like(m), id="does not move"),
    ],
)
def test_preference_without_the_pattern(curve: Curve) -> None:
    assert preference_shape(M, curve(M)).c2 is False


@pytest.mark.parametrize(
    "curve",
    [
        pytest.param(lambda m: bell(m - 2), id="peak far from 0"),
        pytest.param(lambda m: bell(m) + 6 * (np.abs(m) > 3) * (np.abs(m) - 3) / 5, id="rises again"),
        pytest.param(lambda m: -np.abs(m), id="never settles"),
        pytest.param(lambda m: -np.log1p(m**2), id="falls like a logarithm"),
        pytest.param(lambda m: -np.sqrt(np.abs(m)), id="falls like a root"),
        pytest.param(lambda m: m, id="peak at the edge"),
        pytest.param(lambda m: -bell(m), id="a valley"),
        pytest.param(lambda m: np.zeros_like(m), id="does not move"),
    ],
)
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_utility_without_the_pattern(curve: Curve) -> None:
    assert utility_shape(M, curve(M)).c3 is False


def test_too_few_strengths_are_undecided() -> None:
    few = np.array(strength_grid(8.0, 5))
    assert preference_shape(few, s_curve(few)).c2 is None
    assert utility_shape(few, bell(few)).c3 is None
    assert utility_shape(M, np.full_like(M, np.nan)).c3 is None


def test_order_and_undefined_strengths_do_not_matter() -> None:
    y = bell(M)
    y[3] = np.nan
    shuffled = np.random.default_rng(0).permutation(len(M))
    assert utility_shape(M[shuffled], y[shuffled]) == utility_shape(np.delete(M, 3), np.delete(y, 3))
    with pytest.raises(ValueError, match="equally long"):
        utility_shape(M, y[:-1])


def test_shape_table_has_a_row_per_cell() -> None:
    cells = [("tiny-qwen2", "psychopathy", form, "sft", 0) for form in ("lora", "vector")]
    columns = ["model", "task", "form", "objective", "seed"]
    parts = [
        pd.DataFrame(
            {"m_relative": M, "preference": s_curve(M), "utility": bell(M), "split": split}
            | {"preference_sem": 0.1, "utility_sem": 0.1}
        ).assign(**dict(zip(columns, cell, strict=True)))
        for cell in cells
        for split in ("train", "test")
    ]
    table = shape_table(pd.concat(parts, ignore_index=True))
    assert table[columns].apply(tuple, axis=1).tolist() == cells
    assert table["c2"].tolist() == table["c3"].tolist() == [True, True]
    # what moves by less than its noise has no shape
    noisy = shape_table(pd.concat(parts).assign(utility_sem=2.0))
    assert noisy["c3"].isna().all()
    assert noisy["c2"].all()
    assert noisy["utility_range"].tolist() == pytest.approx([float(np.ptp(bell(M)))] * 2)
    with pytest.raises(KeyError, match="test.*train"):
        shape_table(pd.concat(parts), split="validation")


def test_what_is_straight_depends_on_where_small_ends() -> None:
    grid = np.array(strength_grid(64.0, 41, 6.0))
    curve = pd.DataFrame(
        {"m_relative": grid, "preference": np.tanh(grid / 0.4), "preference_sem": 1e-3, "split": "train"}
    ).assign(model="a", task="t", form="vector", objective="sft", seed=0)
    table = linear_by_centre(curve, (0.05, 0.25, 1.5)).set_index("centre")
    assert np.isnan(table.loc[0.05, "straight"])
    assert table.loc[0.25, ["straight", "c2"]].tolist() == [1.0, 1.0]
    assert table.loc[1.5, ["straight", "c2"]].tolist() == [0.0, 0.0]
    empty = linear_by_centre(curve.assign(preference_sem=9.0), (0.25,))
    assert empty.empty and list(empty.columns) == ["model", "form", "centre", "straight", "c2"]
