"""C1 to C4 on made-up curves: each grade, flips, intervals, floors and controls."""

import math

import numpy as np
import pandas as pd
import pytest

from splitkit.studies.decisions.curve_claims import (
    cell_curves,
    decide_c1,
    decide_c2,
    decide_c3,
    decide_c4,
    sameness,
)
from tests.studies.decisions.tables import GRID, MODEL, bell, cell, cells, row, s_curve, word


def some(n_good: int, n_bad: int, **bad) -> pd.DataFrame:
    """Cells of two kinds, a seed each."""
    parts = [cell(seed=seed) for seed in range(n_good)]
    parts += [cell(seed=n_good + seed, **bad) for seed in range(n_bad)]
    return pd.concat(parts, ignore_index=True)


def bent(m: np.ndarray) -> np.ndarray:
    """|m| near 0: no line."""
    return np.tanh(np.abs(m))


def logarithm(m: np.ndarray) -> np.ndarray:
    return np.sign(m) * np.log1p(np.abs(m) / 0.5)


def dead_zone(m: np.ndarray) -> np.ndarray:
    return np.tanh(np.sign(m) * np.maximum(np.abs(m) - 0.4, 0))


def rising(m: np.ndarray) -> np.ndarray:
    return -bell(m)


def detour(m: np.ndarray) -> np.ndarray:
    """A bell that goes the other way between 0.2 and 5: rank correlation -0.89."""
    inside = (np.abs(m) > 0.2) & (np.abs(m) < 5)
    return bell(np.where(inside, 1 / np.where(inside, np.abs(m), 1), m))


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [
        ([1e-14, 1e-15, 0.0], "holds"),
        ([1e-14, 1e-3, 0.0], "in part"),
        ([1.0, 1e-3, 1.0], "does not hold"),
        ([1e-14, math.nan, 0.0], "undecided"),
        ([1e-14, 1e-15], "undecided"),
        ([1e-14, 1e-11, 0.0], "undecided"),  # flips at the low end of the range
    ],
)
def test_c1(deviations: list[float], expected: str) -> None:
    forms = ["local_weight", "lora", "vector"][: len(deviations)]
    judged = decide_c1(pd.DataFrame({"model": MODEL, "form": forms, "deviation": deviations}))
    assert word(judged) == expected
    assert (row(judged)["flips"] == "exact") == (deviations[1] == 1e-11)


@pytest.mark.parametrize("decide,bad", [(decide_c2, {"preference": bent}), (decide_c3, {"utility": rising})])
@pytest.mark.parametrize(
    ("n_good", "n_bad", "expected"),
    [
        (30, 0, "holds"),
        (65, 35, "in part"),
        (2, 28, "does not hold"),
        (24, 6, "undecided"),
        (2, 0, "undecided"),
    ],
)
def test_shares_of_shapes(decide, bad, n_good: int, n_bad: int, expected: str) -> None:
    judged = decide(some(n_good, n_bad, **bad))
    found = row(judged)
    assert found["verdict"] == expected
    assert found["ours"] == n_good / (n_good + n_bad)
    assert found["low"] < found["ours"] <= found["high"]
    assert found["n_units"] == found["off_floor_ceiling"] == n_good + n_bad
    reason = {24: "the interval reaches holds, in part", 2: "2 units off floor and ceiling, of 3 at least"}
    assert found["why"].startswith(reason[n_good]) if expected == "undecided" else not found["why"]


@pytest.mark.parametrize("preference", [bent, dead_zone, logarithm, lambda m: m])
def test_what_is_no_s_fails_c2(preference) -> None:
    assert row(decide_c2(some(0, 10, preference=preference)))["ours"] == 0


@pytest.mark.parametrize(
    "utility",
    [rising, lambda m: bell(m - 1), lambda m: -np.log1p(np.abs(m)), lambda m: bell(np.maximum(m, 0))],
)
def test_what_is_no_bell_fails_c3(utility) -> None:
    assert row(decide_c3(some(0, 10, utility=utility)))["ours"] == 0


