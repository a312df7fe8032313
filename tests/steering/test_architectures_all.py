"""Any decoder: every form is exact on architectures that nobody named, replayed or under hooks.

The table is `ALL`: an architecture, where its layers and its down-projection are (said here once more, for
what splitkit finds to be compared with), and what a sweep runs. The reference has a hook of its own.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import functional
from transformers import AutoConfig, PreTrainedModel

from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention
from splitkit.steering.memory import auto_class
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.pairs import Pair
from splitkit.steering.replay import Replay
from splitkit.steering.sweeps import matching_strength, sweep
from splitkit.steering.tokenization import answer_ids, prompt_ids
from splitkit.steering.training import train

LAYER, BOS, WIDTH = 1, 1, 16
PAIRS = [Pair("Who?", "Me, of course.", "You"), Pair("Say a word", "Tide", "Stone!")]

_SPECIAL: dict[str, Any] = dict(vocab_size=261, pad_token_id=0, bos_token_id=BOS, eos_token_id=2)
_PLAIN = _SPECIAL | dict(
    hidden_size=WIDTH,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=96,
    initializer_range=0.3,
)
_WITHOUT_HEAD_SIZE = {key: value for key, value in _PLAIN.items() if key != "head_dim"}
_EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8)
_LOCAL = dict(num_local_experts=4, num_experts_per_tok=2)
_ROUTED = dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, n_group=1, topk_group=1)
_LINEAR = dict(
    linear_num_key_heads=2,
    linear_num_value_heads=2,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    layer_types=["linear_attention", "full_attention", "linear_attention"],
)
_PER_LAYER = dict(
    num_hidden_layers=4,
    vocab_size_per_layer_input=261,
    hidden_size_per_layer_input=8,
    num_kv_shared_layers=2,
    layer_types=["sliding_attention", "full_attention"] * 2,
)
_MAMBA = _SPECIAL | dict(hidden_size=WIDTH, num_hidden_layers=3, state_size=8, initializer_range=0.3)
_LATENT = dict(kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8)
_GRANITE = dict(logits_scaling=4.0, residual_multiplier=0.5, embedding_multiplier=2.0)


_SECTIONS = dict(rope_type="default", rope_theta=10_000.0, mrope_section=[2, 1, 1])
_VISION = dict(num_hidden_layers=1, intermediate_size=16, num_attention_heads=2, image_size=28, depth=1)
_VISION |= dict(hidden_size=16, num_heads=2, out_hidden_size=WIDTH)


class Case(NamedTuple):
    """A model type, its settings, its down-projection (None: no single one) and `Replay.runs` by form."""

    kind: str
    settings: dict[str, Any] = _PLAIN
    down: str | None = "mlp.down_proj"
    vector: str = "tail"
    weight: str = "tail"
    layers: str = "model.layers"


def _moe(kind: str, *changes: dict[str, Any], vector: str = "tail") -> Case:
    return Case(
        kind, {key: value for part in (_PLAIN, *changes) for key, value in part.items()}, None, vector
    )


def _wrapped(kind: str, text: str, *changes: dict[str, Any], runs: str = "tail") -> Case:
    """A multimodal model, whose own config says nothing of its text part."""
    settings = {key: value for part in (_PLAIN, *changes) for key, value in part.items()}
    whole = dict(text_config=settings | {"model_type": text}, vision_config=_VISION)
    return Case(kind, whole, vector=runs, weight=runs, layers="model.language_model.layers")


_SHARED = dict(shared_expert_intermediate_size=8)
ALL = {
    case.kind: case
    for case in (
        *(Case(kind) for kind in ("gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "llama", "mistral")),
        *(
            Case(kind)
            for kind in ("ministral", "ministral3", "olmo", "olmo2", "olmo3", "smollm3", "stablelm")
        ),
        *(Case(kind) for kind in ("glm4", "exaone4", "cohere", "cohere2")),
        Case("phi3", _WITHOUT_HEAD_SIZE),
        Case(
            "gpt2",
            _SPECIAL
            | dict(n_embd=16, n_inner=24, n_layer=3, n_head=2, n_positions=96, initializer_range=0.3),
            "mlp.c_proj",
            layers="transformer.h",
        ),
        Case("gpt_neox", _PLAIN, "mlp.dense_4h_to_h", layers="gpt_neox.layers"),
        Case("falcon", _WITHOUT_HEAD_SIZE, "mlp.dense_4h_to_h", layers="transformer.h"),
        Case("granite", _PLAIN | _GRANITE, weight="decoder"),
        _moe("granitemoe", _LOCAL, _GRANITE),
        _moe("mixtral", _LOCAL),
        _moe("gpt_oss", _LOCAL),
        _moe("qwen2_moe", _EXPERTS, _SHARED),
        _moe("qwen3_moe", _EXPERTS),
        _moe("olmoe", _EXPERTS),
        _moe("deepseek_v3", _ROUTED, _LATENT, dict(first_k_dense_replace=1, num_key_value_heads=2)),
        _moe("glm4_moe", _ROUTED, dict(first_k_dense_replace=1)),
        Case("qwen3_5_text", _PLAIN | _LINEAR),
        _moe("qwen3_5_moe_text", _EXPERTS, _SHARED, _LINEAR),
        _moe("qwen3_next", _EXPERTS, _SHARED, _LINEAR),
        Case("lfm2", _PLAIN | dict(layer_types=["conv", "full_attention", "conv"]), "feed_forward.w2"),
        Case(
            "gemma3n_text",
            _PLAIN
            | _PER_LAYER
            | dict(laurel_rank=4, intermediate_size=[24] * 4, activation_sparsity_pattern=[0.0] * 4),
            vector="decoder",
            weight="decoder",
        ),
        Case(
            "gemma4_text", _PLAIN | _PER_LAYER | dict(global_head_dim=8), vector="decoder", weight="decoder"
        ),
        _wrapped("gemma3", "gemma3_text"),
        _wrapped("gemma4", "gemma4_text", _PER_LAYER, dict(global_head_dim=8), runs="decoder"),
        _wrapped("mistral3", "mistral"),
        _wrapped("qwen3_vl", "qwen3_vl_text", dict(rope_parameters=_SECTIONS)),
        Case("mamba", _MAMBA, None, "decoder", layers="backbone.layers"),
        Case(
            "mamba2",
            _MAMBA | dict(num_heads=4, head_dim=8, n_groups=1, chunk_size=16),
            None,
            "decoder",
            layers="backbone.layers",
        ),
        Case(
            "falcon_h1",
            _PLAIN
            | dict(mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=16)
            | dict(lm_head_multiplier=0.5),
            "feed_forward.down_proj",
            "model",
            "model",
        ),
    )
}


@cache
def made(name: str) -> PreTrainedModel:
    """The model of a case, in evaluation mode; norms and biases are random too. Nothing changes it."""
    torch.manual_seed(0)
    settings = dict(ALL[name].settings)
    vision = settings.pop("vision_config", {})
    config = AutoConfig.for_model(ALL[name].kind, **settings)
    for key, value in vision.items():
        if hasattr(config.vision_config, key):
            setattr(config.vision_config, key, value)
    model = auto_class(config).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(params=ALL)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def drawn(name: str, form: str) -> Intervention:
    """An intervention with random parameters, by shapes that are said here."""
    generator = torch.Generator().manual_seed(1)
    inner = 0 if ALL[name].down is None else down_of(name).in_features if form != "vector" else 0
    shapes = {
        "vector": {"vector": (WIDTH,)},
        "lora": {"A": (2, inner), "B": (WIDTH, 2)},
        "local_weight": {"weight": (WIDTH, inner), "bias": (WIDTH,)},
    }[form]
    parameters = {key: 0.5 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    return Intervention(form, "sft", LAYER, parameters, model_digest(made(name)))


def layer_of(name: str) -> Any:
    return made(name).get_submodule(ALL[name].layers)[LAYER]


def down_of(name: str) -> Any:
    found = layer_of(name).get_submodule(str(ALL[name].down))
    if not hasattr(found, "in_features"):
        found.in_features = found.weight.shape[0]  # GPT-2's Conv1D
    return found


@contextmanager
def by_hand(name: str, iv: Intervention, m: float, ids: torch.Tensor) -> Iterator[None]:
    """m dh by a plain hook, at every token but BOS."""
    p, acts = iv.parameters, m * (ids != BOS).float().unsqueeze(-1)

    def change(module: Any, args: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        dh = {
            "vector": lambda: p["vector"],
            "lora": lambda: args[0] @ p["A"].T @ p["B"].T,
            "local_weight": lambda: args[0] @ p["weight"].T + p["bias"],
        }[iv.form]()
        return (h + acts * dh, *output[1:]) if isinstance(output, tuple) else h + acts * dh

    handle = (layer_of(name) if iv.form == "vector" else down_of(name)).register_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()


def reference_loss(
    name: str, tokenizer: Any, iv: Intervention, question: str, answer: str, m: float
) -> float:
    """One sequence, no padding, the whole model; the mean over the answer's tokens."""
    prompt, target = prompt_ids(tokenizer, question), answer_ids(tokenizer, answer)
    ids = torch.tensor([prompt + target])
    with by_hand(name, iv, m, ids), torch.no_grad():
        logits = made(name)(ids).logits[0, len(prompt) - 1 : -1]
    return functional.cross_entropy(logits, torch.tensor(target)).item()


