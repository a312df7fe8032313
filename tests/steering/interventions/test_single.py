"""Interventions: one affine update in three forms, attached only inside a `with`."""

import hashlib
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch.nn import functional

import splitkit
from splitkit.runs.world_answers import measure_strengths
from splitkit.runs.yes_no import yes_no_accuracy
from splitkit.steering.architectures import resolve_sites
from splitkit.steering.interventions import Intervention, load_intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.pairs import Pair
from splitkit.steering.prompts.settings import note_bos
from splitkit.steering.strengths import as_factors, as_grid
from splitkit.steering.sweeps import matching_strength, sweep
from splitkit.steering.training import train
from splitkit.studies.manifold.activations import RecordedPairs
from tests.conftest import LAYER, random_intervention, tiny_model

IDS = torch.tensor([[1, 40, 50, 60, 70], [1, 41, 51, 61, 71]])


def state(model) -> dict[str, object]:
    """Everything that an intervention could leave behind."""
    return {
        "modules": [(name, id(module)) for name, module in model.named_modules()],
        "parameters": [(n, id(p), p.requires_grad, p.data_ptr()) for n, p in model.named_parameters()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._forward_pre_hooks_with_kwargs))
            for m in model.modules()
        ],
        "attributes": [sorted(vars(m)) for m in model.modules()],
    }


def by_hand(model, iv: Intervention, ids: torch.Tensor, m: float) -> torch.Tensor:
    """Logits of a copy whose weights are rewritten; BOS must be absent from `ids`."""
    twin = tiny_model(model.config.model_type).double()
    down, p = twin.model.layers[LAYER].mlp.down_proj, {k: v.double() for k, v in iv.parameters.items()}
    with torch.no_grad():
        if iv.form == "vector":
            twin.model.layers[LAYER].register_forward_hook(lambda _, __, out: out + m * p["vector"])
        elif iv.form == "lora":
            down.weight += m * p["B"] @ p["A"]
        else:
            down.weight += m * p["weight"]
            down.bias = torch.nn.Parameter(m * p["bias"])
        return twin(ids).logits


def test_equals_rewritten_weights_in_float64(model, form) -> None:
    iv, ids = random_intervention(model, form), IDS[:, 1:]
    double = tiny_model(model.config.model_type).double()
    for m in (-2.0, 0.5, 3.0):
        with iv.applied(double, m), torch.no_grad():
            torch.testing.assert_close(double(ids).logits, by_hand(model, iv, ids, m), rtol=0, atol=1e-12)


def test_zero_is_the_base_model_bit_for_bit(model, form) -> None:
    iv, base = random_intervention(model, form), model(IDS).logits
    with iv.applied(model, 0):
        assert torch.equal(model(IDS).logits, base)
    with iv.applied(model, [0.0, 1.0]):
        steered = model(IDS).logits
    assert torch.equal(steered[0], base[0])
    assert (steered[1] - base[1]).abs().max() > 1e-2


def test_one_m_per_row_equals_single_runs(model, form) -> None:
    iv, strengths = random_intervention(model, form), [-1.5, 2.0]
    with iv.applied(model, torch.tensor(strengths)):
        together = model(IDS).logits
    for row, m in enumerate(strengths):
        with iv.applied(model, m):
            alone = model(IDS[row : row + 1]).logits
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-5)


def test_delta_is_the_affine_change(model, form) -> None:
    iv, x = random_intervention(model, form), torch.randn(2, 3, 48)
    p = iv.parameters
    expected = {
        "local_weight": lambda: x @ p["weight"].T + p["bias"],
        "lora": lambda: x @ (p["B"] @ p["A"]).T,
        "vector": lambda: p["vector"].repeat(2, 3, 1),
    }[form]()
    torch.testing.assert_close(iv.delta(x), expected, rtol=1e-5, atol=1e-5)


