"""What is exported at m, loaded by other tools without any strength, is what is applied at m."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from splitkit.steering.exchange.export import FORMATS, export
from splitkit.steering.exchange.imports import import_intervention
from splitkit.steering.interventions import Steering
from tests.architectures import architecture
from tests.conftest import LAYER, random_intervention, tiny_model, tiny_tokenizer

IDS = torch.tensor([[40, 50, 60, 70, 33], [41, 51, 61, 71, 9]])
"""No BOS, which is steered by other tools and not by us."""

M = 0.7


def logits(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def live(model: PreTrainedModel, iv: Steering, ids: Tensor = IDS, m: float = M) -> Tensor:
    with iv.applied(model, m):
        return logits(model, ids)


def with_peft(model: PreTrainedModel, folder: Path) -> nn.Module:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = PeftModel.from_pretrained(model, folder)
    assert not [one for one in said if "missing" in str(one.message)]
    return loaded


@pytest.mark.filterwarnings("ignore:.lora_bias=True.")
@pytest.mark.parametrize(
    ("name", "form"),
    [
        *((name, form) for name in ("gemma2", "qwen2", "llama") for form in ("lora", "local_weight")),
        *((name, "vector") for name in ("qwen2", "llama", "gpt2", "gpt_neox_parallel")),
        ("gpt2", "lora"),
    ],
)
def test_peft_loads_any_form(name: str, form: str, tmp_path: Path) -> None:
    model = architecture(name)
    iv = random_intervention(model, form)
    export(iv, model, tmp_path / "a", format="peft", m=M)
    found = logits(with_peft(architecture(name), tmp_path / "a"))
    assert (live(model, iv) - logits(model)).abs().max() > 0.1
    torch.testing.assert_close(found, live(model, iv), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *((name, "lora") for name in ("gemma2", "qwen2", "llama", "gpt2")),
        *((name, form) for name in ("llama", "gpt2") for form in ("vector", "local_weight")),
        ("llama_bias", "vector"),
    ],
)
def test_transformers_loads_a_checkpoint(name: str, form: str, tmp_path: Path) -> None:
    model = architecture(name)
    iv, before = random_intervention(model, form), logits(model)
    export(iv, model, tmp_path / "a", format="checkpoint", m=M, tokenizer=tiny_tokenizer())
    found = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "a"))
    torch.testing.assert_close(found, live(model, iv), rtol=0, atol=2e-5)
    assert torch.equal(logits(model), before)
    assert AutoTokenizer.from_pretrained(tmp_path / "a").bos_token == "<bos>"
    assert json.loads((tmp_path / "a" / "steering.json").read_text())["m"] == M
    assert "# Steering" in (tmp_path / "a" / "README.md").read_text()


@pytest.mark.parametrize("ending", ["safetensors", "gguf"])
def test_a_file_of_vectors_comes_back(ending: str, tmp_path: Path) -> None:
    model = tiny_model("gemma2")
    iv = random_intervention(model, "vector") + 0.5 * random_intervention(model, "vector", 2, seed=3)
    export(iv, model, tmp_path / f"v.{ending}", format=ending, m=M)
    back = import_intervention(tmp_path / f"v.{ending}", model)
    assert [term.layer for _, term in back.terms] == [LAYER, 2]
    assert torch.equal(live(model, back, m=1.0), live(model, iv))
    assert list(tmp_path.iterdir()) == [tmp_path / f"v.{ending}"]


def test_the_metadata_say_what_tensors_do_not(tmp_path: Path) -> None:
    import gguf

    model = tiny_model("qwen2")
    iv = random_intervention(model, "vector")
    export(iv, model, tmp_path / "v.gguf", format="gguf", m=M)
    export(iv, model, tmp_path / "v.safetensors", format="safetensors", m=M)
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert (fields["controlvector.model_hint"], fields["controlvector.layer_count"]) == ("qwen2", 2)
    # llama.cpp adds direction.i behind layer i, from 0
    (tensor,) = reader.tensors
    assert (tensor.name, tensor.tensor_type.name) == (f"direction.{LAYER}", "F32")
    torch.testing.assert_close(torch.tensor(tensor.data), M * iv.parameters["vector"])
    with safe_open(tmp_path / "v.safetensors", "pt") as opened:
        assert opened.keys() == [f"layer_{LAYER}"]
        assert opened.metadata()["splitkit"] == fields["splitkit"]
    said = json.loads(fields["splitkit"])
    assert said == {
        "base_model": "",
        "m": M,
        "layers": [LAYER],
        "site": "layer_output",
        "operation": "add",
        "tokens": "all",
        "base_digest": iv.base_digest,
    }


@pytest.mark.filterwarnings("ignore:.lora_bias=True.")
def test_a_sum_is_one_adapter(tmp_path: Path) -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, "lora") - 0.5 * random_intervention(model, "lora", 2, seed=3)
    iv += random_intervention(model, "vector", seed=4)
    export(iv, model, tmp_path / "a", format="peft", m=M)
    found = logits(with_peft(tiny_model("llama"), tmp_path / "a"))
    torch.testing.assert_close(found, live(model, iv), rtol=0, atol=2e-5)


def test_peft_steers_bos_and_we_do_not(tmp_path: Path) -> None:
    model = tiny_model("llama")
    iv, ids = random_intervention(model, "lora"), torch.tensor([[1, 40, 50, 60]])
    export(iv, model, tmp_path / "a", format="peft", m=M)
    found = logits(with_peft(tiny_model("llama"), tmp_path / "a"), ids)
    assert (found - live(model, iv, ids)).abs().max() > 0.05
    # embeddings have no ids: there BOS is steered here, too
    with torch.no_grad(), iv.applied(model, M):
        every = model(inputs_embeds=model.get_input_embeddings()(ids)).logits
    torch.testing.assert_close(found, every, rtol=0, atol=2e-5)


def test_what_cannot_be_exported_says_why(tmp_path: Path) -> None:
    gemma, qwen = tiny_model("gemma2"), tiny_model("qwen2")
    refused = [
        (gemma, "vector", "peft", "Gemma2RMSNorm without a bias"),
        (gemma, "vector", "checkpoint", "Export it as 'safetensors' or 'gguf'"),
        (qwen, "local_weight", "checkpoint", "qwen2 has none in its config: export it as 'peft'"),
        (qwen, "vector", "checkpoint", "the vector would be a bias"),
        (qwen, "lora", "gguf", "is no vector"),
    ]
    for model, form, name, said in refused:
        path = tmp_path / f"a{FORMATS[name][0]}"
        with pytest.raises(ValueError, match=said):
            export(random_intervention(model, form), model, path, format=name, m=M)
    iv = random_intervention(qwen, "vector", 0)
    with pytest.raises(ValueError, match="no control vector at layer 0"):
        export(iv, qwen, tmp_path / "a.gguf", format="gguf", m=M)
    with pytest.raises(ValueError, match=r"unknown format 'onnx'; there are peft, checkpoint"):
        export(iv, qwen, tmp_path / "a", format="onnx", m=M)
    with pytest.raises(ValueError, match=r"ends in \.gguf"):
        export(iv, qwen, tmp_path / "a", format="gguf", m=M)
    with pytest.raises(ValueError, match="another base model"):
        export(iv, gemma, tmp_path / "a.safetensors", format="safetensors", m=M)
    with pytest.raises(ValueError, match="m must be a finite number"):
        export(iv, qwen, tmp_path / "a", format="peft", m=float("nan"))
    with iv.applied(qwen, M), pytest.raises(RuntimeError, match="is being steered"):
        export(random_intervention(qwen, "lora"), qwen, tmp_path / "a", format="checkpoint", m=M)
    assert list(tmp_path.iterdir()) == []
    iv.details["tokens"] = "answer"
    with pytest.warns(UserWarning, match="the tokens 'answer' alone"):
        export(iv, qwen, tmp_path / "a", format="peft", m=M)
    with pytest.raises(FileExistsError, match="holds weights already"):
        export(iv, qwen, tmp_path / "a", format="peft", m=M)
