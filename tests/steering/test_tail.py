"""Tails: what is left out is nothing that an answer needs."""

import pytest
import torch

from splitkit.steering.replay import Replay, predicting
from splitkit.steering.tokenization import batches, encode_pairs
from tests.conftest import LAYER, random_intervention


@pytest.fixture
def recorded(model, form, sided_tokenizer, pairs):
    batch = next(batches(sided_tokenizer, encode_pairs(model, sided_tokenizer, pairs)[0]))
    replay = Replay(model, LAYER, form)
    recording = replay.record(batch)
    dh = random_intervention(model, form).delta(recording.x)
    return replay, recording, replay.steered(recording, dh, torch.linspace(-2, 2, len(pairs)))


def test_the_same_where_it_is_needed(recorded) -> None:
    replay, recording, residual = recorded
    batch = recording.batch
    needed = predicting(batch)
    assert needed.sum() == batch.answer_mask.sum() < batch.attention_mask.sum()
    with torch.no_grad():
        everywhere, some = replay.tail(batch, residual), replay.tail(batch, residual, needed)
        torch.testing.assert_close(some[needed], everywhere[needed], rtol=0, atol=1e-5)
        # what was needed once is not what is needed next
        assert torch.equal(replay.tail(batch, residual), everywhere)


def test_the_last_ffn_runs_at_those_positions_alone(recorded) -> None:
    replay, recording, residual = recorded
    layers, seen = replay.sites.decoder.layers, []
    handles = [
        layer.mlp.register_forward_hook(lambda _, args, __: seen.append(args[0][..., 0].numel()))
        for layer in layers[LAYER + 1 :]
    ]
    needed = predicting(recording.batch)
    replay.tail(recording.batch, residual, needed)
    for handle in handles:
        handle.remove()
    every = recording.batch.input_ids.numel()
    assert seen == [every] * (len(handles) - 1) + [int(needed.sum())]


def test_gradients_are_those_of_the_whole_tail(recorded) -> None:
    replay, recording, residual = recorded
    needed = predicting(recording.batch)
    gradients = []
    for asked in (None, needed):
        start = residual.detach().clone().requires_grad_()
        hidden = replay.tail(recording.batch, start, asked)
        replay.answer_losses(recording.batch, hidden, needed).sum().backward()
        gradients.append(start.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
