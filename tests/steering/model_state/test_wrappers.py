"""The model inside its wrappers, and what is refused with the word what to pass."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn

from splitkit.steering.model_state.wrappers import plain_model
from tests.conftest import tiny_model


def compiled(model):
    return torch.compile(model, backend="eager")


def test_the_model_inside_is_found() -> None:
    model = tiny_model("llama")
    assert plain_model(model) is model
    wrapped = [compiled(model), nn.DataParallel(model), nn.DataParallel(compiled(model))]
    assert all(plain_model(one) is model for one in wrapped)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert plain_model(adapted) is plain_model(adapted.base_model) is plain_model(compiled(adapted)) is model


def test_what_computes_something_of_its_own_is_refused() -> None:
    model = tiny_model("llama")
    parallel = nn.DataParallel(model)
    parallel.device_ids = [0, 1]
    with pytest.raises(ValueError, match="over 2 devices .* pass model.module"):
        plain_model(parallel)
    prompts = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ValueError, match=r"learned prompts .* Pass model.get_base_model\(\)"):
        plain_model(prompts)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tiny-qwen2", "not 'tiny-qwen2'"),
        (None, "not None"),
        (nn.Linear(2, 2), "not a Linear"),
        (SimpleNamespace(model=tiny_model("llama", layers=2)), "not a SimpleNamespace. Pass its .model."),
    ],
)
def test_what_is_no_model_is_refused(given, said) -> None:
    with pytest.raises(TypeError, match=f"a loaded model is wanted, as load_model gives it .*, {said}"):
        plain_model(given)
