"""Steering whatever a caller does with the model: compiled, read, in threads, at some of the tokens."""

from contextlib import contextmanager

import pytest
import torch

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.interventions import Intervention
from tests.conftest import LAYER, random_intervention, tiny_model

IDS = torch.tensor([[1, 40, 50, 60, 70], [1, 41, 51, 61, 71]])
NEW = dict(max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)


@contextmanager
def reference(model, iv: Intervention, m: float, mask: torch.Tensor | None = None, layer: int | None = None):
    """h' = h + m dh at the positions of `mask` (batch, token) but BOS, by hooks of this file's own."""
    sites = resolve_sites(model, iv.layer if layer is None else layer)
    p = iv.parameters

    def change(x):
        if iv.form == "local_weight":
            return x @ p["weight"].T + p["bias"]
        return x @ p["A"].T @ p["B"].T if iv.form == "lora" else p["vector"]

    def steer(module, args, output):
        where = (IDS != 1 if mask is None else mask).unsqueeze(-1)
        return output + m * where * change(output if iv.form == "vector" else args[0])

    site = sites.layer if iv.form == "vector" else sites.down
    handle = site.register_forward_hook(steer, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def generated(model, **more) -> torch.Tensor:
    return model.generate(input_ids=IDS, attention_mask=torch.ones_like(IDS), **NEW, **more)


@pytest.mark.parametrize("way", ["wrapper", "in place", "layers"])
def test_a_compiled_model_is_steered_and_then_not(way, form) -> None:
    model = tiny_model("llama")
    iv, base = random_intervention(model, form), model(IDS).logits
    with iv.applied(model, 2.0):
        steered, tokens = model(IDS).logits, generated(model)
    used = model
    if way == "wrapper":
        used = torch.compile(model, backend="eager")
    elif way == "in place":
        model.compile(backend="eager")
    else:
        for number, layer in enumerate(model.model.layers):
            model.model.layers[number] = torch.compile(layer, backend="eager")
    for before_first_use in (True, False):
        with iv.applied(used, 2.0):
            assert torch.equal(used(IDS).logits, steered), before_first_use
            assert torch.equal(generated(used), tokens)
        torch.testing.assert_close(used(IDS).logits, base)
        assert (steered - base).abs().max() > 0.1


def test_generate_that_compiles_itself_is_steered_at_every_token(form, monkeypatch) -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, form)
    with iv.applied(model, 2.0):
        expected = generated(model)
    compiled = torch.compile(model.__call__, backend="eager")
    monkeypatch.setattr(type(model), "get_compiled_call", lambda *_: compiled)
    monkeypatch.setattr(type(model), "_valid_auto_compile_criteria", lambda *_: True)
    plain = generated(model, cache_implementation="static")
    with iv.applied(model, 2.0):
        assert torch.equal(generated(model, cache_implementation="static"), expected)
    assert torch.equal(generated(model, cache_implementation="static"), plain)
    assert not torch.equal(plain, expected)


@pytest.mark.parametrize("asked", ["before", "after"])
def test_hidden_states_show_the_steering_whatever_was_asked_before(model, form, asked) -> None:
    iv = random_intervention(model, form)
    if asked == "before":
        model(IDS, output_hidden_states=True)
    base = tiny_model(model.config.model_type)(IDS, output_hidden_states=True).hidden_states
    with iv.applied(model, 2.0):
        steered = model(IDS, output_hidden_states=True).hidden_states
    moved = [(one - other).abs().amax() for one, other in zip(steered, base, strict=True)]
    assert moved[: LAYER + 1] == [0] * (LAYER + 1) and min(moved[LAYER + 1 :]) > 0.01
    if form == "vector":
        change = (steered[LAYER + 1] - base[LAYER + 1])[:, 1:] - 2 * iv.parameters["vector"]
        assert change.abs().max() < 1e-5
