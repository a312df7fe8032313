"""Sites: steering is exact on every known architecture, whole or replayed; others say what to give."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from splitkit.steering.architectures import SITES, SitePaths, check_layer, layer_list, resolve_sites
from splitkit.steering.generation import answers
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.replay import Replay, check_replay
from splitkit.steering.rewriting import rewritten
from splitkit.steering.sweeps import matching_strength, sweep
from splitkit.steering.tokenization import answer_ids, batches, encode_pairs, prompt_ids
from splitkit.steering.training import train
from tests.architectures import ARCHITECTURES, architecture
from tests.conftest import random_intervention

IDS = torch.tensor([[1, 40, 50, 60, 70], [1, 41, 51, 61, 71]])
GRID = [-2.0, -0.5, 0.0, 1.5]


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return architecture(request.param)


@pytest.fixture
def unlisted() -> Iterator[dict[str, SitePaths]]:
    """`SITES` to write into; it is as it was afterwards."""
    before = dict(SITES)
    yield SITES
    SITES.clear()
    SITES.update(before)


def hooked_loss(model, tokenizer, iv, question: str, answer: str, m: float) -> float:
    """One sequence, no padding, the whole model under the hook."""
    prompt, target = prompt_ids(tokenizer, question), answer_ids(tokenizer, answer)
    with iv.applied(model, m), torch.no_grad():
        logits = model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
    return functional.cross_entropy(logits, torch.tensor(target)).item()


def test_zero_is_the_base_model_bit_for_bit(model, form) -> None:
    iv, base = random_intervention(model, form, layer=0), model(IDS).logits
    with iv.applied(model, 0):
        assert torch.equal(model(IDS).logits, base)
    with iv.applied(model, [0.0, 1.0]):
        steered = model(IDS).logits
    assert torch.equal(steered[0], base[0])
    assert (steered[1] - base[1]).abs().max() > 1e-2
    assert torch.equal(model(IDS).logits, base)


def test_equals_rewritten_weights(model, form) -> None:
    model.double()
    iv, ids = random_intervention(model, form), IDS[:, 1:]  # weights cannot leave BOS out
    base = model(ids).logits
    for m in (-2.0, 0.5):
        with iv.applied(model, m), torch.no_grad():
            steered = model(ids).logits
        torch.testing.assert_close(steered, rewritten(model, iv, m)(ids).logits, rtol=0, atol=1e-12)
        assert (steered - base).abs().max() > 1e-2


@pytest.mark.parametrize("layer", [0, 1])
def test_a_sweep_equals_the_hooked_full_forward(model, form, sided_tokenizer, pairs, layer) -> None:
    iv = random_intervention(model, form, layer)
    table = sweep(model, sided_tokenizer, iv, pairs, m=GRID, token_budget=300)
    for row in table[table["pair"].isin([0, 3])].itertuples():
        pair = pairs[row.pair]
        for found, answer in ((row.loss_positive, pair.positive), (row.loss_negative, pair.negative)):
            expected = hooked_loss(model, sided_tokenizer, iv, pair.question, answer, row.m)
            assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_recorded_is_what_the_layer_computes(model, form, tokenizer, pairs, layer) -> None:
    batch = next(batches(tokenizer, encode_pairs(model, tokenizer, pairs)[0]))
    replay = Replay(model, layer, form)
    with torch.no_grad():
        recording = replay.record(batch)
        dh = 1 + torch.zeros_like(recording.activations["output"])
        steered = replay.steered(recording, dh, torch.zeros(len(pairs)))
    seen = recording.activations
    assert torch.equal(steered, seen["output"])
    if form != "vector":
        after = replay.sites.after_down
        ffn = seen["down_output"] if after is None else after(seen["down_output"])
        torch.testing.assert_close(seen["residual"] + ffn, seen["output"], rtol=0, atol=1e-5)


def test_generates_with_left_padding_and_m_per_row(model, form, tokenizer) -> None:
    iv, questions, m = random_intervention(model, form), ["Who?", "Tell me a word."], [1.0, -2.0]
    together = answers(model, tokenizer, questions, intervention=iv, m=m, max_new_tokens=6)
    for row, question in enumerate(questions):
        alone = answers(model, tokenizer, [question], intervention=iv, m=m[row], max_new_tokens=6)
        assert alone == [together[row]]
    assert answers(model, tokenizer, questions, intervention=iv, m=[-3.0, 3.0], max_new_tokens=6) != together


def test_trains_and_has_a_matching_strength(model, form, tokenizer, pairs) -> None:
    digest = model_digest(model)
    iv = train(model, tokenizer, pairs, form, "sft", epochs=1, batch_size=2, rank=2)
    assert matching_strength(model, tokenizer, iv, pairs) > 0
    assert model_digest(model) == digest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_steer_in_float32(model, form, dtype, tokenizer, pairs) -> None:
    model.to(dtype)
    iv = random_intervention(model, form)
    base = model(IDS).logits
    with iv.applied(model, [0.0, 1.0]):
        steered = model(IDS).logits
    assert steered.dtype == dtype and torch.equal(steered[0], base[0])
    batch = next(batches(tokenizer, encode_pairs(model, tokenizer, pairs)[0]))
    replay, m = Replay(model, 1, form), torch.linspace(-1, 1, len(pairs))
    with torch.no_grad():
        recording = replay.record(batch)
        dh = iv.delta(recording.x)
        assert dh.dtype == torch.float32
        found = replay.steered(recording, dh, m)
        seen: list[Any] = []
        with iv.applied(model, m):
            handle = replay.sites.layer.register_forward_hook(lambda _, __, out: seen.append(out))
            model(batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids)
            handle.remove()
        assert replay.losses(recording, dh, m).dtype == torch.float32
    filled = batch.attention_mask.bool()
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found[filled], seen[0][filled], rtol=4 * eps, atol=8 * eps)


def test_sizes_are_those_of_the_projection(model) -> None:
    sites = resolve_sites(model, 1)
    assert (sites.width, sites.down_width) == (32, 48)
    assert sites.transposed == (model.config.model_type == "gpt2")
    assert sites.proven and len(layer_list(model)) == 2 and check_layer(model, None) == 1


@pytest.mark.parametrize("paths", [None, SitePaths(layer_path="model.layers", down_path="mlp.down_proj")])
def test_an_unlisted_architecture_is_found_or_named(unlisted, form, tokenizer, pairs, paths) -> None:
    model = architecture("qwen3")
    iv = random_intervention(model, form)
    expected = sweep(model, tokenizer, iv, pairs, m=GRID)
    del unlisted["qwen3"]
    if paths is not None:
        unlisted["qwen3"] = paths
    found = sweep(model, tokenizer, iv, pairs, m=GRID)
    torch.testing.assert_close(
        torch.tensor(found["loss_positive"]), torch.tensor(expected["loss_positive"]), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (SitePaths("model.blocks"), r"layer_path 'model.blocks' leads nowhere: model \(Qwen3Model\) has no"),
        (SitePaths("model.norm"), "leads to a Qwen3RMSNorm, not to a list of layers"),
        (SitePaths(down_path="ffn.down"), "no 'ffn', it has self_attn, mlp"),
        (SitePaths(down_path="mlp"), "leads to a Qwen3MLP; the down-projection is a Linear or a Conv1D"),
        (SitePaths(residual_path="ln_2"), "residual_path 'ln_2' leads nowhere"),
        (SitePaths(after_down_path="ln_2"), "after_down_path 'ln_2' leads nowhere"),
        (SitePaths(position_path="wpe"), "position_path 'wpe' leads nowhere"),
    ],
)
def test_paths_that_lead_nowhere_list_what_is_there(unlisted, paths, message) -> None:
    unlisted["qwen3"] = paths
    with pytest.raises(ValueError, match=message):
        resolve_sites(architecture("qwen3"), 0, "down")


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("gemma2", SitePaths()),  # the norm after the down-projection is not named
        ("olmo2", SitePaths(residual_path="mlp")),
        ("gpt2", SitePaths("transformer.h", "mlp.c_proj")),  # nor are the positions
        ("gpt_neox_parallel", SitePaths("gpt_neox.layers", "mlp.dense_4h_to_h", "input_layernorm")),
        ("qwen2", SitePaths(residual_path="input_layernorm")),
        ("qwen2", SitePaths(after_down_path="post_attention_layernorm")),
    ],
)
def test_where_sites_do_not_rebuild_the_model_it_runs_whole(unlisted, name, paths, tokenizer, pairs) -> None:
    model, pairs = architecture(name), pairs[:2]
    iv = random_intervention(model, "local_weight", 0)
    if name == "gpt_neox_parallel":
        model.config.use_parallel_residual = False  # so that the path is taken as it is given
    unlisted[model.config.model_type] = paths
    with pytest.warns(UserWarning, match=r"do not run alone.*SITES\['\w+'\] does not describe"):
        table = sweep(model, tokenizer, iv, pairs, m=[1.5])
    for row in table.itertuples():
        pair = pairs[row.pair]
        expected = hooked_loss(model, tokenizer, iv, pair.question, pair.positive, row.m)
        assert row.loss_positive == pytest.approx(expected, abs=1e-5)


def test_the_check_holds_for_every_known_architecture(model, form) -> None:
    for layer in (0, 1):
        check_replay(model, layer, form, Replay(model, layer, form))
    with pytest.raises(ValueError, match="the loss differs by"):
        check_replay(model, 0, form, Replay(model, 1, form))