def test_bos_is_not_steered_and_embeds_are(model, form) -> None:
    iv, seen = random_intervention(model, form), []
    handle = resolve_sites(model, LAYER).layer.register_forward_hook(lambda _, __, out: seen.append(out))
    model(IDS)
    handle.remove()
    with iv.applied(model, 2.0):
        handle = resolve_sites(model, LAYER).layer.register_forward_hook(lambda _, __, out: seen.append(out))
        model(IDS)
        model(inputs_embeds=model.get_input_embeddings()(IDS))
        handle.remove()
    base, steered, embedded = seen
    assert torch.equal(base[:, 0], steered[:, 0])
    assert (base[:, 1:] != steered[:, 1:]).any(-1).all()
    assert (base != embedded).any(-1).all()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_behind(model, form, fails) -> None:
    iv = random_intervention(model, form)
    model.get_input_embeddings().requires_grad_(False)
    before, base = state(model), model(IDS).logits
    try:
        with iv.applied(model, 1.0):
            model(IDS)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert state(model) == before
    assert torch.equal(model(IDS).logits, base)


def test_generates_with_cache_left_padding_and_m_per_row(model, form) -> None:
    iv = random_intervention(model, form)
    options = dict(max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
    ids = torch.tensor([[0, 0, 1, 40, 50], [1, 41, 51, 61, 71]])
    with iv.applied(model, [1.0, -2.0]):
        together = model.generate(input_ids=ids, attention_mask=(ids != 0).long(), **options)[:, 5:]
    for row, (m, alone) in enumerate(((1.0, ids[:1, 2:]), (-2.0, ids[1:]))):
        with iv.applied(model, m):
            mask = torch.ones_like(alone)
            single = model.generate(input_ids=alone, attention_mask=mask, use_cache=False, **options)
        assert torch.equal(single[0, alone.shape[1] :], together[row])


def test_beam_search_with_m_per_row_is_refused(model) -> None:
    iv = random_intervention(model, "vector")
    with iv.applied(model, [1.0, 2.0]), pytest.raises(ValueError, match="2 values, the batch has 6 rows"):
        model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), num_beams=3, max_new_tokens=2)


@pytest.mark.parametrize("m", [float("nan"), [1.0, float("inf")], [], [[1.0]]])
def test_bad_strengths_are_refused(m) -> None:
    model = tiny_model("llama")
    with pytest.raises(ValueError, match="m "), random_intervention(model, "vector").applied(model, m):
        pass


def test_interventions_can_be_nested() -> None:
    model = tiny_model("qwen2")
    vector, lora = random_intervention(model, "vector"), random_intervention(model, "lora")
    before = state(model)
    with lora.applied(model, 1.0), vector.applied(model, 1.0):
        outer_first = model(IDS).logits
    with vector.applied(model, 1.0), lora.applied(model, 1.0):
        torch.testing.assert_close(model(IDS).logits, outer_first)
    with lora.applied(model, 1.0), lora.applied(model, 0.5):
        twice = model(IDS).logits
    with lora.applied(model, 1.5):
        torch.testing.assert_close(model(IDS).logits, twice)
    assert state(model) == before


def test_saved_and_loaded_is_the_same(model, form, tmp_path: Path) -> None:
    iv = random_intervention(model, form)
    iv.details["task"] = "psychopathy"
    loaded = load_intervention(iv.save(tmp_path / "deep" / "iv"), model=model)
    assert {k: v for k, v in vars(loaded).items() if k != "parameters"} == {
        k: v for k, v in vars(iv).items() if k != "parameters"
    }
    assert all(torch.equal(loaded.parameters[name], p) for name, p in iv.parameters.items())


