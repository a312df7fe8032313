"""Answers: in batches as one by one, m in every form it comes in, and input that is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention
from splitkit.steering.models import load_model
from splitkit.steering.tokenization import prompt_ids
from splitkit.tasks import load_pairs
from tests.architectures import architecture
from tests.conftest import random_intervention, tiny_model, tiny_tokenizer

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


NAMES = ("tiny-gemma2", "tiny-qwen2")


@pytest.fixture(scope="module", params=NAMES)
def shipped(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_model(request.param)


def always(model: PreTrainedModel, token: int) -> Any:
    """A hook under which the model says one token at every place."""

    def say(module: nn.Module, args: tuple[Any, ...], logits: Tensor) -> Tensor:
        chosen = torch.zeros_like(logits)
        chosen[..., token] = 100.0
        return chosen

    return model.get_output_embeddings().register_forward_hook(say)


def test_shipped_models_answer_in_a_batch_as_one_by_one(
    shipped: tuple[PreTrainedModel, PreTrainedTokenizerBase],
) -> None:
    model, tokenizer = shipped
    asked = [
        pair.question for task in ("psychopathy", "axbench/ocean") for pair in load_pairs(task, "test")[:3]
    ]
    strengths = [0.0, 1.0, -2.0, 0.0, 4.0, 0.5]
    steer = {"intervention": random_intervention(model, "lora", layer=3), "max_new_tokens": 24}
    together = answers(model, tokenizer, asked, m=strengths, **steer)
    for batch_size in (1, 4):
        assert answers(model, tokenizer, asked, m=strengths, batch_size=batch_size, **steer) == together
    plain = answers(model, tokenizer, asked, max_new_tokens=24)
    assert [together[0], together[3]] == [plain[0], plain[3]] and together != plain


def test_an_answer_stops_at_its_end(shipped: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    model, tokenizer = shipped
    asked = [load_pairs(task, "test")[0].question for task in ("psychopathy", "axbench/ocean")]
    short, long = answers(model, tokenizer, asked, max_new_tokens=200)
    assert answers(model, tokenizer, asked[:1]) == [short]  # whether or not another one goes on
    assert len(short) < len(long) and short.endswith(".") and long.endswith(".")


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_an_empty_answer_is_kept(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    hook = always(model, tokenizer.eos_token_id)
    assert answers(model, tokenizer, QUESTIONS) == [""] * 4
    hook.remove()
    assert all(answers(model, tokenizer, QUESTIONS, max_new_tokens=8))


@pytest.mark.parametrize("name", ["gemma2", "qwen2", "gpt2"])
def test_the_context_is_the_end(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    model = architecture(name) if name == "gpt2" else tiny_model(name)
    always(model, tokenizer.convert_tokens_to_ids("a"))
    room = model.config.max_position_embeddings - len(prompt_ids(tokenizer, ""))
    short, long = answers(model, tokenizer, ["x", "x" * (room - 5)], max_new_tokens=2 * room)
    assert (short, long) == ("a" * (room - 1), "a" * 5)
    for length in (room, room + 1):
        with pytest.raises(
            ValueError, match=rf"row 1: the prompt is {96 + length - room} tokens, .* context 96"
        ):
            answers(model, tokenizer, ["x", "x" * length])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_prompts_near_the_context_answer_beside_short_ones_as_alone(
    name: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = architecture(name)
    room = 96 - len(prompt_ids(tokenizer, ""))
    asked = ["x" * n for n in (room - 2, 1, room - 3, 2, room - 2, room - 30)]
    together = answers(model, tokenizer, asked, max_new_tokens=30)
    assert together == answers(model, tokenizer, asked, max_new_tokens=30, batch_size=1)
    assert together == [answers(model, tokenizer, [q], max_new_tokens=30)[0] for q in asked]


@pytest.mark.parametrize("model", ["qwen2"], indirect=True)
def test_a_tokenizer_without_pad_fills_with_eos(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    bare = tiny_tokenizer()
    bare.pad_token = None
    expected = answers(model, tokenizer, QUESTIONS, max_new_tokens=8)
    assert answers(model, bare, QUESTIONS, max_new_tokens=8) == expected
    bare.eos_token = None
    with pytest.raises(ValueError, match="neither a pad_token nor an eos_token"):
        answers(model, bare, QUESTIONS)


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_settings_out_of_range_are_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number, 1 or more"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more"),
    ]
    for settings, message in bad:
        with pytest.raises(ValueError, match=message):
            answers(model, tokenizer, QUESTIONS, **settings)


def test_a_strength_needs_an_intervention_and_a_question_is_a_text(tokenizer) -> None:
    model = tiny_model("qwen2")
    with pytest.raises(ValueError, match="needs an intervention"):
        answers(model, tokenizer, ["how ?"], m=2.0)
    with pytest.raises(TypeError, match="question 1 is None"):
        answers(model, tokenizer, ["how ?", None])
