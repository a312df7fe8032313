"""The identity of steering and rewritten weights holds, and what must differ differs."""

import pytest
import torch
from torch.nn import functional

from splitkit.studies import unified_view
from tests.conftest import ARCHITECTURES, TEMPLATE, tiny_model, tiny_tokenizer

STRENGTHS = (-2.0, 8.0)


def test_double_precision_reaches_the_norms() -> None:
    model = tiny_model("qwen2").double()
    norm, x = model.model.norm, torch.randn(2, 3, 32, dtype=torch.float64)
    by_hand = norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()
    with unified_view.DoublePrecision():
        exact = norm(x)
        assert functional.softmax(x, dim=-1, dtype=torch.float32).dtype == torch.float64
    torch.testing.assert_close(exact, by_hand, rtol=0, atol=1e-14)
    assert (norm(x) - by_hand).abs().max() > 1e-9
    assert functional.softmax(x, dim=-1, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_identity_holds_and_controls_fail(architecture, tokenizer, pairs) -> None:
    model = tiny_model(architecture)
    table = unified_view.identity_table(architecture, model, tokenizer, pairs[:3], STRENGTHS)
    kinds = {"rewritten", "untouched", "1 % off", "BOS too"}
    kinds |= {"bias before the norm"} if architecture == "gemma2" else set()
    assert set(table["compared_with"]) == kinds
    same = table["compared_with"] == "rewritten"
    assert same.sum() == 3 * len(STRENGTHS)
    assert (table.loc[same, "magnitude"] <= -12).all()
    assert (table.loc[~same, "magnitude"] >= -3).all()


@pytest.mark.parametrize("architecture", ["gemma2", "qwen2"])
def test_change_is_m_dh_where_the_form_acts(architecture, tokenizer, pairs) -> None:
    model = tiny_model(architecture)
    table = unified_view.change_table(architecture, model, tokenizer, pairs[:3], STRENGTHS).set_index("form")
    assert (table["site"] <= -13).all()
    through_a_norm = (table.index != "vector") & (architecture == "gemma2")
    assert (table.loc[~through_a_norm, "stream"] <= -13).all()
    assert (table.loc[through_a_norm, "stream"] >= -1).all()


def test_probes_drop_bos_only(tokenizer, pairs) -> None:
    model = tiny_model("gemma2")
    without, whole = (unified_view.probes(model, tokenizer, pairs, bos=bos) for bos in (False, True))
    bos = model.config.bos_token_id
    assert not (without.input_ids == bos).any()
    assert torch.equal(whole.input_ids[:, 1:], without.input_ids)
    assert torch.equal(whole.answer_mask[:, 1:], without.answer_mask)


def test_probes_have_no_bos_where_every_turn_begins_with_it(pairs) -> None:
    model, tokenizer = tiny_model("qwen2"), tiny_tokenizer(TEMPLATE.replace("<user>", "<bos><user>"))
    (twice,) = (unified_view.probes(model, tokenizer, pairs[:1], bos=True).input_ids == 1).sum(1).tolist()
    assert twice == 2 and not (unified_view.probes(model, tokenizer, pairs).input_ids == 1).any()
    table = unified_view.identity_table("qwen2", model, tokenizer, pairs[:1], (2.0,)).set_index(
        "compared_with"
    )
    assert (table.loc["rewritten", "deviation"] < 1e-12).all()
    assert (table.loc["BOS too", "deviation"] > 1e-3).all()


@pytest.mark.parametrize(("value", "k"), [(1e-13, -13), (1.1e-13, -12), (0.5, 0), (3.0, 1), (0.0, -17)])
def test_magnitude(value: float, k: int) -> None:
    assert unified_view.magnitude(value) == k
