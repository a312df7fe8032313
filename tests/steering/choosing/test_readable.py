"""A strength that reads well: what makes one readable, and which of those is chosen."""

import math

import numpy as np
import pandas as pd
import pytest

from splitkit.steering.choosing import readable
from splitkit.steering.choosing.readable import RELATIVE, readable_strength, repeated
from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import matching_strength, sweep
from tests.conftest import random_intervention, tiny_model, tiny_tokenizer

PAIRS = [Pair("Go on?", "I will take it.", "No need."), Pair("And you?", "Mine.", "Yours, I think.")]


@pytest.fixture(scope="module")
def steered():
    model = tiny_model("qwen2", layers=2)
    return model, tiny_tokenizer(), random_intervention(model, "vector", layer=0)


def table(**columns: list[float]) -> pd.DataFrame:
    m = [0.0, 1.0, 2.0, 3.0, -1.0]
    rows = {"m": m, "m_relative": m, "preference": [0.0, 1.0, 2.0, 3.0, 5.0], "utility": [0.0] * 5}
    rows |= {"repeated_3": [0.05] * 5, "own_loss": [1.0] * 5, "empty": [0.0] * 5}
    return pd.DataFrame(rows | columns)


def test_repeated_words_are_counted() -> None:
    assert repeated("the sea the sea the sea the sea") == pytest.approx(1 - 2 / 6)
    assert repeated("The shore is wide and calm.") == 0 and math.isnan(repeated("Two words"))


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({}, [True] * 5),
        ({"repeated_3": [0.05, 0.05, 0.4, 0.05, 0.05]}, [True, True, False, False, True]),
        ({"repeated_3": [math.nan, math.nan, 0.2, 0.0, 0.0]}, [True, True, False, False, True]),
        ({"own_loss": [1.0, 2.5, 1.0, 1.0, 1.0]}, [True, False, False, False, True]),
        ({"own_loss": [1.0, 1.0, 1.0, math.nan, 2.1]}, [True, True, True, False, False]),
        ({"empty": [0.0, 0.0, 0.0, 0.1, 0.0]}, [True, True, True, False, True]),
    ],
)
def test_a_strength_is_readable_where_all_smaller_ones_are(broken: dict, expected: list[bool]) -> None:
    assert readable._readable(table(**broken), 0.1, 1.0).tolist() == expected


def test_the_most_preference_among_readable_strengths_is_chosen_and_the_reason_told() -> None:
    def found(kept: list[bool], **columns: list) -> readable.ReadableStrength:
        return readable._chosen(table(**columns).assign(readable=kept), pd.DataFrame(), 0.1, 1.0)

    best = found([True, True, True, False, False])
    assert best.m == 2.0 and "by 2.00 nats" in best.reason and "edge" not in best.reason
    none = found([True, False, False, False, False])
    assert none.m == 0.0 and "At none of the strengths" in none.reason
    flat = found([True] * 5, preference=[9.0, 1.0, 2.0, 3.0, 5.0])
    assert flat.m == 0.0 and "None of the 4 readable strengths" in flat.reason


def test_the_evidence_is_of_the_model_itself(steered) -> None:
    model, tokenizer, iv = steered
    found = readable_strength(model, tokenizer, iv, PAIRS, questions=2, max_new_tokens=8, reduction="sum")
    unit = matching_strength(model, tokenizer, iv, PAIRS)
    assert found.table["m"].tolist() == pytest.approx([0.0, *(unit * r for r in RELATIVE)])
    swept = sweep(model, tokenizer, iv, PAIRS, found.table["m"].tolist(), reduction="sum")
    np.testing.assert_allclose(
        found.table["preference"], swept.groupby("m")["preference"].mean().loc[found.table["m"]], rtol=1e-6
    )
    assert len(found.texts) == 2 * len(found.table) and found.reason in repr(found)
    own = [Pair(PAIRS[0].question, found.texts["text"].iloc[0].strip(), "No need.")]
    alone = sweep(model, tokenizer, iv, own, [0.0])["loss_positive"].iloc[0]
    both = readable._texts(model, tokenizer, iv, PAIRS, [0.0], 8, False)["own_loss"]
    assert both.iloc[0] == pytest.approx(alone, rel=1e-5)
    assert found.table["own_loss"].iloc[0] == pytest.approx(both.mean())


def test_bad_input_is_told(steered) -> None:
    for wanted, pairs, more in (
        ("the list is empty", [], {}),
        ("name a strength", PAIRS, {"m": [0.0]}),
        ("0 or more, not 0.1 and -1", PAIRS, {"more_nats": -1}),
        ("questions", PAIRS, {"questions": 0}),
        ("max_new_tokens", PAIRS, {"max_new_tokens": 0}),
        ("unknown reduction 'total'", PAIRS, {"reduction": "total"}),
    ):
        with pytest.raises(ValueError, match=wanted):
            readable_strength(*steered, pairs, **more)
    model, tokenizer, iv = steered
    with pytest.raises(ValueError, match="a sum has no matching strength"):
        readable_strength(model, tokenizer, iv + iv, PAIRS)
    with pytest.raises(TypeError, match="an Intervention is wanted, not a str"):
        readable_strength(model, tokenizer, "sea", PAIRS)


def test_a_sum_is_measured_at_named_strengths(steered) -> None:
    model, tokenizer, iv = steered
    found = readable_strength(model, tokenizer, iv + iv, PAIRS, m=[0.01, 0.1], max_new_tokens=2, more_nats=99)
    twice = readable_strength(model, tokenizer, iv, PAIRS, m=[0.02, 0.2], max_new_tokens=2, more_nats=99)
    np.testing.assert_allclose(found.table["preference"], twice.table["preference"], rtol=1e-5)
    assert found.m in (0.0, 0.01, 0.1) and "(nan matching" not in found.reason


def test_an_answer_that_is_the_negative_one_is_scored_too(steered, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [PAIRS[0].negative, f" {PAIRS[1].negative} "]
    monkeypatch.setattr(readable, "answers", lambda *_, **__: said)
    table = readable._texts(*steered, PAIRS, [0.0], 8, False)
    own = sweep(*steered, PAIRS, [0.0])["loss_negative"]
    np.testing.assert_allclose(table["own_loss"], own, rtol=1e-5)
