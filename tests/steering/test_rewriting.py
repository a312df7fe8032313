"""Rewritten weights are those of Eq. 1, and the base model is left alone."""

import pytest
import torch

from splitkit.steering import rewriting
from splitkit.steering.architectures import resolve_sites
from splitkit.steering.model_state.digest import model_digest
from tests.conftest import random_intervention, tiny_model


def test_down_projection_is_rewritten_by_eq_1(model, form) -> None:
    iv, p = random_intervention(model, form), random_intervention(model, form).parameters
    digest = model_digest(model)
    old = resolve_sites(model, iv.layer).down
    new = resolve_sites(rewriting.rewritten(model, iv, -3.0), iv.layer).down
    weight = {"local_weight": lambda: p["weight"], "lora": lambda: p["B"] @ p["A"]}.get(form, lambda: 0.0)()
    torch.testing.assert_close(new.weight, old.weight - 3 * weight)
    if form == "local_weight" or (form == "vector" and model.config.model_type != "gemma2"):
        torch.testing.assert_close(new.bias, -3 * p["bias" if form == "local_weight" else "vector"])
    else:
        assert new.bias is None
    assert model_digest(model) == digest


def test_random_interventions_repeat_and_fit(model, form) -> None:
    once, again = (rewriting.random_intervention(model, form, seed=3) for _ in range(2))
    assert once.layer == 1
    for name, tensor in once.parameters.items():
        assert torch.equal(tensor, again.parameters[name])
    with once.applied(model, 1.0):
        model(torch.tensor([[5, 6, 7]]))


def test_another_base_model_is_refused() -> None:
    iv = random_intervention(tiny_model("qwen2"), "lora")
    with pytest.raises(ValueError, match="another base model"):
        rewriting.rewritten(tiny_model("qwen2", seed=5), iv, 1.0)
