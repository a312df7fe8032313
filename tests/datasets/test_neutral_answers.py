"""Neutral answers: the model's own answers, made once, kept batch by batch, never mixed up."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from splitkit.datasets import neutral_answers
from splitkit.datasets.neutral_answers import cached_answers, unsteered_answers
from splitkit.steering import generation
from splitkit.storage import paths
from tests.conftest import random_intervention, tiny_model

INPUTS = ["Name a sea.", "Rain?", "Name a sea.", "Say a word about boats.", "Go."]
KINDS = {"max_new_tokens": 6, "progress": False}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "partners"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The inputs that a model was really asked."""
    inputs: list[str] = []
    real = generation.answers

    def answers(model: Any, tokenizer: Any, questions: list[str], **settings: Any) -> list[str]:
        made = real(model, tokenizer, questions, **settings)
        inputs.extend(questions)
        return made

    monkeypatch.setattr(generation, "answers", answers)
    return inputs


@pytest.fixture(scope="module")
def qwen() -> PreTrainedModel:
    return tiny_model("qwen2")


def test_they_are_the_models_unsteered_answers(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[str]
) -> None:
    table = unsteered_answers(qwen, tokenizer, INPUTS, batch_size=2, **KINDS)
    assert list(table.columns) == ["input", "answer", "origin"]
    assert list(table["input"]) == INPUTS
    assert list(table["answer"]) == generation.answers(qwen, tokenizer, INPUTS, max_new_tokens=6)
    assert (
        table["origin"].str.contains("unsteered answer of the qwen2 .* in float32, greedy, at most 6").all()
    )
    assert sorted(asked[:4]) == sorted(set(INPUTS)), "equal inputs are answered once"


def test_they_are_made_once(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[str]
) -> None:
    first = unsteered_answers(qwen, tokenizer, INPUTS, **KINDS)
    asked.clear()
    assert (
        unsteered_answers(qwen, tokenizer, INPUTS[::-1], batch_size=1, **KINDS)[::-1]
        .reset_index(drop=True)
        .equals(first)
    )
    assert cached_answers(INPUTS).equals(first)
    assert asked == []


def test_what_decides_an_answer_decides_the_cache(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[str]
) -> None:
    unsteered_answers(qwen, tokenizer, INPUTS[:1], **KINDS)
    other, wider = tiny_model("qwen2", seed=1), tiny_model("qwen2").to(torch.float64)
    for model, settings in (
        (other, KINDS),
        (wider, KINDS),
        (qwen, KINDS | {"max_new_tokens": 7}),
    ):
        asked.clear()
        unsteered_answers(model, tokenizer, INPUTS[:1], **settings)
        assert asked == INPUTS[:1]
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        asked.clear()
        unsteered_answers(qwen, tokenizer, INPUTS[:1], **KINDS)
        assert asked == INPUTS[:1]
    finally:
        tokenizer.chat_template = template
    with pytest.raises(LookupError, match=r"answers of 5 models .*at most 6 tokens; .*float64"):
        cached_answers(INPUTS[:1])


def test_an_interrupted_run_goes_on_where_it_was(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[str], monkeypatch: Any
) -> None:
    counting = generation.answers

    def dies(model: Any, tokenizer: Any, questions: list[str], **settings: Any) -> list[str]:
        if len(asked) >= 2:
            raise KeyboardInterrupt
        return counting(model, tokenizer, questions, **settings)

    monkeypatch.setattr(generation, "answers", dies)
    with pytest.raises(KeyboardInterrupt):
        unsteered_answers(qwen, tokenizer, INPUTS, batch_size=1, **KINDS)
    done = list(asked)
    assert len(done) == 2
    with pytest.raises(LookupError, match="no model's answers to all"):
        cached_answers(INPUTS)
    monkeypatch.setattr(generation, "answers", counting)
    unsteered_answers(qwen, tokenizer, INPUTS, batch_size=1, **KINDS)
    assert sorted(asked) == sorted(set(INPUTS)), "none was asked twice"


@pytest.mark.parametrize("damage", ["", "half", "other input", "other prompt", "no text"])
def test_a_damaged_entry_is_made_again(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[str], cache: Path, damage: str
) -> None:
    first = unsteered_answers(qwen, tokenizer, INPUTS[:1], **KINDS)
    (file,) = cache.rglob("*.json")
    kept = json.loads(file.read_text())
    changes = {"other input": {"input": "x"}, "other prompt": {"prompt": [1]}, "no text": {"answer": 3}}
    text = json.dumps(kept | changes.get(damage, {}))
    file.write_text({"": "", "half": text[:40]}.get(damage, text))
    asked.clear()
    assert unsteered_answers(qwen, tokenizer, INPUTS[:1], **KINDS).equals(first)
    assert asked == INPUTS[:1]


def test_an_empty_answer_stays_empty_and_is_not_asked_again(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "answers", lambda model, tokenizer, questions, **_: [""] * len(questions))
    assert list(unsteered_answers(qwen, tokenizer, INPUTS, **KINDS)["answer"]) == [""] * 5
    monkeypatch.setattr(generation, "answers", None)
    assert list(unsteered_answers(qwen, tokenizer, INPUTS, **KINDS)["answer"]) == [""] * 5


def test_a_steered_model_is_refused(qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    with (
        random_intervention(qwen, "vector").applied(qwen, m=1.0),
        pytest.raises(ValueError, match="an intervention is applied"),
    ):
        unsteered_answers(qwen, tokenizer, INPUTS, **KINDS)


def test_a_prompt_without_room_for_an_answer_is_an_error(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[str], cache: Path
) -> None:
    with pytest.raises(ValueError, match="row 1: the prompt is .* tokens, the model.s context 96"):
        unsteered_answers(qwen, tokenizer, ["Go.", "long " * 40], **KINDS)
    assert not list(cache.rglob("*.json"))


def test_a_cache_that_cannot_be_written_is_named_before_any_work(
    qwen: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(PermissionError, match="SPLITKIT_CACHE"):
        unsteered_answers(qwen, tokenizer, INPUTS, **KINDS)
    assert asked == []
    assert neutral_answers.NEW_TOKENS == 128
