"""Sweeps: the replayed tail against the hooked full forward, pair by pair and unpadded."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from splitkit.steering import replay
from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.sweeps import matching_strength, sweep
from splitkit.steering.tokenization import answer_ids, prompt_ids
from tests.conftest import LAYER, random_intervention, tiny_model

GRID = [-3.0, -0.5, 0.0, 1.0, 4.0]


def hooked_loss(model, tokenizer, iv, question: str, answer: str, m: float) -> float:
    """One sequence, no padding, the whole model under the hook."""
    prompt, target = prompt_ids(tokenizer, question), answer_ids(tokenizer, answer)
    with iv.applied(model, m), torch.no_grad():
        logits = model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
    return functional.cross_entropy(logits, torch.tensor(target)).item()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_equals_the_hooked_full_forward(model, form, sided_tokenizer, pairs, layer) -> None:
    iv = random_intervention(model, form, layer)
    table = sweep(model, sided_tokenizer, iv, pairs, m=GRID, token_budget=300)
    columns = ["m", "pair", "loss_positive", "loss_negative", "preference", "utility", "push"]
    assert list(table.columns) == columns
    assert len(table) == len(GRID) * len(pairs)
    for row in table[table["pair"].isin([0, 3])].itertuples():
        pair = pairs[row.pair]
        for found, answer in ((row.loss_positive, pair.positive), (row.loss_negative, pair.negative)):
            expected = hooked_loss(model, sided_tokenizer, iv, pair.question, answer, row.m)
            assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("layer", [0, 2])
def test_push_is_how_far_the_stream_is_moved(model, form, tokenizer, pairs, layer) -> None:
    iv = random_intervention(model, form, layer)
    table = sweep(model, tokenizer, iv, pairs[:2], m=[0.0, 2.0]).set_index(["m", "pair"])["push"]
    assert (table.loc[0.0] == 0).all()
    for number, pair in enumerate(pairs[:2]):
        shares = []
        for answer in (pair.positive, pair.negative):
            ids = torch.tensor([prompt_ids(tokenizer, pair.question) + answer_ids(tokenizer, answer)])
            with torch.no_grad(), replay.leaving(model.model.layers[layer]) as seen:
                model(ids)
            with (
                torch.no_grad(),
                iv.applied(model, 2.0),
                replay.leaving(model.model.layers[layer]) as steered,
            ):
                model(ids)
            share = (steered[0] - seen[0]).norm(dim=-1) / seen[0].norm(dim=-1)
            shares.append(share[ids != model.config.bos_token_id])
        assert table.loc[2.0, number] == pytest.approx(torch.cat(shares).median().item(), rel=1e-4)


def test_push_does_not_depend_on_how_the_layers_run(form, tokenizer, pairs, monkeypatch) -> None:
    model = tiny_model("gemma2")
    iv, other = random_intervention(model, form), random_intervention(model, "vector", LAYER + 1)
    cut = sweep(model, tokenizer, iv, pairs, m=GRID, tokens="answer")
    # a sum runs the whole model; of a term that does nothing the stream is moved at the upper layer alone
    both = sweep(model, tokenizer, iv + 0.0 * other, pairs[:1], m=[0.0, 1.0])
    assert both["push"][0] == 0 < both["push"][1]
    monkeypatch.setattr(replay, "_proven_run", lambda *_: "model")
    monkeypatch.setattr(replay, "_own_hooks", lambda _: [1])
    whole = sweep(model, tokenizer, iv, pairs, m=GRID, tokens="answer")
    np.testing.assert_allclose(whole["push"], cut["push"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole["loss_positive"], cut["loss_positive"], atol=1e-5)


def test_log_odds_follow_from_the_losses(tokenizer, pairs) -> None:
    model = tiny_model("qwen2")
    table = sweep(model, tokenizer, random_intervention(model, "lora"), pairs, m=GRID)
    mass = np.exp(-table["loss_positive"]) + np.exp(-table["loss_negative"])
    np.testing.assert_allclose(table["preference"], table["loss_negative"] - table["loss_positive"])
    np.testing.assert_allclose(table["utility"], np.log(mass / (1 - mass)))


def test_batches_and_order_change_nothing(model, form, tokenizer, pairs) -> None:
    iv = random_intervention(model, form)
    one = sweep(model, tokenizer, iv, pairs, m=GRID, token_budget=1).set_index(["m", "pair"])
    big = sweep(model, tokenizer, iv, pairs[::-1], m=GRID[::-1])
    big["pair"] = len(pairs) - 1 - big["pair"]
    np.testing.assert_allclose(big.set_index(["m", "pair"]).loc[one.index], one, atol=1e-5)


def test_zero_is_the_base_model_and_sum_is_mean_times_length(model, form, tokenizer, pairs) -> None:
    iv = random_intervention(model, form)
    mean = sweep(model, tokenizer, iv, pairs, m=0.0)
    other = sweep(model, tokenizer, random_intervention(model, form, seed=9), pairs, m=[0.0])
    assert mean.equals(other)
    total = sweep(model, tokenizer, iv, pairs, m=0.0, reduction="sum")
    lengths = [len(answer_ids(tokenizer, pair.positive)) for pair in pairs]
    np.testing.assert_allclose(total["loss_positive"], mean["loss_positive"] * lengths)


def test_the_model_is_left_as_it_was(model, form, tokenizer, pairs) -> None:
    model.train()
    digest, flags = model_digest(model), [parameter.requires_grad for parameter in model.parameters()]
    sweep(model, tokenizer, random_intervention(model, form), pairs, m=GRID)
    assert model.training
    assert model_digest(model) == digest
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_matching_strength_is_the_ratio_of_typical_norms(model, form, tokenizer, pairs) -> None:
    iv = random_intervention(model, form)
    found = matching_strength(model, tokenizer, iv, pairs)
    layer, h, dh = model.model.layers[LAYER], [], []
    gemma = model.config.model_type == "gemma2"
    norm = layer.pre_feedforward_layernorm if gemma else layer.post_attention_layernorm
    kept: dict[str, torch.Tensor] = {}
    layer.register_forward_hook(lambda _, __, out: kept.update(output=out))
    layer.mlp.down_proj.register_forward_hook(lambda _, args, out: kept.update(x=args[0], down=out))
    norm.register_forward_pre_hook(lambda _, args: kept.update(residual=args[0]))
    target = "output" if form == "vector" else "down" if gemma else "residual"
    for pair in pairs:
        for answer in (pair.positive, pair.negative):
            ids = prompt_ids(tokenizer, pair.question) + answer_ids(tokenizer, answer)
            model(torch.tensor([ids]))
            h.append(kept[target][0, 1:].norm(dim=-1))
            dh.append(iv.delta(kept["x"])[0, 1:].norm(dim=-1))
    assert found == pytest.approx((torch.cat(h).median() / torch.cat(dh).median()).item(), rel=1e-4)
    assert math.isfinite(found)


def test_bad_input_is_refused(tokenizer, pairs) -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, "vector")
    with pytest.raises(ValueError, match="empty"):
        sweep(model, tokenizer, iv, [], m=GRID)
    with pytest.raises(ValueError, match="twice"):
        sweep(model, tokenizer, iv, pairs, m=[1.0, 1.0])
    with pytest.raises(ValueError, match="m must be finite"):
        sweep(model, tokenizer, iv, pairs, m=[1.0, math.nan])
    with pytest.raises(ValueError, match=r"not of shape \(0,\)"):
        sweep(model, tokenizer, iv, pairs, m=[])
    with pytest.raises(TypeError, match="Intervention is wanted, not a NoneType"):
        sweep(model, tokenizer, None, pairs, m=GRID)
    with pytest.raises(ValueError, match="mean, sum"):
        sweep(model, tokenizer, iv, pairs, m=GRID, reduction="median")
    with pytest.raises(ValueError, match="another base model"):
        sweep(tiny_model("llama", seed=5), tokenizer, iv, pairs, m=GRID)
    with iv.applied(model, 1.0), pytest.raises(ValueError, match="leave its `with` first"):
        sweep(model, tokenizer, iv, pairs, m=GRID)
    nothing = Intervention("vector", "sft", LAYER, {"vector": torch.zeros(32)}, model_digest(model))
    with pytest.raises(ValueError, match="changes nothing"):
        matching_strength(model, tokenizer, nothing, pairs)


def test_losses_that_are_not_finite_are_refused_with_their_strengths(tokenizer, pairs) -> None:
    model = tiny_model("qwen2")
    digest = random_intervention(model, "vector").base_digest
    width = model.config.hidden_size
    huge = Intervention("vector", "mine", LAYER, {"vector": torch.full((width,), 1e4)}, digest)
    with pytest.raises(FloatingPointError, match=r"at m = \[1e\+38\].*float32"):
        sweep(model, tokenizer, huge, pairs, m=[0.0, 1.0, 1e38])
