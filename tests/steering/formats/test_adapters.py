"""Adapters' folders: merged into the base model that they name; what cannot be merged is said."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from splitkit.steering.formats.sources import source_of
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.models import load_model
from tests.conftest import tiny_model, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LoRA's folder beside its base model's, which it names by a relative path."""
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    adapted = get_peft_model(tiny_model("llama"), LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    adapted.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    content = json.loads(config.read_text()) | {"base_model_name_or_path": "../base"}
    config.write_text(json.dumps(content))
    return tmp_path / "adapter"


def test_an_adapter_is_merged_into_its_base(folder: Path) -> None:
    from peft import PeftModel

    model, tokenizer = load_model(folder)
    ids = torch.tensor([[1, 40, 50, 60]])
    expected = PeftModel.from_pretrained(tiny_model("llama"), folder)(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, rtol=0, atol=1e-5)
    assert (expected - tiny_model("llama")(ids).logits).abs().max() > 1e-2
    assert model_digest(model) != model_digest(tiny_model("llama")) and tokenizer.chat_template
    assert [name for name, _ in model.named_parameters()] == [
        name for name, _ in tiny_model("llama").named_parameters()
    ]
    source = source_of(model)["source"]
    assert source["file"] == "adapter" and source["base"].endswith("base") and len(source["sha256"]) == 64


def test_what_is_no_adapter_of_weights_is_said(folder: Path, tmp_path: Path) -> None:
    config = folder / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"base_model_name_or_path": None}))
    with pytest.raises(ValueError, match="names no base model"):
        load_model(folder)
    config.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        load_model(folder)
    config.write_text(json.dumps(content))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ValueError, match="does not load on its base model"):
        load_model(folder)
    prompts = tmp_path / "prompts"
    get_peft_model(
        tiny_model("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    ).save_pretrained(prompts)
    found = json.loads((prompts / "adapter_config.json").read_text())
    (prompts / "adapter_config.json").write_text(
        json.dumps(found | {"base_model_name_or_path": str(tmp_path / "base")})
    )
    with pytest.raises(ValueError, match="learned prompts"):
        load_model(prompts)


def test_a_folder_that_is_no_whole_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no whole model's folder, it has no config.json"):
        load_model(tmp_path)
    tiny_model("llama").config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="weights are missing, which have to be safetensors"):
        load_model(tmp_path)


def test_a_base_that_is_not_there_is_told_as_the_adapters(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/nowhere/at/all"}')
    with pytest.raises(FileNotFoundError, match="no model folder '/nowhere/at/all'") as caught:
        load_model(tmp_path)
    assert "base model of the adapter" in "".join(caught.value.__notes__)
