"""States that a caller is in: threads, tasks, generators, gradient modes, autocast, wrapped models."""

import asyncio
import threading

import pytest
import torch
from torch import nn

from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention
from splitkit.steering.sweeps import sweep
from splitkit.steering.training import train
from tests.conftest import random_intervention, tiny_model
from tests.steering.test_steered_passes import by_hand

IDS = torch.tensor([[1, 40, 50, 60, 70], [1, 41, 51, 61, 71]])


def in_thread(work) -> str:
    """The error of some work in a thread of its own; empty without one."""
    said = [""]

    def attempt() -> None:
        try:
            work()
        except RuntimeError as error:
            said[0] = str(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return said[0]


def test_two_threads_are_told_apart(tokenizer, pairs) -> None:
    model, seen = tiny_model("llama"), []
    iv, before = random_intervention(model, "vector"), model(IDS).logits
    uses = (
        lambda: iv.applied(model, 1.0).__enter__(),
        lambda: sweep(model, tokenizer, iv, pairs, [1.0]),
        lambda: train(model, tokenizer, pairs, "vector", "diffmean"),
    )
    with iv.applied(model, 2.0):
        expected = model(IDS).logits
        assert all("steered, trained or measured in another thread or task" in in_thread(use) for use in uses)
        # a streamer's thread generates what this one's `with` steers
        in_thread(lambda: seen.append(model(IDS).logits))
        assert torch.equal(seen.pop(), expected) and torch.equal(model(IDS).logits, expected)
    assert [in_thread(use) for use in uses[1:]] == ["", ""]
    assert torch.equal(model(IDS).logits, before)


def test_two_tasks_of_one_thread_are_told_apart() -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, "vector")

    async def steer(inside: asyncio.Event, done: asyncio.Event) -> None:
        with iv.applied(model, 1.0):
            inside.set()
            await done.wait()

    async def both() -> None:
        inside, done = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(steer(inside, done))
        await inside.wait()
        with pytest.raises(RuntimeError, match="another thread or task"), iv.applied(model, 2.0):
            pass
        done.set()
        await task
        with iv.applied(model, 2.0), iv.applied(model, 1.0):
            assert model(IDS).logits.isfinite().all()

    asyncio.run(both())


def test_a_generator_left_half_way_leaves_nothing() -> None:
    model = tiny_model("llama")
    iv, base = random_intervention(model, "vector"), model(IDS).logits

    def stream():
        with iv.applied(model, 2.0, tokens="prompt"):
            yield model(IDS).logits
            yield None

    half = stream()
    assert not torch.equal(next(half), base)
    half.close()
    dropped = iv.applied(model, 2.0)
    dropped.__enter__()
    del dropped
    assert torch.equal(model(IDS).logits, base) and "generate" not in vars(model)
    assert in_thread(lambda: iv.applied(model, 1.0).__enter__()) == ""
    assert torch._dynamo.eval_frame._stance.stance == "default"


