"""Sums: several interventions as one object, applied, measured, saved, with one m for all or one each."""

import json

import pytest
import torch

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.interventions import InterventionSum, load_intervention
from splitkit.steering.rewriting import rewritten
from splitkit.steering.sweeps import matching_strength, sweep
from tests.conftest import random_intervention, tiny_model
from tests.steering.test_steered_passes import IDS, by_hand, reference


def test_terms_at_two_layers_equal_hooks_by_hand(model, form) -> None:
    low, high = (
        random_intervention(model, form, layer=0),
        random_intervention(model, "vector", layer=2, seed=4),
    )
    both = low + 0.5 * high
    with reference(model, low, 2.0), reference(model, high, 1.0):
        expected = model(IDS).logits
    with both.applied(model, 2.0):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-5)
    with both.applied(model, {0: 2.0, 1: 2.0}):
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-5)
    with both.applied(model, {0: [2.0, 0.0], 1: [2.0, 0.0]}):
        rows = model(IDS).logits
    torch.testing.assert_close(rows[0], expected[0], rtol=0, atol=1e-5)
    assert torch.equal(rows[1], model(IDS).logits[1])


def test_one_place_sums_exactly() -> None:
    model = tiny_model("llama")
    a, b = random_intervention(model, "vector"), random_intervention(model, "vector", seed=2)
    summed = random_intervention(model, "vector")
    summed.parameters["vector"] = a.parameters["vector"] + b.parameters["vector"]
    with summed.applied(model, 1.0):
        expected = model(IDS).logits
    with (a + b).applied(model, 1.0):
        assert torch.equal(model(IDS).logits, expected)
    with (a - a).applied(model, 3.0), torch.no_grad():
        assert torch.equal(model(IDS).logits, model(IDS).logits)
    with a.applied(model, -0.5):
        halved = model(IDS).logits
    for same in (-0.5 * a, -(a * 0.5), sum([0.5 * a, -1 * a])):
        with same.applied(model, 1.0):
            torch.testing.assert_close(model(IDS).logits, halved, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("forms", "layers"),
    [
        (("vector", "vector"), (1, 1)),
        (("lora", "local_weight"), (1, 1)),
        (("vector", "lora"), (1, 1)),
        (("local_weight", "vector"), (0, 2)),
    ],
)
def test_a_sweep_of_a_sum_equals_hooked_whole_passes(model, tokenizer, pairs, forms, layers) -> None:
    chosen = zip(forms, layers, (1, 2), strict=True)
    a, b = (random_intervention(model, form, layer=layer, seed=seed) for form, layer, seed in chosen)
    found = sweep(model, tokenizer, a + b, pairs, [0.0, 0.7])
    base = sweep(model, tokenizer, a, pairs, [0.0])
    assert (found[found.m == 0].loss_positive.to_numpy() - base.loss_positive.to_numpy()).max() < 1e-5
    for number, pair in enumerate(pairs):
        row = found[(found.pair == number) & (found.m == 0.7)].iloc[0]
        expected = by_hand(model, tokenizer, [a, b], pair.question, pair.positive, m=0.7)
        assert abs(row.loss_positive - expected) < 2e-5


def test_a_sum_is_saved_and_loaded_as_one_folder(tmp_path) -> None:
    model = tiny_model("llama")
    a, b = random_intervention(model, "lora", layer=0), random_intervention(model, "vector", layer=2)
    b.details["tokens"] = "prompt"
    both = 2 * a - 0.25 * b
    loaded = load_intervention(both.save(tmp_path), model)
    assert isinstance(loaded, InterventionSum) and [w for w, _ in loaded.terms] == [2.0, -0.25]
    with both.applied(model, 1.5):
        expected = model(IDS).logits
    with loaded.applied(model, 1.5):
        assert torch.equal(model(IDS).logits, expected)
    config = json.loads((tmp_path / "config.json").read_text())
    for damage in ({"terms": []}, {"terms": [{"weight": 1.0}]}, {"terms": 3}, {"terms": [[]]}):
        (tmp_path / "config.json").write_text(json.dumps(config | damage))
        with pytest.raises(ValueError, match="no intervention's folder|at least one term"):
            load_intervention(tmp_path)


def test_a_sum_is_rewritten_term_by_term() -> None:
    model = tiny_model("llama")
    a, b = random_intervention(model, "lora", layer=0), random_intervention(model, "local_weight", layer=2)
    down = resolve_sites(rewritten(model, a + 2 * b, 0.5), 2).down
    torch.testing.assert_close(down.weight, resolve_sites(model, 2).down.weight + b.parameters["weight"])


def test_what_does_not_add_up_is_refused(tokenizer, pairs) -> None:
    model = tiny_model("llama")
    a, b = random_intervention(model, "vector"), random_intervention(tiny_model("qwen2"), "vector")
    with pytest.raises(ValueError, match="same base model; these have the digests"):
        a + b
    for wrong in (lambda: a + 1, lambda: a * "2", lambda: a * True, lambda: 1 + a):
        with pytest.raises(TypeError, match="intervention (adds to another one, not|is multiplied by)"):
            wrong()
    with pytest.raises(TypeError, match="finite number, not nan"):
        float("nan") * a
    for m in ({}, {0: 1.0}, {0: 1.0, 1: 2.0, 2: 3.0}, {"a": 1.0}):
        with pytest.raises(ValueError, match="one strength for all, or a dict with one for each of 0, 1"):
            (a + a).applied(model, m).__enter__()
    with pytest.raises(TypeError, match="one m for all terms"):
        sweep(model, tokenizer, a + a, pairs, {0: 1.0, 1: 2.0})
    with pytest.raises(TypeError, match="one Intervention, not a InterventionSum"):
        matching_strength(model, tokenizer, a + a, pairs)