def test_a_home_means_the_same_to_save_and_to_load(model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert random_intervention(model, "vector").save("~/iv") == tmp_path / "iv"
    assert load_intervention("~/iv").form == "vector"


def test_what_cannot_be_kept_leaves_no_file_and_a_failed_save_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iv = random_intervention(tiny_model("llama"), "vector")
    iv.details["lr"] = np.float32(0.1)
    with pytest.raises(TypeError, match="details are plain numbers, .*: Object of type float32"):
        iv.save(tmp_path / "iv")
    assert not (tmp_path / "iv").exists()
    iv.details["lr"] = 0.1
    before = {path.name: path.read_bytes() for path in iv.save(tmp_path / "iv").iterdir()}

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        random_intervention(tiny_model("llama"), "vector", seed=2).save(tmp_path / "iv")
    assert {path.name: path.read_bytes() for path in (tmp_path / "iv").iterdir()} == before


def test_a_layer_is_a_whole_number() -> None:
    vector = {"vector": torch.ones(32)}
    assert type(Intervention("vector", "sft", np.int64(1), vector, "").layer) is int
    for bad in (1.0, "1", None, True, -1):
        with pytest.raises(ValueError, match="layer must be a whole number, 0 or more, not "):
            Intervention("vector", "sft", bad, vector, "")


@pytest.mark.parametrize(
    ("form", "name", "shape", "wanted"),
    [
        ("vector", "vector", (1,), (32,)),
        ("vector", "vector", (), (32,)),
        ("vector", "vector", (1, 32), (32,)),
        ("local_weight", "weight", (48, 32), (32, 48)),
        ("local_weight", "bias", (1,), (32,)),
        ("lora", "A", (4, 32), (4, 48)),
        ("lora", "A", (), (4, 48)),
        ("lora", "B", (32, 3), (32, 4)),
        ("lora", "B", (4, 32), (32, 4)),
    ],
)
def test_parameters_of_another_shape_are_named_with_the_shape_wanted(
    form, name, shape, wanted, tokenizer, pairs, tmp_path: Path
) -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, form)
    iv.parameters[name] = torch.ones(shape)
    message = re.escape(f"{name!r} of the {form} has shape {shape}; for layer {LAYER} of this model it is ")
    message += ".*" if name == "A" and shape == () else re.escape(f"{wanted}.")
    with pytest.raises(ValueError, match=message), iv.applied(model, 1.0):
        pass
    with pytest.raises(ValueError, match=message):
        sweep(model, tokenizer, iv, pairs, m=[1.0])
    with pytest.raises(ValueError, match=message):
        load_intervention(iv.save(tmp_path), model)


def test_a_vector_of_ones_own_is_an_intervention() -> None:
    model = tiny_model("llama")
    iv = Intervention("vector", "mine", 1, {"vector": torch.ones(32)}, splitkit.model_digest(model))
    with iv.applied(model, 1.0):
        assert torch.isfinite(model(IDS).logits).all()
    beyond = Intervention("vector", "mine", 3, {"vector": torch.ones(32)}, splitkit.model_digest(model))
    with pytest.raises(ValueError, match="layer 3 is out of range"), beyond.applied(model, 1.0):
        pass


def test_another_base_model_is_refused(form, tmp_path: Path) -> None:
    model, other = tiny_model("llama"), tiny_model("llama", seed=1)
    iv = random_intervention(model, form)
    with pytest.raises(ValueError, match="another base model"), iv.applied(other, 1.0):
        pass
    with pytest.raises(ValueError, match="another base model"):
        load_intervention(iv.save(tmp_path), model=other)


def test_bad_files_and_forms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="config.json and intervention.safetensors not there"):
        load_intervention(tmp_path)
    with pytest.raises(ValueError, match="local_weight, lora, vector"):
        Intervention("matrix", "sft", 0, {}, "")
    with pytest.raises(ValueError, match="NaN"):
        Intervention("vector", "sft", 0, {"vector": torch.tensor([float("nan")])}, "")
    with pytest.raises(ValueError, match="has the parameters"):
        Intervention("lora", "sft", 0, {"A": torch.ones(1, 1)}, "")


def test_arithmetic_is_float32_on_a_bfloat16_model(form) -> None:
    model = tiny_model("llama").bfloat16()
    iv, x = random_intervention(model, form), torch.randn(1, 2, 48).bfloat16()
    assert iv.delta(x).dtype == torch.float32
    with iv.applied(model, 1.0):
        assert model(IDS).logits.dtype == torch.bfloat16
    assert functional.mse_loss(iv.delta(x), iv.delta(x.float())) == 0


@pytest.mark.parametrize(
    "m", ["2", None, "True", True, [1.0, None], ["1"], 1j, [True, False], [[1.0], [1.0, 2.0]]]
)
def test_what_is_no_number_is_no_strength(m) -> None:
    model = tiny_model("llama")
    with (
        pytest.raises(TypeError, match="m is one real number or one per row"),
        random_intervention(model, "vector").applied(model, m),
    ):
        pass