def test_autocast_narrows_no_change(form) -> None:
    model = tiny_model("llama")
    iv, x = random_intervention(model, form), torch.randn(2, 3, 48)
    expected = iv.delta(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(iv.delta(x), expected) and expected.dtype == torch.float32


def test_gradient_checkpointing_is_refused_where_layers_would_run_again() -> None:
    model = tiny_model("llama").train()
    iv = random_intervention(model, "lora")
    model.gradient_checkpointing_enable()
    with iv.applied(model, 1.0):
        with pytest.raises(ValueError, match="gradient_checkpointing_disable"):
            model(IDS)
        with torch.no_grad():
            assert model(IDS, use_cache=False).logits.isfinite().all()
    model.eval()
    with iv.applied(model, 1.0):
        model(IDS).logits.sum().backward()


@pytest.mark.parametrize("state", [torch.inference_mode, torch.no_grad])
def test_training_and_sweeps_do_not_depend_on_a_callers_gradient_mode(state, tokenizer, pairs) -> None:
    model = tiny_model("llama")
    iv = train(model, tokenizer, pairs, "vector", "sft", 1, epochs=1)
    rows = sweep(model, tokenizer, iv, pairs, [1.0])
    with state():
        again = train(model, tokenizer, pairs, "vector", "sft", 1, epochs=1)
        assert sweep(model, tokenizer, iv, pairs, [1.0]).equals(rows)
    assert torch.equal(again.parameters["vector"], iv.parameters["vector"])


@pytest.mark.parametrize("wrap", [lambda model: torch.compile(model, backend="eager"), nn.DataParallel])
def test_wrapped_models_train_measure_and_answer(wrap, tokenizer, pairs) -> None:
    model = tiny_model("llama")
    wrapped, asked = wrap(model), ["Who?"]
    iv = train(model, tokenizer, pairs, "lora", "sft", 1, epochs=1)
    again = train(wrapped, tokenizer, pairs, "lora", "sft", 1, epochs=1)
    assert torch.equal(again.parameters["B"], iv.parameters["B"]) and again.base_digest == iv.base_digest
    rows, said = sweep(model, tokenizer, iv, pairs, [1.0]), answers(model, tokenizer, asked, max_new_tokens=4)
    assert sweep(wrapped, tokenizer, iv, pairs, [1.0]).equals(rows)
    assert answers(wrapped, tokenizer, asked, max_new_tokens=4) == said
    with iv.applied(model, 1.0):
        expected = model(IDS).logits
    with iv.applied(wrapped, 1.0):
        assert torch.equal(wrapped(IDS).logits, expected)


def test_every_new_argument_is_refused_in_words(tokenizer, pairs) -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, "vector")
    for use in (
        lambda tokens: iv.applied(model, 1.0, tokens=tokens).__enter__(),
        lambda tokens: sweep(model, tokenizer, iv, pairs, [1.0], tokens=tokens),
        lambda tokens: train(model, tokenizer, pairs, "vector", "sft", tokens=tokens),
        lambda tokens: answers(model, tokenizer, ["Who?"], intervention=iv, tokens=tokens),
        lambda tokens: Intervention("vector", "mine", 1, iv.parameters, "", {"tokens": tokens}),
    ):
        for bad in ("first", 3, True):
            with pytest.raises(ValueError, match="unknown tokens .*all, answer, prompt, last"):
                use(bad)
    with pytest.raises(TypeError, match=r"a mask of True and False, .* not torch.int64"):
        iv.applied(model, 1.0, tokens=IDS).__enter__()
    with (
        iv.applied(model, 1.0, tokens=IDS[:, 1:] > 0),
        pytest.raises(ValueError, match=r"mask of shape \(2, 4\), the forward pass has 2 rows of 5"),
    ):
        model(IDS)
    with pytest.raises(TypeError, match="intervention is an Intervention, not a dict"):
        answers(model, tokenizer, ["Who?"], intervention={}, m=1.0)


@pytest.mark.parametrize("form", ["vector", "lora"])
@pytest.mark.filterwarnings("ignore:the layers of a")
def test_a_users_own_hook_is_part_of_what_a_sweep_measures(form, tokenizer, pairs) -> None:
    model = tiny_model("llama")
    iv = random_intervention(model, form)
    before = sweep(model, tokenizer, iv, pairs[:1], [1.5])
    handle = model.model.layers[iv.layer].register_forward_hook(lambda module, args, output: output.tanh())
    found = sweep(model, tokenizer, iv, pairs[:1], [1.5])
    expected = by_hand(model, tokenizer, [iv], pairs[0].question, pairs[0].positive)
    assert abs(found.loss_positive.item() - expected) < 2e-5 < abs(before.loss_positive.item() - expected)
    handle.remove()
    assert sweep(model, tokenizer, iv, pairs[:1], [1.5]).equals(before)
