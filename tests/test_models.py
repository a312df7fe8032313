"""Models: loading, digests, sites, and each kind of bad input."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from conftest import tiny_model, tiny_tokenizer

from splitkit import paths
from splitkit.models import MODELS, check_layer, load_model, model_digest, resolve_sites


def saved(folder: Path, architecture: str = "llama") -> Path:
    tiny_model(architecture).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_loads_a_local_folder_in_float32_and_evaluation_mode(tmp_path: Path) -> None:
    model, tokenizer = load_model(saved(tmp_path))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer.chat_template
    assert model_digest(model) == model_digest(tiny_model("llama"))


def test_shipped_weights_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "MODELS", tmp_path)
    folder = saved(tmp_path / "embedded-gemma2", "gemma2")
    weights = folder / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "splitkit.json").write_text(json.dumps({"sha256": digest}))
    load_model("embedded-gemma2")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="not the released ones"):
        load_model("embedded-gemma2")
    with pytest.raises(FileNotFoundError, match="make models"):
        load_model("embedded-qwen2")


def test_unknown_model_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="embedded-gemma2, embedded-qwen2"):
        load_model("embedded-gemma3")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_model("./nowhere")
    assert all(info.layer == 3 for info in MODELS.values())


def test_layers_out_of_range_name_the_range(model) -> None:
    assert check_layer(model, None) == 1
    for layer in (-1, 3, 1.0, True):
        with pytest.raises(ValueError, match="layers 0 to 2"):
            resolve_sites(model, layer)


def test_sites_are_the_modules_of_that_layer(model) -> None:
    sites = resolve_sites(model, 2)
    assert sites.down is model.model.layers[2].mlp.down_proj
    assert (sites.width, sites.down_width) == (32, 48)
    assert (sites.after_down is None) == (model.config.model_type != "gemma2")


def test_unknown_architecture_says_what_to_give(model) -> None:
    model.config.model_type = "other"
    with pytest.raises(ValueError, match=r"gemma2, llama, qwen2.*layer_path=.*down_path="):
        resolve_sites(model, 1)


def test_digest_follows_the_values_and_not_the_type() -> None:
    model = tiny_model("qwen2")
    first = model_digest(model)
    assert first == model_digest(tiny_model("qwen2")) != model_digest(tiny_model("qwen2", seed=1))
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    assert model_digest(model) != first
    assert model_digest(tiny_model("qwen2").double()) == first
