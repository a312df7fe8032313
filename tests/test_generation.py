"""Greedy answers: in batches as one by one, m in every form it comes in, and input that is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.generation import answers
from splitkit.interventions import Intervention

QUESTIONS = ["Who?", "Do you like the sea?", "Tell me a word.", "And now?"]
STRENGTHS = [0.0, 1.0, -1.5, 3.0]
MakeIntervention = Callable[..., Intervention]


def test_batches_answer_as_one_by_one(
    model: PreTrainedModel,
    form: str,
    tokenizer: PreTrainedTokenizerBase,
    make_intervention: MakeIntervention,
) -> None:
    steer: dict[str, Any] = {"intervention": make_intervention(model, form), "max_new_tokens": 8}
    together = answers(model, tokenizer, QUESTIONS, m=STRENGTHS, batch_size=3, **steer)
    alone = [
        answers(model, tokenizer, [q], m=m, **steer)[0] for q, m in zip(QUESTIONS, STRENGTHS, strict=True)
    ]
    assert together == alone
    plain = answers(model, tokenizer, QUESTIONS, max_new_tokens=8)
    assert together[0] == plain[0] and together != plain


def test_no_strength_is_no_intervention(
    model: PreTrainedModel,
    form: str,
    tokenizer: PreTrainedTokenizerBase,
    make_intervention: MakeIntervention,
) -> None:
    plain = answers(model, tokenizer, QUESTIONS, max_new_tokens=8)
    steer = make_intervention(model, form)
    assert answers(model, tokenizer, QUESTIONS, intervention=steer, m=0.0, max_new_tokens=8) == plain


@pytest.mark.parametrize(
    ("m", "same"),
    [
        (2, 2.0),
        (np.float32(2), 2.0),
        (np.int64(2), 2.0),
        (np.array(2.0), 2.0),
        (torch.tensor(2.0), 2.0),
        (torch.tensor(STRENGTHS), STRENGTHS),
        (np.array(STRENGTHS), STRENGTHS),
        (tuple(STRENGTHS), STRENGTHS),
        ([2.0] * 4, 2.0),
    ],
)
@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_m_in_any_form(
    m: Any,
    same: Any,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    make_intervention: MakeIntervention,
) -> None:
    steer: dict[str, Any] = {
        "intervention": make_intervention(model, "vector"),
        "max_new_tokens": 6,
        "batch_size": 3,
    }
    assert answers(model, tokenizer, QUESTIONS, m=m, **steer) == answers(
        model, tokenizer, QUESTIONS, m=same, **steer
    )


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_bad_input_is_refused(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(TypeError, match="pass a list of questions"):
        answers(model, tokenizer, "Who?")
    with pytest.raises(ValueError, match="no question"):
        answers(model, tokenizer, [])
    with pytest.raises(ValueError, match="3 strengths m for 4 questions"):
        answers(model, tokenizer, QUESTIONS, m=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="one number or one per row"):
        answers(model, tokenizer, QUESTIONS, m=torch.zeros(2, 2))
    for bad in (float("nan"), float("inf"), [0.0, 1.0, float("nan"), 2.0]):
        with pytest.raises(ValueError, match="m must be finite"):
            answers(model, tokenizer, QUESTIONS, m=bad)