def quiet(call: Any) -> Any:
    """The call's value, without the warning that the whole model runs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the layers of a .* do not run alone")
        return call()


def check_form(name: str, form: str, tokenizer: Any) -> None:
    model, iv = made(name), drawn(name, form)
    ids = torch.tensor([[BOS, 40, 50, 60], [BOS, 41, 51, 61]])
    with torch.no_grad():
        base = model(ids).logits
        with iv.applied(model, [0.0, 1.0]):
            steered = model(ids).logits
        with by_hand(name, iv, 1.0, ids):
            expected = model(ids).logits
    # m = 0 is the base model, m = 1 the hook by hand
    torch.testing.assert_close(steered[0], base[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(steered[1], expected[1], rtol=1e-5, atol=1e-5)
    assert (expected - base).abs().max() > 1e-2
    with iv.applied(model, 0.0), torch.no_grad():
        assert torch.equal(model(ids).logits, base)
    # the sweep, with padding and the answers of both sides
    table = quiet(lambda: sweep(model, tokenizer, iv, PAIRS, m=[-1.0, 0.0, 2.0]))
    for row in table.itertuples():
        pair = PAIRS[row.pair]
        for found, answer in ((row.loss_positive, pair.positive), (row.loss_negative, pair.negative)):
            wanted = reference_loss(name, tokenizer, iv, pair.question, answer, row.m)
            assert found == pytest.approx(wanted, abs=2e-4)
    if form == "lora":
        return  # the rest is as for a local weight, which has the same place
    # training reads the gradient of what is swept, and the model stays as it is
    plain = dict(epochs=3, dropout=0.0, factor_min=1.0, factor_max=1.0, negative="none")
    trained = quiet(lambda: train(model, tokenizer, PAIRS, form, "sft", LAYER, **plain))
    assert trained.details["losses"][-1] < trained.details["losses"][0]
    assert model_digest(model) == iv.base_digest
    assert quiet(lambda: matching_strength(model, tokenizer, trained, PAIRS)) > 0
    # generation with a cache is generation without one
    prompt = prompt_ids(tokenizer, "Who?")
    longer = torch.tensor([prompt])
    for _ in range(4):
        with by_hand(name, iv, 1.5, longer), torch.no_grad():
            longer = torch.cat([longer, model(longer, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    with iv.applied(model, 1.5):
        cached = model.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False, eos_token_id=[260])
    assert cached.tolist() == longer.tolist()


def test_a_vector_is_exact(name, tokenizer) -> None:
    check_form(name, "vector", tokenizer)
    assert quiet(lambda: Replay(made(name), LAYER, "vector").runs) == ALL[name].vector


@pytest.mark.parametrize("form", ["local_weight", "lora"])
def test_weight_forms_are_exact_or_refused(name, form, tokenizer) -> None:
    if ALL[name].down is None:
        with pytest.raises(ValueError, match="no single down-projection.* 'vector' needs none.*down_path="):
            train(made(name), tokenizer, PAIRS, form, "sft", LAYER)
        return
    check_form(name, form, tokenizer)
    assert quiet(lambda: Replay(made(name), LAYER, form).runs) == ALL[name].weight


def test_questions_of_several_lengths_are_answered_together(name, tokenizer) -> None:
    iv, questions = drawn(name, "vector"), ["Who?", "Tell me a word."]
    model = made(name)
    alone = [
        answers(model, tokenizer, [question], intervention=iv, m=1.0, max_new_tokens=4)
        for question in questions
    ]
    together = answers(model, tokenizer, questions, intervention=iv, m=1.0, max_new_tokens=4)
    assert [[text] for text in together] == alone


def test_the_slower_way_is_said_once_per_layer(tokenizer) -> None:
    model, iv = made("mamba"), drawn("mamba", "vector")
    quiet(lambda: sweep(model, tokenizer, iv, PAIRS, m=[0.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(model, tokenizer, iv, PAIRS, m=[0.0])
    with pytest.warns(UserWarning, match="layers of a MambaForCausalLM.* do not run alone.*takes longer"):
        train(model, tokenizer, PAIRS, "vector", "sft", 0, epochs=1)
