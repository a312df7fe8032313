"""Steering whatever a caller does with the model: compiled, read, in threads, at some of the tokens."""

from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch.nn import functional

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention, load_intervention
from splitkit.steering.sweeps import sweep
from splitkit.steering.tokenization import answer_ids, prompt_ids
from splitkit.steering.training import train
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


def chosen(tokens: str, prompt: int) -> torch.Tensor:
    """Positions of IDS that a name means, with a prompt of that many tokens."""
    column = torch.arange(IDS.shape[1]).expand_as(IDS)
    means = {
        "all": column >= 0,
        "answer": column >= prompt,
        "prompt": column < prompt,
        "last": column == prompt - 1,
    }
    return means[tokens] & (IDS != 1)


@pytest.mark.parametrize("tokens", ["all", "answer", "prompt", "last"])
@pytest.mark.parametrize("cached", [True, False])
def test_tokens_are_chosen_in_passes_that_go_on(form, tokens, cached) -> None:
    model, prompt = tiny_model("qwen2"), 3
    iv = random_intervention(model, form)
    with reference(model, iv, 2.0, chosen(tokens, prompt)), torch.no_grad():
        expected = model(IDS).logits
    with iv.applied(model, 2.0, tokens=tokens), torch.no_grad():
        for _ in range(2):  # a second prompt starts anew
            if cached:
                first = model(IDS[:, :prompt])
                cache = first.past_key_values
                rest = [model(IDS[:, i : i + 1], past_key_values=cache).logits for i in range(prompt, 5)]
                found = torch.cat([first.logits, *rest], dim=1)
            else:
                model(IDS[:, :prompt])
                found = model(IDS).logits
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with iv.applied(model, 2.0, tokens=chosen(tokens, prompt)), torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-5)


WAYS = [
    {},
    {"use_cache": False},
    {"cache_implementation": "static", "disable_compile": True},
    {"prompt_lookup_num_tokens": 2},
    {"prefill_chunk_size": 2},
]


@pytest.mark.parametrize("tokens", ["answer", "prompt", "last"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: next(iter(way), "plain"))
def test_tokens_are_chosen_in_generate(tokens, way) -> None:
    model, m = tiny_model("llama"), 4.0
    iv, ids = random_intervention(model, "vector"), torch.tensor([[1, 40, 50, 60, 40, 50]])
    expected = ids
    for _ in range(6):  # by whole passes, each steered by hand
        column = torch.arange(expected.shape[1])[None]
        where = {"answer": column >= 6, "prompt": (column > 0) & (column < 6), "last": column == 5}[tokens]
        with reference(model, iv, m, where), torch.no_grad():
            expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], dim=1)
    options = NEW | {"max_new_tokens": 6} | way
    with iv.applied(model, m, tokens=tokens):
        for _ in range(2):
            found = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
            assert torch.equal(found, expected)
    assert "generate" not in vars(model)


def test_the_last_token_of_a_prompt_is_its_rows_own() -> None:
    model = tiny_model("llama")
    iv, mask = random_intervention(model, "vector"), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    where = torch.zeros(2, 5, dtype=torch.bool)
    where[0, 4] = where[1, 2] = True
    with reference(model, iv, 2.0, where):
        expected = model(IDS, attention_mask=mask).logits
    with iv.applied(model, 2.0, tokens="last"):
        assert torch.equal(model(IDS, attention_mask=mask).logits, expected)


@pytest.mark.parametrize("tokens", ["answer", "prompt", "last"])
def test_a_sweep_of_some_tokens_equals_hooked_whole_passes(
    model, form, tokens, sided_tokenizer, pairs
) -> None:
    iv = random_intervention(model, form)
    found = sweep(model, sided_tokenizer, iv, pairs, [0.0, 1.5], tokens=tokens)
    for number, pair in enumerate(pairs):
        for side in ("positive", "negative"):
            losses = found[(found.pair == number) & (found.m == 1.5)][f"loss_{side}"]
            expected = by_hand(model, sided_tokenizer, [iv], pair.question, getattr(pair, side), tokens)
            assert abs(float(losses.iloc[0]) - expected) < 2e-5
    iv.details["tokens"] = tokens
    assert sweep(model, sided_tokenizer, iv, pairs, [0.0, 1.5]).equals(found), "its own by default"


