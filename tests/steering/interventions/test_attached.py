"""Attached interventions stay on a model until they are detached; saving a steered model is refused."""

import threading
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from splitkit.steering.interventions import Intervention
from tests.conftest import random_intervention, tiny_model
from tests.steering.interventions.test_single import IDS, state


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_model("qwen2")


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_add_up_and_leave_in_any_order(model: PreTrainedModel, first_out: int) -> None:
    before, base = state(model), logits(model)
    ivs = [random_intervention(model, form, seed=n) for n, form in enumerate(("lora", "vector"))]
    ivs[0].attach(model, 0.5, tokens="answer")
    ivs[1].attach(model, 2.0, tokens="last")
    together = logits(model)
    with ivs[0].applied(model, 0.5, tokens="answer"):
        pass
    ivs[first_out].detach(model)
    kept, m, tokens = [(ivs[1], 2.0, "last"), (ivs[0], 0.5, "answer")][first_out]
    alone = logits(model)
    kept.detach(model)
    assert state(model) == before
    with kept.applied(model, m, tokens=tokens):
        assert torch.equal(logits(model), alone)
    with ivs[0].applied(model, 0.5, tokens="answer"), ivs[1].applied(model, 2.0, tokens="last"):
        assert torch.equal(logits(model), together)
    assert torch.equal(logits(model), base)


def test_a_second_attach_and_a_second_detach_change_nothing(model: PreTrainedModel) -> None:
    iv, other = (random_intervention(model, "vector", seed=seed) for seed in (1, 2))
    iv.attach(model, 1.0)
    attached, found = state(model), logits(model)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="attached to this model already"):
            iv.attach(model, 2.0)
        with pytest.raises(RuntimeError, match="is not attached to this Qwen2ForCausalLM"):
            other.detach(model)
    with pytest.raises(ValueError, match="finite"):
        other.attach(model, float("inf"))
    assert state(model) == attached
    assert torch.equal(logits(model), found)
    iv.detach(model)
    with pytest.raises(RuntimeError, match="is not attached"):
        iv.detach(model)
    iv.attach(model, 2.0)
    iv.detach(model)


def test_another_thread_runs_the_steered_model_and_cannot_steer_it(model: PreTrainedModel) -> None:
    iv = random_intervention(model, "vector")
    iv.attach(model, 1.0)
    here, said = logits(model), []

    def serve() -> None:
        said.append(torch.equal(logits(model), here))
        try:
            random_intervention(model, "lora").attach(model, 1.0)
        except RuntimeError as error:
            said.append("another thread" in str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    iv.detach(model)
    assert said == [True, True]


def test_a_steered_model_is_not_saved_as_if_it_were(model: PreTrainedModel, tmp_path: Path) -> None:
    iv: Intervention = random_intervention(model, "vector")
    with iv.applied(model, 1.0), pytest.raises(RuntimeError, match=r"unsteered model.*splitkit\.export"):
        model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    model.save_pretrained(tmp_path / "a")
    assert (tmp_path / "a" / "model.safetensors").exists()
