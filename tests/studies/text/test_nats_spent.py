"""Where text dies, what a nat buys, and rules that are chosen on one half and tried on the other."""

import numpy as np
import pandas as pd
import pytest

from splitkit.studies.frames import CELL
from splitkit.studies.text import nats_spent

CELLS = [*CELL, "family", "unit"]


def cell(
    unit: str = "seed 0", form: str = "vector", score: tuple[float, ...] = (0.0, 1, 2, 0)
) -> pd.DataFrame:
    keys = ("tiny-qwen2", "axbench/ocean", form, "split", 0, "axbench", unit)
    line = {
        "m_relative": [0.0, 0.5, 1, 2],
        "preference": [0.0, 0.25, 0.5, 0.4],
        "utility": [0.0, -0.1, -0.4, -2.4],
    }
    made = pd.DataFrame(line | {"score": score, "fluency": [2.0, 2, 1.5, 0]})
    return made.assign(**dict(zip(CELLS, keys, strict=True)))


def test_where_fluency_is_halved_and_gone() -> None:
    found = nats_spent.dying(cell()).iloc[0]
    # from 1.5 at -0.4 to 0 at -2.4 nats: 1 after a third of the way, 0.2 after 13 fifteenths
    assert (found["halved"], found["gone"]) == ("1.07 (1.07 to 1.07)", "2.13 (2.13 to 2.13)")
    assert found["at m"] == pytest.approx(4 / 3) and found["never halved"] == 0
    alive = nats_spent.dying(cell().assign(fluency=2.0)).iloc[0]
    assert (alive["halved"], alive["never halved"], alive["never gone"]) == ("", 1, 1)


def test_prices() -> None:
    found = nats_spent.prices(cell()).iloc[0]
    assert found["gained"] == 100 and found["per nat"] == pytest.approx(200)
    assert found["next nat"] == pytest.approx(50)  # half of the way from 2 to 0
    assert np.isnan(nats_spent.prices(cell(score=(2.0, 1, 1, 1)))["per nat"].iloc[0])  # nothing was gained


def test_the_rules_take_these_rows() -> None:
    one = cell()
    assert list(nats_spent.spent(one, np.array([0.05, 0.1, 0.5, 3]))) == [1, 1, 2, 3]
    assert list(nats_spent.preferred(one, np.array([0.05, 0.1, 3]))) == [1, 1, 2]
    assert list(nats_spent.nearest(one, np.array([0.1, 1.1, 9]))) == [1, 2, 3]


def test_a_constant_is_tried_on_the_half_that_did_not_choose_it() -> None:
    table = pd.concat([cell(), cell("seed 1", score=(0.0, 2, 1, 0))])
    lost = nats_spent.losses(table)
    tried = nats_spent.on_trial(lost).set_index(["rule", "unit"])
    # each unit gets the strength that is best for the other one
    assert tried.loc[("one strength", "seed 0"), "constant"] == 0.5
    assert tried.loc[("one strength", "seed 1"), "constant"] == 1.0
    assert tried["lost"].loc["one strength"].tolist() == [50, 50]
    assert tried["lost"].loc["always 1"].tolist() == [0, 50]
    difference = nats_spent.compared(tried.reset_index(), "one strength", "always 1")["tiny-qwen2"]
    assert difference.mean == 25 and difference.units == 2
    assert nats_spent.mean_losses(tried.reset_index()).loc["tiny-qwen2", "always 1"] == 25


def test_fresh_answers_are_held_against_the_best_of_validation() -> None:
    points = cell().iloc[[2]].assign(score=1.5)
    found = nats_spent.fresh(points, cell())
    assert found["lost"].tolist() == [25] and found["rule"].tolist() == ["validation"]