@pytest.mark.parametrize(
    ("decide", "curve", "constant"),
    [
        # changes by 0.066 in its last doubling: within 0.10, not within 0.05
        (decide_c2, {"preference": lambda m: np.sign(m) * (1 - 1 / (1 + np.abs(m)) ** 0.45)}, "settled"),
        # straight to 0.2 and bent at 0.3: the deviation passes 20 % of the range, not 10 %
        (decide_c2, {"preference": lambda m: np.clip(m, -0.13, 0.13)}, "straight"),
        (decide_c3, {"utility": lambda m: bell(m - 0.2)}, "small"),
        (decide_c3, {"utility": detour}, "falls"),
        (decide_c2, {"sem": 2 / 4}, "noise"),
    ],
)
def test_a_grade_that_flips_within_a_range_is_undecided(decide, curve, constant: str) -> None:
    judged = decide(some(0, 30, **curve))
    found = row(judged)
    if constant == "noise":
        # at the high end nothing is left to judge, which is no flip
        assert found["flips"] == ""
        grades = judged.grades[judged.grades["constant"] == constant]
        assert list(grades["verdict"])[-1] == "undecided"
        return
    assert found["verdict"] == "undecided"
    assert constant in found["flips"].split(", ")
    grades = judged.grades[judged.grades["constant"] == constant]
    assert len(grades) == 3
    assert len(set(grades["verdict"])) > 1


def test_flat_cells_and_those_with_few_small_strengths_are_left_out() -> None:
    flat = cell(seed=50, preference=lambda m: 0.01 * s_curve(m), utility=lambda m: 0.01 * bell(m))
    table = pd.concat([some(10, 0), flat], ignore_index=True)
    assert row(decide_c2(table))["off_floor_ceiling"] == row(decide_c3(table))["off_floor_ceiling"] == 10
    assert row(decide_c2(some(10, 0).query("push == 0 or push > 0.24")))["off_floor_ceiling"] == 0
    no_utility = cell(seed=50, utility=lambda m: np.full_like(m, np.nan))
    assert row(decide_c3(pd.concat([some(10, 0), no_utility])))["off_floor_ceiling"] == 10


def test_concepts_are_the_units_of_their_family() -> None:
    table = pd.concat(
        [
            cell(seed=s, task=f"axbench/{t}", preference=s_curve if t < 6 else bent)
            for t in range(10)
            for s in range(4)
        ]
    )
    found = row(decide_c2(table))
    assert (found["unit"], found["n_units"], found["off_floor_ceiling"]) == ("concept", 10, 40)
    assert found["low"] < 0.35  # as 6 of 10, not as 24 of 40


def test_directions_stand_beside_and_do_not_grade() -> None:
    controls = [cell("vector", "random", seed, preference=bent) for seed in range(10)]
    vectors = [cell("vector", "sft", seed) for seed in range(10)]
    found = row(decide_c2(pd.concat([some(20, 0), *controls, *vectors])))
    assert (found["verdict"], found["control"], found["excess"]) == ("holds", 0.0, 1.0)
    assert found["excess_low"] > 0.5
    assert found["beyond"] == "more"
    alike = row(decide_c3(pd.concat([some(20, 0), *controls, *vectors])))
    assert (alike["control"], alike["excess"], alike["beyond"]) == (1.0, 0.0, "cannot be told")
    assert row(decide_c2(some(20, 0)))["beyond"] == ""


@pytest.mark.parametrize(
    ("preference", "expected"),
    [(s_curve, "holds"), (lambda m: s_curve(m) + 1.5 * bent(m), "in part"), (bent, "does not hold")],
)
def test_c4_compares_forms_and_objectives(preference, expected: str) -> None:
    table = cells()
    lora = (table["form"] == "lora").to_numpy()
    table.loc[lora, "preference"] = np.tile(preference(GRID), lora.sum() // len(GRID))
    judged = decide_c4(table)
    assert word(judged) == expected
    assert row(judged)["unit"] == "training seed"


def test_c4_needs_three_units_and_both_comparisons() -> None:
    assert word(decide_c4(cells(n_seeds=2))) == "undecided"
    one_form = decide_c4(cells().query("form == 'vector'"))
    assert math.isnan(row(one_form)["ours"])


def test_c4_turns_directions_before_it_compares() -> None:
    turned = [cell("vector", "natural", seed, preference=lambda m: -s_curve(m)) for seed in range(3)]
    found = row(decide_c4(pd.concat([cells(), *turned], ignore_index=True)))
    assert (found["control"], found["excess"]) == pytest.approx((1.0, 0.0))


def test_sameness_forgives_scale_and_offset_and_asks_for_strengths() -> None:
    one, other = cell_curves(pd.concat([cell(), cell(seed=1, preference=lambda m: 3 * s_curve(m) + 2)]))[
        "preference"
    ]
    assert sameness(one, other, 1.0) == pytest.approx(1.0)
    assert math.isnan(sameness(one, other, 0.01))


def test_a_missing_column_and_a_missing_split_are_named() -> None:
    with pytest.raises(ValueError, match="push"):
        decide_c2(cell().drop(columns="push"))
    with pytest.raises(KeyError, match="no curves of split 'train'; there are"):
        decide_c2(cell().assign(split="test"))
