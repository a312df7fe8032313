"""Stems: a prompt that is run once for both answers gives the losses of two whole sequences."""

from dataclasses import replace

import pytest
import torch

from splitkit.steering.pairs import Pair
from splitkit.steering.replay import Replay
from splitkit.steering.shared_prefix import record_fork
from splitkit.steering.tokenization import encode_pairs
from tests.conftest import random_intervention, tiny_model, tiny_tokenizer

M = torch.tensor([-1.5, 0.0, 2.0])


def forked(model, form, tokenizer, pairs, layer, shared=True):
    """Losses (strength, pair, side), and the fork that they are from."""
    iv, sequences = random_intervention(model, form, layer), encode_pairs(model, tokenizer, pairs)
    replay = Replay(model, layer, form)
    if not shared:
        replay.sites = replace(replay.sites, proven=False)
    with torch.no_grad():
        fork = record_fork(replay, tokenizer, *sequences)
        return fork.losses(replay, fork.deltas(iv), M), fork


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_equals_the_whole_sequences(model, form, sided_tokenizer, pairs, layer) -> None:
    found, fork = forked(model, form, sided_tokenizer, pairs, layer)
    expected, whole = forked(model, form, sided_tokenizer, pairs, layer, shared=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert len(whole.levels) == 1 and fork.tokens < whole.tokens
    assert len(fork.levels) == (1 if layer == 2 else 2), "after the last layer nothing attends to a stem"


def test_prompts_of_one_token_have_no_stem(model, form) -> None:
    tokenizer = tiny_tokenizer(template=None)
    short = [Pair("a", "yes", "no!"), Pair("b", "one", "two, three")]
    for pairs, stem in ((short, False), ([*short, Pair("What is it?", "a cat", "a dog")], True)):
        found, fork = forked(model, form, tokenizer, pairs, 1)
        expected, _ = forked(model, form, tokenizer, pairs, 1, shared=False)
        assert len(fork.levels) == 1 + stem
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
@pytest.mark.parametrize("form", ["lora", "vector"])
def test_a_common_beginning_is_run_once(name, form, sided_tokenizer, pairs) -> None:
    model = tiny_model(name)
    asked = [replace(pair, question=f"You answer in few words. {pair.question}") for pair in pairs]
    found, fork = forked(model, form, sided_tokenizer, asked, 1)
    expected, _ = forked(model, form, sided_tokenizer, asked, 1, shared=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # a window of 16 tokens counts the padding between the common beginning and a shorter prompt
    shapes = [len(level.batch.index) for level in fork.levels]
    assert shapes == ([5, 10] if name == "gemma2" else [1, 5, 10])
    if name == "llama":
        assert fork.levels[0].batch.input_ids.shape == (1, len("<>You answer in few words. "))
        alone, single = forked(model, form, sided_tokenizer, asked[:1], 1)
        torch.testing.assert_close(alone, found[:, :1], rtol=0, atol=1e-5)
        assert len(single.levels) == 2