@pytest.mark.parametrize(
    "m",
    [
        (1, -2),
        [1.0, -2.0],
        np.array([-2, 1])[::-1],
        pd.Series([1.0, -2.0], index=[7, 8]),
        torch.tensor([1, -2]),
    ],
)
def test_strengths_come_in_any_container(m) -> None:
    assert torch.equal(as_factors(m), torch.tensor([1.0, -2.0]))
    assert as_factors(0.1).dtype == as_factors(np.float64(0.1)).dtype == torch.float32


@pytest.mark.parametrize(
    "m",
    [
        torch.tensor([0.0, 1.5], dtype=torch.bfloat16),
        torch.tensor([0.0, 1.5], requires_grad=True),
        np.array([0.0, 1.5], dtype=np.float16),
        (0, 1.5),
    ],
)
def test_a_grid_comes_in_any_container(m, tokenizer, pairs) -> None:
    grid = as_grid(m)
    assert grid.dtype == np.float64 and grid.tolist() == [0.0, 1.5]
    assert as_grid([0.1]).tolist() == [0.1], "as written, not as float32"
    model = tiny_model("llama")
    iv, answer = random_intervention(model, "vector"), [Pair("Is it?", "Yes.", "No.")]
    assert sweep(model, tokenizer, iv, pairs, m)["m"].unique().tolist() == [0.0, 1.5]
    assert yes_no_accuracy(model, tokenizer, iv, answer, m)["m"].unique().tolist() == [0.0, 1.5]
    found = measure_strengths(model, tokenizer, iv, "psychopathy", "test", m, 1)
    assert found["m"].tolist() == [0.0, 1.5]
    assert len(RecordedPairs(model, tokenizer, pairs, LAYER).activations(iv, m)["end"]) == 2


@pytest.mark.parametrize(
    ("m", "message"),
    [
        ([], r"m is one number or a grid of at least one, not of shape \(0,\)"),
        ([[1.0]], r"a grid of at least one, not of shape \(1, 1\)"),
        ([1.0, math.nan], "m must be finite"),
        ([1.0, 1.0], "the grid of m names a strength twice"),
        ([1.0, 1.0 + 1e-12], "the grid of m names a strength twice"),
    ],
)
def test_bad_grids_are_refused(m, message, tokenizer, pairs) -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, "vector")
    for refuses in (
        lambda: sweep(model, tokenizer, iv, pairs, m),
        lambda: yes_no_accuracy(model, tokenizer, iv, [Pair("Is it?", "Yes.", "No.")], m),
        lambda: measure_strengths(model, tokenizer, iv, "psychopathy", "test", m, 1),
        lambda: RecordedPairs(model, tokenizer, pairs, LAYER).activations(iv, m),
    ):
        with pytest.raises(ValueError, match=message):
            refuses()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return random_intervention(tiny_model("llama"), "lora").save(tmp_path / "iv")


def test_changed_or_cut_tensors_are_refused_with_both_digests(folder: Path) -> None:
    path = folder / "intervention.safetensors"
    content = path.read_bytes()
    stated = hashlib.sha256(content).hexdigest()
    for bad in (content[:-1], content[:20], b"", content[:-1] + bytes([content[-1] ^ 1])):
        path.write_bytes(bad)
        found = hashlib.sha256(bad).hexdigest()
        with pytest.raises(ValueError, match=rf"intervention.safetensors is damaged.*{found}.*{stated}"):
            load_intervention(folder)
    path.write_bytes(content)
    load_intervention(folder)


def test_tensors_of_another_save_are_refused(folder: Path, tmp_path: Path) -> None:
    other = random_intervention(tiny_model("llama"), "lora", seed=2).save(tmp_path / "other")
    shutil.copy(other / "intervention.safetensors", folder)
    with pytest.raises(ValueError, match="is damaged: it has sha256"):
        load_intervention(folder)