def by_hand(model, tokenizer, ivs, question, answer, tokens="all", m=1.5) -> float:
    """Loss of one answer by a whole pass of the model under hooks of this file's own."""
    prompt, text = prompt_ids(tokenizer, question), answer_ids(tokenizer, answer)
    ids, column = torch.tensor([prompt + text]), torch.arange(len(prompt) + len(text))[None]
    n = len(prompt)
    where = {"all": column >= 0, "answer": column >= n, "prompt": column < n, "last": column == n - 1}[tokens]
    with ExitStack() as stack, torch.no_grad():
        for iv in ivs:
            stack.enter_context(reference(model, iv, m, where & (ids != 1)))
        logits = model(ids).logits
    return functional.cross_entropy(logits[0, n - 1 : -1], ids[0, n:]).item()


def test_training_steers_its_tokens_and_keeps_their_name(tokenizer, pairs, tmp_path) -> None:
    model = tiny_model("qwen2")
    settings = dict(epochs=2, dropout=0.0, factor_min=1.0, factor_max=1.0, negative="none", batch_size=5)
    for tokens in ("answer", "last"):
        iv = train(model, tokenizer, pairs, "vector", "sft", 1, tokens=tokens, **settings)
        assert iv.tokens == load_intervention(iv.save(tmp_path), model).tokens == tokens
    whole = train(model, tokenizer, pairs, "vector", "sft", 1, **settings)
    assert "tokens" not in whole.details and whole.tokens == "all"
    assert not torch.equal(whole.parameters["vector"], iv.parameters["vector"])
    # the second step's loss is that of the first step's vector at the answer's tokens alone
    one = train(model, tokenizer, pairs, "vector", "sft", 1, tokens="answer", **settings | {"epochs": 1})
    two = train(model, tokenizer, pairs, "vector", "sft", 1, tokens="answer", lr=1e-9, **settings)
    losses = sweep(model, tokenizer, two, pairs, [1.0])["loss_positive"]
    assert abs(two.details["losses"][1] - losses.mean()) < 1e-4 and one.tokens == "answer"


def test_answers_take_tokens_and_sums(tokenizer) -> None:
    model = tiny_model("llama")
    iv, other = random_intervention(model, "vector"), random_intervention(model, "lora", layer=2)
    asked = ["Who?", "Do you like the sea?"]
    found = {
        tokens: answers(model, tokenizer, asked, intervention=iv, m=4.0, tokens=tokens, max_new_tokens=6)
        for tokens in ("all", "answer", "prompt", "last")
    }
    assert len(set(map(tuple, found.values()))) == 4
    together = answers(
        model, tokenizer, asked, intervention=iv + other, m={0: 4.0, 1: [0.0, 2.0]}, max_new_tokens=6
    )
    assert together[0] == found["all"][0]
    with iv.applied(model, 4.0):
        nested = answers(model, tokenizer, asked[1:], intervention=other, m=2.0, max_new_tokens=6)
    assert together[1:] == nested != found["all"][1:]


def test_overflow_in_an_answer_names_row_and_strength(tokenizer) -> None:
    model = tiny_model("llama").half()
    iv = random_intervention(model, "vector")
    plain = answers(model, tokenizer, ["Who?", "What?"], intervention=iv, m=[0.0, 0.0], max_new_tokens=4)
    with pytest.raises(FloatingPointError, match="row 1: logits are not finite at m = 1e.06: .*float16"):
        answers(model, tokenizer, ["Who?", "What?"], intervention=iv, m=[0.0, 1e6], max_new_tokens=4)
    assert answers(model, tokenizer, ["Who?"], intervention=iv, m=0.0, max_new_tokens=4) == plain[:1]
