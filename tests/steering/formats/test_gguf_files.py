"""GGUF files: the model that was written is the one that is loaded, an ordinary one, and damage is named."""

import hashlib
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import BitsAndBytesConfig

from splitkit.steering import model_files
from splitkit.steering.formats import gguf_files, hub
from splitkit.steering.formats.sources import source_of
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.models import load_model
from splitkit.steering.training import train
from tests.conftest import tiny_model, tiny_tokenizer

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    """The GGUF name of a Qwen 2 parameter."""
    name = name.removeprefix("model.")
    if not name.startswith("layers."):
        outer = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
        head, kind = name.rsplit(".", 1)
        return f"{outer[head]}.{kind}"
    _, number, rest = name.split(".", 2)
    inner, kind = rest.rsplit(".", 1)
    return f"blk.{number}.{NAMES[inner]}.{kind}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen 2 in float32 with a byte-level tokenizer and a chat template."""
    model, tokenizer = tiny_model("qwen2"), tiny_tokenizer()
    config, path = model.config, tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    # transformers reads no file without merges, and adds this token where it is not
    tokens[-1], tokens[3] = "ab", "<|endoftext|>"
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 5 + [1] * (len(tokens) - 5))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template(tokenizer.chat_template)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(gguf_name(name), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_model_of_a_file_is_an_ordinary_one(file: Path, tmp_path: Path, pairs, monkeypatch) -> None:
    monkeypatch.chdir(file.parent)
    reader = gguf.GGUFReader
    model, tokenizer = load_model(file.name)  # a relative path
    assert gguf.GGUFReader is reader
    wanted = tiny_model("qwen2")
    for (name, found), expected in zip(model.state_dict().items(), wanted.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name
    ids = torch.tensor([[1, 40, 50]])
    torch.testing.assert_close(model(ids).logits, wanted(ids).logits)
    assert tokenizer.chat_template and tokenizer.pad_token_id == 0 and not model.training
    # saved and trained as any other; the intervention says which file its base is
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert model_digest(load_model(tmp_path)[0]) == model_digest(model)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    iv = train(model, tokenizer, pairs, "vector", "diffmean")
    assert iv.details["source"] == {"file": "tiny.gguf", "sha256": sha256}
    assert model_files.named_model_digest(str(file)) == sha256
    assert (model_files.architecture(str(file)), model_files.depth(str(file))) == ("qwen2", 3)


def test_what_is_read_fast_is_what_the_libraries_read(file: Path) -> None:
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    wanted = load_gguf_checkpoint(str(file))
    blocks = {
        kind: np.random.default_rng(0).integers(0, 120, (3, 600, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
        for kind in (gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.Q5_0)
    }
    blocks[gguf.GGMLQuantizationType.F16] = blocks[gguf.GGMLQuantizationType.Q4_K]
    plain = {kind: gguf.dequantize(data, kind) for kind, data in blocks.items()}
    with gguf_files.read_once():
        from transformers import modeling_gguf_pytorch_utils as loading

        assert loading.load_gguf_checkpoint(str(file)) == wanted
        assert {"tokens", "token_type", "merges"} <= set(wanted["tokenizer"])
        for kind, data in blocks.items():
            assert np.array_equal(gguf.dequantize(data, kind), plain[kind]), kind


@pytest.mark.parametrize("at", [8, 20, 28, 200])
def test_a_damaged_header_is_named(file: Path, tmp_path: Path, at: int) -> None:
    content, damaged = bytearray(file.read_bytes()), tmp_path / "damaged.gguf"
    content[at : at + 8] = b"\xff" * 8
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.gguf is damaged"):
        load_model(damaged)


def test_weights_that_the_file_lacks_are_never_random_ones(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(file.read_bytes().replace(b"blk.1.ffn_norm", b"blk.1.ffn_nxrm"))
    with pytest.raises(ValueError, match=r"lacks 1 of .*: model.layers.1.post_attention_layernorm.weight"):
        load_model(other)


def test_home_and_types(file: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    load_model("~/tiny.gguf")
    assert capsys.readouterr().err == ""
    model, _ = load_model("~/tiny.gguf", dtype="bfloat16", progress=True)
    assert "100%" in capsys.readouterr().err
    assert model.dtype == torch.bfloat16 and source_of(model)["source"]["file"] == "tiny.gguf"
    assert model_files.full_name("~/tiny.gguf") == str(file)


def test_what_is_no_gguf_file_is_named(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, short = tmp_path / "other.gguf", tmp_path / "short.gguf"
    other.write_bytes(b"something else")
    whole = file.read_bytes()
    with pytest.raises(ValueError, match=r"other.gguf is no GGUF file"):
        load_model(other)
    for kept in (3000, len(whole) - 10):
        short.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"GGUF file .*short.gguf is cut short: fetch it again"):
            load_model(short)
    for missing in ("./missing.gguf", "missing.gguf"):
        with pytest.raises(FileNotFoundError, match=r"no such GGUF file"):
            load_model(missing)
    with pytest.raises(FileNotFoundError, match=r"it holds GGUF files, name one: .*other.gguf"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match=r"leave quantization_config out"):
        load_model(file, quantization_config=BitsAndBytesConfig())
    monkeypatch.setattr(gguf_files, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install '\.\[gguf\]'"):
        load_model(file)


def test_a_file_is_found_by_its_name_below_the_folder_of_models(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITKIT_MODELS", str(tmp_path))
    place = tmp_path / "deep" / "tiny.gguf"
    place.parent.mkdir()
    place.symlink_to(file)
    for name in ("tiny.gguf", "deep/tiny.gguf"):
        assert model_files.find(name) == place and model_files.full_name(name) == str(file.resolve())
    model, _ = load_model("tiny.gguf")
    assert source_of(model)["source"]["file"] == "tiny.gguf"
    assert model_files.gguf_file("../deep/tiny.gguf") is None
    with pytest.raises(FileNotFoundError, match="no such GGUF file: 'other.gguf'. It is named by its path"):
        load_model("other.gguf")
    (tmp_path / "tiny.gguf").symlink_to(file)
    with pytest.raises(ValueError, match="2 files 'tiny.gguf': name one of deep/tiny.gguf, tiny.gguf"):
        load_model("tiny.gguf")


def test_a_file_on_the_hub_is_named_with_its_repository(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub.HfApi, "model_info", lambda self, name, timeout: None)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *asked: file if asked == ("o/n", "deep/a.gguf") else 0)
    assert hub.hub_file("o/n/deep/a.gguf") == file
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: str(tmp_path))
    assert hub.hub_file("o/n/a.gguf") == tmp_path
