"""Adapters: the attached LoRA against peft's own arithmetic and merge."""

import pytest
import torch

from splitkit.steering.adapters import attached_lora
from splitkit.steering.architectures import resolve_sites
from tests.conftest import LAYER, tiny_model

IDS = torch.tensor([[1, 40, 50, 60]])


def test_equals_peft_merged_into_the_weights() -> None:
    model = tiny_model("gemma2")
    a, b = torch.randn(4, 48), torch.randn(32, 4)
    sites = resolve_sites(model, LAYER)
    with attached_lora(model, sites, a, b, lambda: torch.tensor([[[0.7]]])):
        layer = model.model.layers[LAYER].mlp.down_proj
        steered = model(IDS).logits
        layer.scaling["default"] = 0.7
        change = layer.get_delta_weight("default")
    assert model.model.layers[LAYER].mlp.down_proj is sites.down
    with torch.no_grad():
        sites.down.weight += change
    torch.testing.assert_close(model(IDS).logits, steered, rtol=0, atol=1e-5)


def test_a_failure_while_attaching_leaves_no_trace() -> None:
    model = tiny_model("llama")
    sites = resolve_sites(model, LAYER)
    broken = None
    with (
        pytest.raises(AttributeError),
        attached_lora(model, sites, torch.ones(4, 48), broken, lambda: broken),
    ):  # type: ignore[arg-type, return-value]
        pass
    assert model.model.layers[LAYER].mlp.down_proj is sites.down
    assert not hasattr(model, "peft_config")
    assert all(parameter.requires_grad for parameter in model.parameters())
