"""C9 on made-up tables: each grade, and what makes a test say nothing."""

import numpy as np
import pandas as pd
import pytest

from splitkit.studies.decisions.grading import Judged
from splitkit.studies.decisions.manifold_claims import decide_c9
from tests.studies.decisions.tables import MODEL, row, word

KEYS = {"model": MODEL, "task": "psychopathy"}
N = 12


def left_out(subspace: float, neighbours: float, n: int = N, spread: float = 0.05) -> pd.DataFrame:
    """n cells whose R² by distance is that much above R² by length."""
    length = np.linspace(0.4, 0.6, n)
    parts = [
        pd.DataFrame(
            {"estimator": name, "form_left_out": "lora", "unit": range(n), "r2_length": length}
        ).assign(r2_distance=length + gain + spread * np.linspace(-1, 1, n))
        for name, gain in (("subspace", subspace), ("neighbours", neighbours))
    ]
    return pd.concat(parts).assign(**KEYS)


def moves(gain: float, n: int = N, spread: float = 0.05) -> pd.DataFrame:
    """n units whose natural move costs so much less at every push."""
    rows = [
        {"unit": unit, "kind": kind, "push": push, "utility": -push + natural, "preference": 0.0}
        for unit in range(n)
        for push in (0.0, 0.25, 0.5, 5.0)
        for kind, natural in (
            ("natural", (gain if push < 1 else -50) + spread * (unit / n - 0.5)),
            ("random", 0.0),
        )
    ]
    return pd.DataFrame(rows).assign(**KEYS)


def angles(cosine: float, n: int = N) -> pd.DataFrame:
    cells = {"form": "lora", "objective": "sft", "seed": range(n), "direction": "utility"}
    spread = 0.01 * np.linspace(-1, 1, n)
    return pd.DataFrame(cells).assign(cosine=-cosine + spread, isotropic_95=0.17, **KEYS)


def judge(subspace: float, neighbours: float, gain: float, cosine: float, n: int = N) -> Judged:
    return decide_c9(left_out(subspace, neighbours, n), moves(gain, n), angles(cosine, n))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.3, 0.2, 0.5, 0.05), "holds"),
        ((0.3, 0.2, 0.0, 0.05), "in part"),
        ((0.0, 0.0, 0.5, 0.17), "in part"),
        ((-0.3, -0.2, 0.0, 0.17), "does not hold"),
        ((0.0, 0.0, 0.0, 0.5), "does not hold"),
        ((0.3, 0.2, -0.5, 0.05), "undecided"),
        ((0.0, 0.0, 0.0, 0.05), "undecided"),
        ((0.3, -0.3, 0.0, 0.17), "undecided"),
    ],
)
def test_three_tests(numbers: tuple[float, float, float, float], expected: str) -> None:
    judged = judge(*numbers)
    assert word(judged) == expected
    assert row(judged)["flips"] == ""
    assert len(judged.tests) == 4


def test_what_is_significant_and_small_says_nothing() -> None:
    judged = decide_c9(left_out(0.03, 0.03, spread=0.001), moves(0.07, spread=0.001), angles(0.17))
    assert list(judged.tests["reading"])[:3] == ["neither"] * 3
    assert row(judged)["flips"] == "r2_gain, nats"
    assert list(judged.tests["low"] > 0)[:3] == [True] * 3


def test_four_units_say_nothing() -> None:
    judged = judge(0.3, 0.2, 0.5, 0.05, n=4)
    assert word(judged) == "undecided"
    assert row(judged)["why"].startswith("4 units off floor and ceiling, of 5 at least")


def test_concepts_are_units() -> None:
    assert judge(0.3, 0.2, 0.5, 0.05).tests["n_units"].eq(N).all()
    tables = (left_out(0.3, 0.2), moves(0.5), angles(0.05))
    three = [pd.concat([t.assign(task=f"axbench/{c}") for c in "abc"], ignore_index=True) for t in tables]
    judged = decide_c9(*three)
    assert judged.tests["n_units"].eq(3).all()
    assert row(judged)["unit"] == "(1) concept; (2) concept; (3) concept"


def test_a_move_of_one_kind_alone_is_named() -> None:
    with pytest.raises(ValueError, match="of one kind alone"):
        decide_c9(left_out(0, 0), moves(0.5).iloc[:-3], angles(0.05))


def test_utility_that_is_undefined_is_left_out() -> None:
    table = moves(0.5)
    table.loc[(table["unit"] == 3) & (table["kind"] == "random"), "utility"] = np.nan
    judged = decide_c9(left_out(0.3, 0.2), table, angles(0.05))
    assert list(judged.tests["n_units"]) == [N, N, N - 1, N]
