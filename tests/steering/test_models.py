"""Models: loading, digests, sites, and each kind of bad input."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from accelerate import dispatch_model
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from splitkit.steering import model_files, models
from splitkit.steering.architectures import check_layer, resolve_sites
from splitkit.steering.formats import hub
from splitkit.steering.formats.shipped import MODELS
from splitkit.steering.model_state import digest
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.models import load_model
from splitkit.steering.sweeps import sweep
from splitkit.storage import paths
from tests.conftest import random_intervention, tiny_model, tiny_tokenizer


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
    folder = saved(tmp_path / "tiny-gemma2", "gemma2")
    weights = folder / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "splitkit.json").write_text(json.dumps({"sha256": digest}))
    load_model("tiny-gemma2")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="not the released ones"):
        load_model("tiny-gemma2")
    with pytest.raises(FileNotFoundError, match="make models"):
        load_model("tiny-qwen2")


def test_unknown_model_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="tiny-gemma2, tiny-qwen2"):
        load_model("tiny-gemma3")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_model("./nowhere")
    assert all(info.layer == 3 for info in MODELS.values())


def test_layers_out_of_range_name_the_range(model) -> None:
    assert check_layer(model, None) == 1
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=f"layer {layer} is out of range: this model has layers 0 to 2"):
            resolve_sites(model, layer)
    for layer in (1.5, 1.0, True, "1"):
        with pytest.raises(ValueError, match=rf"a layer is a whole number, not {layer!r}: .*layers 0 to 2"):
            resolve_sites(model, layer)


def test_sites_are_the_modules_of_that_layer(model) -> None:
    sites = resolve_sites(model, 2)
    assert sites.down is model.model.layers[2].mlp.down_proj
    assert (sites.width, sites.down_width) == (32, 48)
    assert (sites.after_down is None) == (model.config.model_type != "gemma2")


def test_layers_that_are_not_found_say_what_to_give(model) -> None:
    model.config.model_type, model.config.num_hidden_layers = "other", 7
    with pytest.raises(ValueError, match=r"no lists of 7 decoder layers.*SITES\['other'\].*layer_path="):
        resolve_sites(model, 1)


def test_digest_follows_the_values_and_not_the_type() -> None:
    model = tiny_model("qwen2")
    first = model_digest(model)
    assert first == model_digest(tiny_model("qwen2")) != model_digest(tiny_model("qwen2", seed=1))
    with torch.no_grad():
        model.model.norm.weight[0] += 1
    assert model_digest(model) != first
    assert model_digest(tiny_model("qwen2").double()) == first


def test_digest_sees_a_write_that_torch_does_not_count() -> None:
    model = tiny_model("qwen2")
    first = model_digest(model)
    weight = model.model.layers[1].mlp.down_proj.weight
    stamp = weight.data_ptr(), weight._version
    weight.data += 1
    assert (weight.data_ptr(), weight._version) == stamp and model_digest(model) != first
    weight.data -= 1
    weight.data.copy_(tiny_model("qwen2").model.layers[1].mlp.down_proj.weight)
    assert model_digest(model) == first


def test_a_copy_of_a_shipped_model_is_checked_too(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    card = folder / "splitkit.json"
    card.write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"sha256 [0-9a-f]{12}\.\.\., splitkit.json says 000000000000"):
        load_model(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    card.write_text(json.dumps({"sha256": digest}))
    load_model(folder)
    for damaged in ("", '{"sha256"', "[]", "{}"):
        card.write_text(damaged)
        with pytest.raises(ValueError, match="splitkit.json is damaged"):
            load_model(folder)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "model.safetensors"
    whole = weights.read_bytes()
    for kept in (5, 500, len(whole) - 4):
        weights.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=f"weights of {tmp_path} are cut short: fetch it again"):
            load_model(tmp_path)
    weights.write_bytes(whole[:8] + b"x" + whole[9:])
    with pytest.raises(ValueError, match=f"weights of {tmp_path} are damaged"):
        load_model(tmp_path)
    weights.write_bytes(whole)
    for name in ("config.json", "tokenizer.json"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:100])
        with pytest.raises(ValueError, match="a JSON file of .* is damaged or cut short: fetch it"):
            load_model(tmp_path)
        (tmp_path / name).write_bytes(content)


def test_what_names_no_model_or_place_is_told() -> None:
    for name in ("", " ", None, 7, tiny_tokenizer()):
        with pytest.raises((TypeError, ValueError), match="names no model; there are tiny-gemma2, .*hub ids"):
            load_model(name)  # type: ignore[arg-type]
    for device_map in ("every", 7, []):
        with pytest.raises(ValueError, match="device_map is one of auto, .*, or a dict"):
            load_model("tiny-gemma2", device_map=device_map)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown device 'disk'; there are cpu"):
        load_model("tiny-gemma2", device_map={"": "disk"})
    with pytest.raises(TypeError, match="quantization_config is one of transformers' own"):
        load_model("tiny-gemma2", quantization_config="4bit")


def test_weights_that_a_folder_lacks_are_never_random_ones(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.norm.weight"] = torch.ones(3)
    save_file(tensors, weights, metadata={"format": "pt"})
    lacking = r"lacks 2 of .*: model.layers.1.mlp.up_proj.weight, model.norm.weight\."
    with pytest.raises(ValueError, match=lacking):
        load_model(tmp_path)


@pytest.mark.parametrize("part", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_is_never_run(tmp_path: Path, part: str) -> None:
    folder = saved(tmp_path)
    trace = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
    (folder / "own.py").write_text(trace)
    config = json.loads((folder / part).read_text())
    if part == "config.json":
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    else:
        config |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.T", None]}}
    (folder / part).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="code of its own, which splitkit never runs"):
        load_model(folder)
    with pytest.raises(TypeError, match="trust_remote_code"):
        load_model(folder, trust_remote_code=True)  # type: ignore[call-arg]
    assert not list(tmp_path.rglob("ran"))


HUB = """
import time
from splitkit.steering.models import load_model
start = time.perf_counter()
model, tokenizer = load_model("somebody/tiny")
print("loaded", model.config.model_type, len(tokenizer))
try:
    load_model("somebody/other")
