"""Recording: rows unpadded and stacked anew are the rows that were recorded."""

import pytest
import torch

from splitkit.steering.replay import Replay, at_rest, stack_rows
from splitkit.steering.tokenization import batches, encode_pairs
from tests.conftest import LAYER, random_intervention


def test_rows_stacked_anew_give_the_same_losses(model, form, sided_tokenizer, pairs) -> None:
    iv, (sequences, _) = random_intervention(model, form), encode_pairs(model, sided_tokenizer, pairs)
    replay, m = Replay(model, LAYER, form), torch.linspace(-2, 2, len(pairs))
    rows, expected = {}, torch.empty(len(pairs))
    with torch.no_grad():
        for batch in batches(sided_tokenizer, sequences, token_budget=100):
            recording = replay.record(batch)
            rows.update(dict(recording.rows()))
            expected[batch.index] = replay.losses(recording, iv.delta(recording.x), m[batch.index])
        together = stack_rows(sided_tokenizer, sequences, [rows[row] for row in range(len(pairs))])
        found = replay.losses(together, iv.delta(together.x), m)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_is_recorded_is_what_the_layer_computes(model, form, tokenizer, pairs) -> None:
    batch = next(batches(tokenizer, encode_pairs(model, tokenizer, pairs)[0]))
    replay = Replay(model, LAYER, form)
    recording = replay.record(batch)
    zero = torch.zeros_like(recording.activations["output"])
    steered = replay.steered(recording, zero + 1, torch.zeros(len(pairs)))
    assert torch.equal(steered, recording.activations["output"])
    whole = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True)
    filled = batch.attention_mask.bool()
    torch.testing.assert_close(
        recording.activations["output"][filled], whole.hidden_states[LAYER + 1][filled], rtol=0, atol=1e-6
    )


def test_at_rest_puts_everything_back(model) -> None:
    model.train()
    model.model.norm.eval()
    model.model.norm.weight.requires_grad_(False)
    with pytest.raises(RuntimeError), at_rest(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert model.training and not model.model.norm.training
    trained = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert trained == ["model.norm.weight"]