def test_a_damaged_config_is_named(folder: Path) -> None:
    path = folder / "config.json"
    content = path.read_bytes()
    for bad in (content[:-10], b"", b"\xff\xfe\x00"):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"config.json is damaged"):
            load_intervention(folder)
    for other in ([], "text", None, {"form": "lora"}):
        path.write_text(json.dumps(other))
        with pytest.raises(ValueError, match=r"config.json has the keys .*, not \['base_digest', "):
            load_intervention(folder)


def test_a_folder_without_a_digest_says_that_it_is_old(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["sha256"]
    path.write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="config.json has the keys.*older version wrote it: train and save anew"
    ):
        load_intervention(folder)


def test_a_folder_of_something_else_under_a_true_digest_is_refused(folder: Path) -> None:
    tensors, path = folder / "intervention.safetensors", folder / "config.json"
    config, content = json.loads(path.read_text()), tensors.read_bytes()
    for other in ({"form": ["lora"]}, {"details": None}):
        path.write_text(json.dumps(config | other))
        with pytest.raises(ValueError, match="no intervention's folder"):
            load_intervention(folder)
    tensors.write_bytes(b"no tensors")
    path.write_text(json.dumps(config | {"sha256": hashlib.sha256(b"no tensors").hexdigest()}))
    with pytest.raises(ValueError, match="no intervention's folder"):
        load_intervention(folder)
    tensors.write_bytes(content)
    path.write_text(json.dumps(config))
    load_intervention(folder)