except ConnectionError as error:
    print(error)
print(time.perf_counter() - start)
"""


@pytest.mark.parametrize("away", [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")])
def test_without_a_hub_the_local_cache_is_used_and_at_once(tmp_path: Path, away: tuple[str, str]) -> None:
    cache = tmp_path / "hub" / "models--somebody--tiny"
    saved(cache / "snapshots" / ("a" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(tmp_path), away[0]: away[1]}
    done = subprocess.run(
        [sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, check=True
    )
    assert "Retrying" not in done.stderr
    loaded, error, seconds = done.stdout.splitlines()
    assert loaded == "loaded llama 261"
    assert error.startswith("no folder 'somebody/other', and the hub does not answer")
    assert "there are tiny-gemma2, tiny-qwen2, " in error
    assert float(seconds) < 15


def hub_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cached snapshot of somebody/tiny; the hub, when it is asked, says that it has the model."""
    cache = folder / "models--somebody--tiny"
    snapshot = saved(cache / "snapshots" / ("a" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: None)
    monkeypatch.delenv("SPLITKIT_MODELS", raising=False)
    return snapshot


def test_the_weights_used_are_those_whose_digest_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = hub_cache(tmp_path, monkeypatch)
    asked: list[str] = []
    real = models.AutoConfig.from_pretrained
    monkeypatch.setattr(
        models.AutoConfig, "from_pretrained", lambda name, **k: asked.append(name) or real(snapshot, **k)
    )
    assert model_files.fetch("somebody/tiny") == model_files.find("somebody/tiny") == snapshot
    model, _ = load_model("somebody/tiny")
    assert set(asked) == {str(snapshot)} and model_digest(model) == model_digest(tiny_model("llama"))


def test_an_interrupted_download_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = hub_cache(tmp_path, monkeypatch)
    (snapshot / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    for load in (model_files.fetch, load_model):
        with pytest.raises(ConnectionError, match="somebody/tiny is not on this machine.*lacks weights"):
            load("somebody/tiny")


def test_a_name_that_the_hub_does_not_know_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="no such model on the hub; there are tiny-gemma2"):
        load_model("somebody/not a name")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", torch.bfloat16])
def test_loads_in_the_type_that_is_asked_for(tmp_path: Path, dtype) -> None:
    model, _ = load_model(saved(tmp_path), dtype=dtype)
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted} and not model.training


def test_auto_is_the_type_of_the_config(tmp_path: Path) -> None:
    tiny_model("llama").bfloat16().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    narrow, wide = load_model(tmp_path, dtype="auto")[0], load_model(tmp_path)[0]
    assert (narrow.dtype, wide.dtype) == (torch.bfloat16, torch.float32)
    assert model_digest(narrow) == model_digest(wide)


def test_unknown_types_and_devices_list_what_there_is(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    for dtype in ("float64", torch.float64, torch.int8, "", None):
        with pytest.raises(
            ValueError, match=r"unknown dtype .*; there are float32, bfloat16, float16 and auto"
        ):
            load_model(folder, dtype=dtype)
    with pytest.raises(ValueError, match="unknown device 'gpu'; there are cpu"):
        load_model(folder, device="gpu")
    for device in ("meta", "cuda:99"):
        with pytest.raises(ValueError, match=f"this machine has no device '{device}'; there are cpu"):
            load_model(folder, device=device)


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}, {"model": "cpu", "lm_head": "cpu"}])
def test_a_device_map_places_the_model(tmp_path: Path, device_map) -> None:
    model, _ = load_model(saved(tmp_path), device_map=device_map)
    assert model_digest(model) == model_digest(tiny_model("llama"))


def test_a_dispatched_model_is_swept_as_any_other(tmp_path: Path, form, tokenizer, pairs) -> None:
    plain = tiny_model("gemma2")
    spread = dispatch_model(
        tiny_model("gemma2"), {"model": "cpu", "lm_head": "cpu"}, main_device="cpu", force_hooks=True
    )
    assert "forward" in vars(spread.model)
    iv = random_intervention(plain, form)
    expected = sweep(plain, tokenizer, iv, pairs, m=[-1.0, 0.0, 2.0])
    assert sweep(spread, tokenizer, iv, pairs, m=[-1.0, 0.0, 2.0]).equals(expected)


def test_digest_is_computed_once_and_without_another_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    whole = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        whole.update(f"{name} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.detach().numpy().tobytes())
    monkeypatch.setattr(digest, "_PIECE", 100)
    assert model_digest(model) == whole.hexdigest()
    monkeypatch.setattr(digest, "_hash", None)
    assert model_digest(model) == whole.hexdigest()


def test_a_name_is_no_model() -> None:
    with pytest.raises(TypeError, match="load_model"):
        model_digest("tiny-qwen2")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="load_model"):
        check_layer("tiny-qwen2", None)  # type: ignore[arg-type]


def test_the_names_of_before_load_with_a_note() -> None:
    with pytest.warns(FutureWarning, match="'embedded-qwen2' is called 'tiny-qwen2' now"):
        model, _ = load_model("embedded-qwen2")
    assert model_digest(model) == model_digest(load_model("tiny-qwen2")[0])
