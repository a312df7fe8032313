"""Yes or no by likelihood: against plain forward passes, beside what the model writes."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.runs.world_answers import measure_strengths
from splitkit.runs.yes_no import WORDS, side_by_side, yes_no_accuracy
from splitkit.steering.interventions import Intervention
from splitkit.steering.models import load_model
from splitkit.steering.pairs import Pair
from splitkit.steering.tokenization import prompt_ids
from splitkit.tasks import load_pairs
from tests.conftest import random_intervention

PAIRS = [
    Pair("Do you like the sea?", "Yes. The sea is calm.", "No."),
    Pair("Who?", "No, never.", "Yes, a farmer who grows apples."),
    Pair("And now?", "yes", "no"),
]


@pytest.mark.parametrize("name", ["tiny-gemma2", "tiny-qwen2"])
def test_likelihoods_are_those_of_a_plain_forward_pass(name: str) -> None:
    model, tokenizer = load_model(name)
    pairs, grid = load_pairs("psychopathy", "test")[:4], [0.0, 2.0, -100.0]
    steer = random_intervention(model, "vector", layer=3)
    table = yes_no_accuracy(model, tokenizer, steer, pairs, grid)
    assert table["m"].tolist() == [m for m in grid for _ in pairs]
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in WORDS)
    for row in table.itertuples():
        pair = pairs[row.pair]
        with steer.applied(model, row.m), torch.no_grad():
            logits = model(torch.tensor([prompt_ids(tokenizer, pair.question)])).logits[0, -1]
        p = logits.double().softmax(0)
        words = [text.split(",")[0].split(".")[0] for text in (pair.positive, pair.negative)]
        expected = [p[tokenizer.convert_tokens_to_ids(word)].item() for word in words]
        np.testing.assert_allclose(np.exp([-row.loss_positive, -row.loss_negative]), expected, rtol=1e-4)
        assert row.covered == pytest.approx(sum(expected), rel=1e-4)
        first = tokenizer.convert_ids_to_tokens(p.argmax().item())
        assert row.text.startswith(first.replace("Ġ", " "))
        assert row.agree == (row.parsed == ("yes" if p[yes] > p[no] else "no"))
        if row.m == 0:
            assert row.agree and first in WORDS
    written = measure_strengths(model, tokenizer, steer, "psychopathy", "test", grid, 4)
    assert table["text"].tolist() == written["text"].tolist()
    assert table["correct_by_text"].tolist() == written["correct"].tolist()
    assert not table["agree"][-4:].all()  # broken, it says neither


@pytest.mark.parametrize("model", ["qwen2"], indirect=True)
def test_words_of_several_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    make_intervention: Callable[..., Intervention],
) -> None:
    table = yes_no_accuracy(model, tokenizer, make_intervention(model, "vector"), PAIRS, 0.0)
    for row, (pair, word) in enumerate(zip(PAIRS, ("Yes", "No", "Yes"), strict=True)):
        prompt = prompt_ids(tokenizer, pair.question)
        ending = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert len(ending) == len(word)  # this tokenizer's tokens are bytes
        with torch.no_grad():
            p = (
                model(torch.tensor([[*prompt, *ending]]))
                .logits[0, len(prompt) - 1 : -1]
                .double()
                .log_softmax(1)
            )
        assert table["loss_positive"][row] == pytest.approx(
            -p[range(len(ending)), ending].sum().item(), rel=1e-4
        )
    assert (table["correct_by_likelihood"] == (table["log_odds"] > 0)).all()
    assert table["likelier"].tolist() == [
        ("yes" if right else "no") if word == "yes" else ("no" if right else "yes")
        for word, right in zip(("yes", "no", "yes"), table["correct_by_likelihood"], strict=True)
    ]


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_what_is_no_yes_or_no_is_refused(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    make_intervention: Callable[..., Intervention],
) -> None:
    steer = make_intervention(model, "vector")
    for pair in (
        Pair("Who?", "Yes.", "Yes, no."),
        Pair("Who?", "Maybe.", "No."),
        Pair("Who?", "Yes", "Never."),
    ):
        with pytest.raises(ValueError, match="row 1: one answer must begin with yes and the other with no"):
            yes_no_accuracy(model, tokenizer, steer, [PAIRS[0], pair], 0.0)
    for m, message in (([1.0, 1.0], "twice"), (float("nan"), "finite"), ([0.0, float("inf")], "finite")):
        with pytest.raises(ValueError, match=message):
            yes_no_accuracy(model, tokenizer, steer, PAIRS, m)
    with pytest.raises(ValueError, match="empty"):
        yes_no_accuracy(model, tokenizer, steer, [], 0.0)


def test_side_by_side_keeps_the_order_and_counts_disagreement() -> None:
    table = pd.DataFrame(
        {
            "m": [2.0, 2.0, 0.0, 0.0],
            "covered": [0.1, 0.3, 1.0, 1.0],
            "parsed": ["neither", "yes", "yes", "no"],
            "correct_by_likelihood": [True, True, True, False],
            "correct_by_text": [False, True, True, False],
            "agree": [False, True, True, True],
        }
    )
    expected = pd.DataFrame(
        {
            "m": [2.0, 0.0],
            "pairs": [2, 2],
            "by_likelihood": [100.0, 50.0],
            "by_text": [50.0, 50.0],
            "neither": [50.0, 0.0],
            "disagree": [50.0, 0.0],
            "covered": [0.2, 1.0],
        }
    )
    pd.testing.assert_frame_equal(side_by_side(table), expected)
