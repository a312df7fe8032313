"""Settings of nested configs, and BOS wherever it is known from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, PreTrainedModel

from splitkit.steering import architectures
from splitkit.steering.architectures import SitePaths
from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention, load_intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.prompts.settings import bos_ids, steered_tokens, text_config, text_setting
from splitkit.steering.sweeps import matching_strength, sweep
from splitkit.steering.tokenization import answer_ids, check_tokenizer, encode_pairs, prompt_ids
from splitkit.steering.training import train
from tests.conftest import tiny_model, tiny_tokenizer

IDS = torch.tensor([[1, 7, 8, 1, 9]])
BOS = 1


def without_bos(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, whose configs do not say what BOS is."""
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    return model


def wrapper() -> PreTrainedModel:
    """A random multimodal model; everything about its text is nested in its config."""
    common = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    text = common | dict(
        vocab_size=261,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=96,
        initializer_range=0.15,
        bos_token_id=BOS,
        eos_token_id=2,
        pad_token_id=0,
    )
    vision = common | dict(image_size=8, patch_size=4)
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text, vision_config=vision, image_token_index=260)
    return Gemma3ForConditionalGeneration(config).eval()


def vector(model: PreTrainedModel, hidden: int = 32) -> Intervention:
    values = 3 * torch.randn(hidden, generator=torch.Generator().manual_seed(1))
    return Intervention("vector", "mine", 0, {"vector": values}, model_digest(model))


def moved(model: PreTrainedModel, layer: torch.nn.Module, iv: Intervention, ids: torch.Tensor) -> list[bool]:
    """Which tokens the layer's output differs at, in a pass of the whole model."""
    seen = []
    handle = layer.register_forward_hook(
        lambda *a: seen.append(a[2][0] if isinstance(a[2], tuple) else a[2]), prepend=False
    )
    with torch.no_grad():
        model(ids)
        with iv.applied(model, 1.0):
            late = layer.register_forward_hook(
                lambda *a: seen.append(a[2][0] if isinstance(a[2], tuple) else a[2])
            )
            model(ids)
            late.remove()
    handle.remove()
    return (seen[0] != seen[-1]).any(-1)[0].tolist()


def test_a_setting_is_found_wherever_the_config_has_it() -> None:
    text = SimpleNamespace(vocab_size=7, hidden_size=4, bos_token_id=3, final_logit_softcapping=None)
    # classes of their own lack get_text_config
    for config in (SimpleNamespace(llm_config=text, vocab_size=9), text, Gemma3Config(text_config={})):
        assert text_config(config).hidden_size
    model = SimpleNamespace(config=SimpleNamespace(llm_config=text, vocab_size=9, room=5))
    assert text_setting(model, "vocab_size") == 7 and text_setting(model, "room") == 5
    assert text_setting(model, "final_logit_softcapping") is None
    assert text_setting(model, "nothing", 8) == 8


def test_every_setting_of_a_wrapper_is_its_text_part_s(monkeypatch, pairs, tokenizer) -> None:
    model = wrapper()
    paths = SitePaths("model.language_model.layers", after_down_path="post_feedforward_layernorm")
    monkeypatch.setitem(architectures.SITES, "gemma3", paths)
    assert bos_ids(model) == (BOS,) and text_setting(model, "vocab_size") == 261
    iv = vector(model)
    layer = model.model.language_model.layers[0]
    assert moved(model, layer, iv, IDS) == [False, True, True, False, True]
    with pytest.raises(ValueError, match="takes 96"):
        encode_pairs(model, tokenizer, [type(pairs[0])("Why?", "So.", "Because " * 20)])
    table = sweep(model, tokenizer, iv, pairs[:2], m=[0.5])
    ids = [*prompt_ids(tokenizer, pairs[0].question), *answer_ids(tokenizer, pairs[0].positive)]
    with torch.no_grad(), iv.applied(model, 0.5):
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    start = len(prompt_ids(tokenizer, pairs[0].question))
    expected = -logits[range(start - 1, len(ids) - 1), ids[start:]].mean().item()
    assert table["loss_positive"][0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("stated", ["config", "generation_config", "tokenizer", "details"])
def test_bos_is_not_steered_wherever_it_is_known_from(stated: str, tokenizer) -> None:
    model = without_bos(tiny_model("llama"))
    iv = vector(model)
    layer = model.model.layers[0]
    assert moved(model, layer, iv, IDS) == [True] * 5
    if stated == "tokenizer":
        check_tokenizer(model, tokenizer)
    elif stated == "details":
        iv.details["bos_token_id"] = BOS
    else:
        getattr(model, stated).bos_token_id = BOS
    assert moved(model, layer, iv, IDS) == [False, True, True, False, True]


def test_a_trained_intervention_remembers_the_tokenizer_s_bos(tmp_path: Path, tokenizer, pairs) -> None:
    known, model = tiny_model("llama"), without_bos(tiny_model("llama"))
    both = [train(one, tokenizer, pairs, "vector", "sft", epochs=1) for one in (known, model)]
    # as if the config knew it, in every number
    assert torch.equal(*(iv.parameters["vector"] for iv in both))
    tables = [
        sweep(one, tokenizer, iv, pairs, [0.0, 1.0]) for one, iv in zip((known, model), both, strict=True)
    ]
    assert tables[0].equals(tables[1])
    units = [
        matching_strength(one, tokenizer, iv, pairs) for one, iv in zip((known, model), both, strict=True)
    ]
    assert units[0] == units[1]
    asked = dict(questions=["Who?"], m=8.0, max_new_tokens=6)
    texts = [
        answers(o, tokenizer, intervention=iv, **asked) for o, iv in zip((known, model), both, strict=True)
    ]
    assert texts[0] == texts[1]
    assert "bos_token_id" not in both[0].details and both[1].details["bos_token_id"] == BOS
    fresh = without_bos(tiny_model("llama"))
    loaded = load_intervention(both[1].save(tmp_path / "iv"))
    with torch.no_grad(), loaded.applied(fresh, 8.0), both[0].applied(known, 8.0):
        assert torch.equal(fresh(IDS).logits, known(IDS).logits)


def test_one_token_in_several_roles_is_bos_in_all_of_them() -> None:
    assert steered_tokens(torch.tensor([[2, 5, 2]]), (2,)).tolist() == [[False, True, False]]
    assert steered_tokens(torch.tensor([[2, 5, 3]]), (2, 3)).tolist() == [[False, True, False]]
    assert steered_tokens(torch.tensor([[2, 5]]), ()).all()
    model, many = tiny_model("llama"), tiny_tokenizer()
    many.bos_token = many.pad_token = many.eos_token
    model.config.bos_token_id = model.config.pad_token_id = 2
    check_tokenizer(model, many)
    assert bos_ids(model) == (1, 2)  # the generation config still says 1
