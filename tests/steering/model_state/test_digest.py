"""The digest counts what a model computes with: adapters that act on it, not those that do not."""

import pytest
import torch
from peft import LoraConfig, get_peft_model, inject_adapter_in_model
from torch import nn

from splitkit.steering.model_state.digest import active_adapters, base_digest, model_digest
from splitkit.steering.sweeps import sweep
from splitkit.steering.training import train
from tests.conftest import random_intervention, tiny_model

CONFIG = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)


def adapted(way: str):
    """A model with a random adapter, put there in each of the ways that people do it."""
    model = tiny_model("llama")
    torch.manual_seed(3)
    if way == "peft":
        return get_peft_model(model, CONFIG).eval()
    if way == "inject":
        return inject_adapter_in_model(CONFIG, model).eval()
    model.add_adapter(CONFIG, "mine")
    return model.eval()


@pytest.mark.parametrize("way", ["peft", "inject", "transformers"])
def test_an_adapter_is_part_of_the_base(way, tokenizer, pairs) -> None:
    plain, model = tiny_model("llama"), adapted(way)
    assert base_digest(model) == model_digest(plain) != model_digest(model)
    assert model_digest(adapted("inject")) == model_digest(model), "whatever its name"
    before, after = random_intervention(plain, "vector"), random_intervention(adapted("inject"), "vector")
    named = "'mine'" if way == "transformers" else "'default'"
    for refuses in (
        lambda: before.check_base(model),
        lambda: sweep(model, tokenizer, before, pairs, [1.0]),
        lambda: before.applied(model, 1.0).__enter__(),
    ):
        with pytest.raises(ValueError, match=f"without the adapter {named}, which .* part of the base"):
            refuses()
    made = train(model, tokenizer, pairs, "vector", "diffmean", 1)
    assert made.base_digest == after.base_digest
    with pytest.raises(ValueError, match=f"with the adapter {named}, .*; no adapter acts on this model"):
        made.check_base(plain)
    with pytest.raises(ValueError, match="belongs to another base model"):
        after.check_base(plain)
    after.check_base(model)


def test_scales_and_disabled_or_merged_adapters_are_told_apart() -> None:
    plain, model = model_digest(tiny_model("llama")), adapted("transformers")
    loaded = model_digest(model)
    layer = model.model.layers[0].mlp.down_proj
    layer.set_scale("mine", 0.5)
    scaled = model_digest(model)
    layer.set_scale("mine", 1.0)
    assert scaled != loaded == model_digest(model) and active_adapters(model) == ["mine"]
    model.disable_adapters()
    assert model_digest(model) == plain and active_adapters(model) == []
    model.enable_adapters()
    with torch.no_grad():
        layer.lora_A["mine"].weight[0, 0] += 1
    assert model_digest(model) not in (plain, loaded)
    for module in model.modules():
        if hasattr(module, "merge"):
            module.merge()
    assert active_adapters(model) == [] and model_digest(model) not in (plain, loaded)


def test_saved_buffers_count_and_weights_made_for_inference_have_a_digest() -> None:
    model = tiny_model("llama")
    before = model_digest(model)
    model.model.register_buffer("bias_of_experts", torch.ones(3))
    counted = model_digest(model)
    model.model.bias_of_experts[0] = 2
    assert len({before, counted, model_digest(model)}) == 3
    with torch.inference_mode():
        assert model_digest(tiny_model("llama")) == before


def test_wrappers_change_no_digest() -> None:
    model = tiny_model("llama")
    digest = model_digest(model)
    assert (
        model_digest(torch.compile(model, backend="eager")) == model_digest(nn.DataParallel(model)) == digest
    )
    model.model.layers[1] = torch.compile(model.model.layers[1], backend="eager")
    assert model_digest(model) == digest
