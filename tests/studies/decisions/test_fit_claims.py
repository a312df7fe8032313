"""C5 to C8 on made-up fits: each grade, flips, windows, controls, the paper's numbers beside."""

import pandas as pd
import pytest

from splitkit.studies.decisions.fit_claims import decide_c5, decide_c6, decide_c7, decide_c8
from tests.studies.decisions.tables import MODEL, bell, cell, row, s_curve, word

CELLS = 100


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    """CELLS cells of one setting, the last two flat; ten random directions; strengths enough for a range."""
    every = pd.concat([cell(seed=seed) for seed in range(CELLS)], ignore_index=True)
    flat = every["seed"] >= CELLS - 2
    every.loc[flat, ["preference", "utility"]] *= 0.01
    controls = [cell("vector", "random", seed) for seed in range(10)]
    vectors = [cell("vector", "sft", seed) for seed in range(10)]
    return pd.concat([every, *controls, *vectors], ignore_index=True).iloc[::5]


def fits(r2: list[float], curve: str = "preference", split: str = "train", **keys) -> pd.DataFrame:
    """A row per cell, from the first on."""
    own = {"model": MODEL, "task": "psychopathy", "form": "lora", "objective": "sft"} | keys
    return pd.DataFrame({"seed": range(len(r2)), "split": split, "curve": curve, "r2": r2}).assign(**own)


def mixed(good: float, n_good: int, bad: float, n_bad: int) -> list[float]:
    return [good] * n_good + [bad] * n_bad


@pytest.mark.parametrize(("decide", "curve"), [(decide_c5, "preference"), (decide_c6, "utility")])
@pytest.mark.parametrize(
    ("r2", "expected", "flips"),
    [
        (mixed(0.99, 70, 0.5, 28), "holds", False),
        (mixed(0.99, 37, float("nan"), 61), "in part", False),
        (mixed(0.99, 10, 0.5, 88), "does not hold", False),
        (mixed(0.99, 52, 0.5, 46), "undecided", False),
        ("at the bar", "undecided", True),
    ],
)
def test_shares_of_good_fits(curves, decide, curve: str, r2, expected: str, flips: bool) -> None:
    bar = 0.953 if curve == "preference" else 0.973
    judged = decide(fits([bar] * 98 if r2 == "at the bar" else r2, curve), curves)
    found = row(judged)
    assert found["verdict"] == expected
    assert found["flips"] == (f"good_{curve}" if flips else "")
    assert found["off_floor_ceiling"] == found["n_units"] == 98


def test_flat_curves_and_other_objectives_do_not_count(curves) -> None:
    table = pd.concat([fits([0.99] * 98 + [0.1, 0.1]), fits([0.1] * 50, objective="split")])
    with pytest.raises(ValueError, match="without a curve"):
        decide_c5(fits([0.99], objective="reps"), curves)
    found = row(decide_c5(table, curves))
    assert (found["ours"], found["off_floor_ceiling"]) == (1.0, 98)


def test_the_paper_and_both_controls_stand_beside(curves) -> None:
    table = pd.concat(
        [
            fits([0.99] * 60),
            fits([0.99] * 10, form="vector"),
            fits([0.5] * 10, form="vector", objective="random"),
        ]
    )
    random = pd.DataFrame(
        {"model": MODEL, "task": "psychopathy", "curve": "preference", "r2": [0.99, 0.5] * 25}
    )
    found = row(decide_c5(table, curves, random))
    assert (found["control"], found["excess"], found["beyond"]) == (0.0, 1.0, "more")
    assert (found["random_curves"], found["random_curves_excess"]) == (0.5, 0.5)
    assert found["random_curves_excess_low"] == pytest.approx(0.34, abs=0.03)
    # of Table 2's seven numbers 0.97, 0.99, 0.92, 0.83, 0.97, 0.93, 0.99 four are above 0.95
    assert found["paper"] == "0.57"


def test_the_usable_window_does_not_change_the_claim(curves) -> None:
    table = pd.concat([fits([0.99] * 50).assign(window="whole"), fits([0.1] * 50).assign(window="usable")])
    judged = decide_c5(table, curves)
    assert (word(judged), word(judged, "usable window")) == ("holds", "does not hold")


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (mixed(0.99, 90, 0.5, 8), "holds"),
        (mixed(0.99, 65, float("nan"), 33), "in part"),
        (mixed(0.99, 20, 0.5, 78), "does not hold"),
        (mixed(0.99, 80, 0.5, 18), "undecided"),
        ([0.945] * 98, "undecided"),
    ],
)
def test_c7_counts_the_good_fits_that_stay_good(curves, test: list[float], expected: str) -> None:
    train = [0.96 if test[0] == 0.945 else 0.99] * 98
    judged = decide_c7(pd.concat([fits(train), fits(test, split="test")]), curves)
    assert word(judged) == expected
    assert row(judged)["flips"] == ("slack" if test[0] == 0.945 else "")
    bad = decide_c7(pd.concat([fits([0.5] * 98), fits(test, split="test")]), curves)
    assert word(bad) == "undecided"
    assert row(bad)["off_floor_ceiling"] == 0


@pytest.mark.parametrize(
    ("r2", "expected"),
    [
        (mixed(0.99, 80, -2.0, 18), "holds"),
        ([0.99] * 98, "in part"),
        (mixed(0.99, 37, -2.0, 61), "in part"),
        (mixed(0.99, 37, 0.7, 61), "in part"),
        (mixed(0.99, 5, -2.0, 93), "does not hold"),
        (mixed(0.99, 25, -2.0, 73), "undecided"),
        (mixed(0.99, 80, 0.2, 18), "undecided"),
    ],
)
def test_c8_asks_for_both_limbs(curves, r2: list[float], expected: str) -> None:
    judged = decide_c8(fits(r2, split="transfer"), curves)
    assert word(judged) == expected
    assert row(judged)["task"] == "all"
    # 28 of Table 7's 42 numbers of Gemma
    assert row(judged)["paper"] == "0.67"
    if r2[-1] == 0.2:
        assert row(judged)["flips"] == "failed"


def test_c8_weighs_families_alike(curves) -> None:
    power = pd.concat(
        [cell(seed=s, task="powerseeking", preference=s_curve, utility=bell) for s in range(10)]
    )
    table = pd.concat(
        [fits([0.99] * 50, split="transfer"), fits([-1.0] * 10, split="transfer", task="powerseeking")]
    )
    assert row(decide_c8(table, pd.concat([curves, power])))["ours"] == 0.5