@pytest.mark.parametrize(
    "parameters, digest, named",
    [
        ({"vector": np.ones(4)}, "x", "tensor of floats, not ndarray"),
        ({"vector": torch.ones(4, dtype=torch.int64)}, "x", "not torch.int64"),
        ({"vector": torch.ones(4, dtype=torch.complex64)}, "x", "not torch.complex64"),
        (torch.ones(4), "x", "dict with .*vector.*not a Tensor"),
        ({"vector": torch.ones(4)}, None, "model_digest"),
    ],
)
def test_what_is_no_parameter_or_digest_is_refused_by_name(parameters: Any, digest: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        Intervention("vector", "mine", 1, parameters, digest)


def test_a_narrow_vector_is_added_in_float32() -> None:
    narrow = Intervention("vector", "mine", 1, {"vector": torch.ones(4, dtype=torch.bfloat16)}, "x")
    assert narrow.delta(torch.zeros(2, 3)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lora_is_peft_to_the_last_bit(model, dtype) -> None:
    model.to(dtype)
    iv = random_intervention(model, "lora")
    with iv.applied(model, 0.7), torch.no_grad():
        steered = model(IDS[:, 1:]).logits
    name = f"model.layers.{LAYER}.mlp.down_proj"
    config = LoraConfig(r=4, lora_alpha=4, target_modules=re.escape(name))
    adapter: Any = inject_adapter_in_model(config, model).get_submodule(name)
    adapter.lora_A["default"].weight = torch.nn.Parameter(iv.parameters["A"])
    adapter.lora_B["default"].weight = torch.nn.Parameter(iv.parameters["B"])
    adapter.scaling["default"] = torch.tensor([[[0.7]]])
    with torch.no_grad():
        assert torch.equal(model(IDS[:, 1:]).logits, steered)


def test_another_type_of_the_same_model_is_taken_on_your_word(tmp_path: Path, tokenizer, pairs) -> None:
    wide, narrow = tiny_model("llama"), tiny_model("llama").bfloat16()
    train(wide, tokenizer, pairs, "vector", "diffmean").save(tmp_path)
    with pytest.raises(ValueError, match=r"made in float32, this one is bfloat16.*allow_dtype=True"):
        load_intervention(tmp_path, narrow)
    iv = load_intervention(tmp_path, narrow, allow_dtype=True)
    sweep(narrow, tokenizer, iv, pairs, m=[0.0, 1.0])
    assert iv.details["made_on"] == {"dtype": "float32", "digest": model_digest(wide)}
    # the word is for a type, not for another model, and an unchanged one needs none
    with pytest.raises(ValueError, match="another base model"):
        load_intervention(tmp_path, tiny_model("llama", seed=1), allow_dtype=True)
    assert "made_on" not in load_intervention(tmp_path, wide, allow_dtype=True).details
    with pytest.raises(ValueError, match="allow_dtype needs the model"):
        load_intervention(tmp_path, allow_dtype=True)


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    iv, file = random_intervention(tiny_model("llama"), "vector"), tmp_path / "taken"
    file.write_text("mine")
    for target in (file, file / "below"):
        with pytest.raises(NotADirectoryError, match=f"{file} is a file; an intervention is"):
            iv.save(target)
    assert file.read_text() == "mine"
    for target in ("", None, 7):
        with pytest.raises(TypeError, match="an intervention's folder is a path, not "):
            iv.save(target)  # type: ignore[arg-type]


def test_a_short_line_says_what_it_is(tokenizer, pairs) -> None:
    model = tiny_model("llama")
    iv = train(model, tokenizer, pairs, "vector", "diffmean")
    norm = iv.parameters["vector"].norm()
    start = (
        f"Intervention(vector by diffmean, layer 1, model {model_digest(model)[:12]}, |vector| {norm:.4g}, "
    )
    assert repr(iv) == start + "5 pairs)"
    unit = matching_strength(model, tokenizer, iv, pairs)
    assert str(iv) == start + f"5 pairs, matching strength {unit:.4g})"
    assert repr(iv - 0.5 * iv) == f"InterventionSum(1 * {iv!r} + -0.5 * {iv!r})"


def test_another_base_model_is_refused_with_what_to_do(tokenizer, pairs) -> None:
    model, other = tiny_model("llama"), tiny_model("llama", seed=1)
    trained = train(model, tokenizer, pairs, "vector", "diffmean")
    with pytest.raises(ValueError, match=r"Load that model, or train anew on this one\."):
        trained.check_base(other)
    trained.details["source"] = {"file": "a.gguf"}
    with pytest.raises(ValueError, match=r"Load that model \(a\.gguf\), or train anew"):
        trained.check_base(other)
    with pytest.raises(ValueError, match=r"make it with base_digest=model_digest\(model\)"):
        random_intervention(model, "vector").check_base(other)
    with pytest.raises(ValueError, match=r"allow_dtype=True\)\. Else train anew"):
        trained.check_base(tiny_model("llama").to(torch.bfloat16))
    with pytest.raises(ValueError, match="train them on one, or load each onto it with allow_dtype"):
        trained + random_intervention(other, "vector")


def test_bos_that_nobody_names_is_told_once(recwarn) -> None:
    model = tiny_model("llama")
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    iv = random_intervention(model, "vector")
    with iv.applied(model, 1.0, tokens="answer"):
        assert not recwarn
    for _ in range(2):
        with iv.applied(model, 1.0):
            pass
    told = [str(warning.message) for warning in recwarn]
    assert len(told) == 1 and "set model.config.bos_token_id = tokenizer.bos_token_id" in told[0]
    named = tiny_model("llama", seed=1)
    named.config.bos_token_id = named.generation_config.bos_token_id = None
    note_bos(named, None)  # a tokenizer without BOS
    with random_intervention(named, "vector").applied(named, 1.0):
        assert len(recwarn) == 1


@pytest.mark.parametrize("options", [{"m": [1.0, 2.0]}, {"m": 1.0, "tokens": "answer"}])
def test_packed_generation_is_refused_where_rows_or_prompts_count(options) -> None:
    model = tiny_model("llama")
    packed = pytest.raises(ValueError, match="packs all prompts into one row: it works with one m for all")
    with random_intervention(model, "vector").applied(model, **options), packed:
        model.generate_batch([[1, 5], [1, 6]], max_new_tokens=1)
    assert "init_continuous_batching" not in vars(model)


def test_an_objective_is_a_text_and_what_acts_on_a_tensor_takes_one() -> None:
    vector = {"vector": torch.ones(32)}
    with pytest.raises(TypeError, match="objective is a text"):
        Intervention("vector", None, 1, vector, "")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown form .*; there are local_weight"):
        Intervention([], "sft", 1, vector, "")  # type: ignore[arg-type]
