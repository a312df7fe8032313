"""Memory: what a model takes, counted before it is loaded, and the refusal of one that does not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Gemma2Config, Qwen2Config

from splitkit.steering import memory
from splitkit.steering.memory import GIB, check_memory, count_parameters, devices_of
from splitkit.steering.models import load_model
from tests.architectures import ARCHITECTURES, architecture
from tests.conftest import tiny_tokenizer

CPU = torch.device("cpu")
GEMMA_9B = Gemma2Config(
    vocab_size=256_000,
    hidden_size=3584,
    intermediate_size=14336,
    num_hidden_layers=42,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=256,
)
QWEN_7B = Qwen2Config(
    vocab_size=152_064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """GiB that are free, by device."""
    there = {"cpu": 16.0}
    monkeypatch.setattr(memory, "free_memory", lambda device: int(there[str(device)] * GIB))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(there) - 1)
    return there


@pytest.mark.parametrize(
    ("config", "billions"), [(GEMMA_9B, 9.241705984), (QWEN_7B, 7.615616512)], ids=["gemma2-9b", "qwen2-7b"]
)
def test_the_papers_models_have_their_published_sizes(config, billions) -> None:
    assert count_parameters(config) == round(billions * 1e9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_config_alone_counts_every_parameter(name) -> None:
    model = architecture(name)
    assert count_parameters(model.config) == sum(parameter.numel() for parameter in model.parameters())


def test_a_model_that_does_not_fit_is_refused_with_what_may(free) -> None:
    message = r"gemma takes 34.43 GiB \(9.24 billion parameters as float32\); cpu: 16.00 GiB free. dtype=\"bf"
    with pytest.raises(MemoryError, match=message):
        check_memory("gemma", GEMMA_9B, torch.float32, [CPU])
    free |= {"cpu": 20.0, "cuda:0": 30.0, "cuda:1": 30.0}
    with pytest.raises(MemoryError, match=r'cuda:0: 30.00 GiB free.* device_map="auto"'):
        check_memory("gemma", GEMMA_9B, torch.float32, [torch.device("cuda:0")])
    check_memory("gemma", GEMMA_9B, torch.float32, devices_of(CPU, "auto"))
    check_memory("gemma", GEMMA_9B, torch.bfloat16, [CPU])


def test_devices_of_a_map(free) -> None:
    assert devices_of(CPU, None) == devices_of(CPU, "auto") == [CPU]
    found = devices_of(CPU, {"model": 0, "lm_head": "cuda:1", "norm": torch.device("cuda", 1)})
    assert found == [torch.device("cuda", 0), torch.device("cuda", 1)]


def test_loading_is_refused_before_the_weights_are_read(free, tmp_path: Path) -> None:
    architecture("qwen2").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    load_model(tmp_path)
    free["cpu"] = 0.0
    with pytest.raises(MemoryError, match="cpu: 0.00 GiB free"):
        load_model(tmp_path)


def test_damaged_weights_are_left_to_the_loader_to_name(tmp_path: Path) -> None:
    architecture("qwen2").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert load_file(tmp_path / "model.safetensors") and config["num_hidden_layers"] == 2
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(ValueError, match="weights of .* are damaged"):
        load_model(tmp_path)


def test_passes_hold_fewer_tokens_where_memory_is_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    model = architecture("qwen2")
    counts = []
    for free in (2**40, 2**22, 2**10):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        counts.append(memory.tokens_that_fit(model))
    assert counts[0] == memory.MOST_TOKENS["cpu"] > counts[1] > counts[2] == 256


def test_passes_hold_fewer_tokens_of_a_wide_model_and_where_they_are_kept(monkeypatch) -> None:
    model = architecture("qwen2")
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**24)
    assert memory.tokens_that_fit(model, differentiated=9) < memory.tokens_that_fit(model)
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**40)
    model.config.intermediate_size = 1536
    assert memory.tokens_that_fit(model) == 1024
