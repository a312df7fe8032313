import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import sweep
from splitkit.steering.tokenization import encode_pairs
from splitkit.studies.manifold.activations import RecordedPairs, corrupted, mean_change, natural_activations
from tests.conftest import LAYER, random_intervention, tiny_model


def by_hooks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, intervention: object, pair: Pair, m: float
) -> tuple[np.ndarray, np.ndarray]:
    """What leaves the layer and the model at the answer's tokens, by a plain forward pass."""
    seen = {}
    (positive,), _ = encode_pairs(model, tokenizer, [pair])
    with intervention.applied(model, m=m), torch.no_grad():  # type: ignore[attr-defined]
        # registered last, so that it sees what the intervention has made of the layer's output
        handle = model.model.layers[LAYER].register_forward_hook(lambda _m, _a, out: seen.update(layer=out))
        end = model.model(input_ids=torch.tensor([positive.ids])).last_hidden_state
        handle.remove()
    return tuple(x[0, positive.prompt_length :].numpy() for x in (seen["layer"], end))  # type: ignore[return-value]


@pytest.mark.parametrize("m", [0.0, -1.5])
def test_steered_activations_are_those_of_a_hooked_forward_pass(
    model: PreTrainedModel, form: str, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair], m: float
) -> None:
    iv = random_intervention(model, form)
    found = RecordedPairs(model, tokenizer, pairs[:1], LAYER).activations(iv, [m, 2.0])
    layer, end = by_hooks(model, tokenizer, iv, pairs[0], m)
    width = len(layer)
    # the shorter answer of the pair comes first
    assert found["layer"].shape[:1] == (2,)
    np.testing.assert_allclose(found["layer"][0][-width:], layer, atol=2e-5)
    np.testing.assert_allclose(found["end"][0][-width:], end, atol=2e-5)


def test_natural_activations_are_the_unsteered_ones(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> None:
    iv = random_intervention(model, "vector")
    both = [(pairs[0].question, pairs[0].positive), (pairs[0].question, pairs[0].negative)]
    natural = natural_activations(model, tokenizer, both, LAYER)
    steered = RecordedPairs(model, tokenizer, pairs[:1], LAYER).activations(iv, 0.0)
    for site, values in natural.items():
        np.testing.assert_allclose(values, steered[site][0], atol=1e-6)
    with pytest.raises(ValueError, match="no dialogues"):
        natural_activations(model, tokenizer, [], LAYER)


def test_as_many_tokens_as_wanted(tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]) -> None:
    model = tiny_model("qwen2")
    iv = random_intervention(model, "lora")
    recorded = RecordedPairs(model, tokenizer, pairs, LAYER)
    whole = recorded.activations(iv, [0.0])["end"]
    some = recorded.activations(iv, [0.0], tokens=5)["end"]
    assert some.shape[1] == 5
    np.testing.assert_array_equal(some[:, [0, -1]], whole[:, [0, -1]])
    assert recorded.activations(iv, 0.0, tokens=10**6)["end"].shape == whole.shape


def test_losses_are_those_of_a_sweep_and_activations_of_the_first_pairs(
    model: PreTrainedModel, form: str, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> None:
    iv, m = random_intervention(model, form), [-1.0, 0.0, 0.5]
    recorded = RecordedPairs(model, tokenizer, pairs, LAYER)
    found, losses = recorded.activations_and_losses(iv, m, None, pairs=2)
    table = sweep(model, tokenizer, iv, pairs, m)
    for losses_of, name in zip(np.split(losses, 2, axis=1), ("positive", "negative"), strict=True):
        np.testing.assert_allclose(losses_of.ravel(), table[f"loss_{name}"], atol=2e-5)
    first = RecordedPairs(model, tokenizer, pairs[:2], LAYER).activations(iv, m)
    for site, values in found.items():
        np.testing.assert_allclose(values, first[site], atol=2e-5)
    with pytest.raises(ValueError, match="layer 0"):
        RecordedPairs(model, tokenizer, pairs, 0).activations(iv, m)


def test_the_mean_change_of_a_vector_is_the_vector(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> None:
    iv = random_intervention(model, "vector")
    found = mean_change(RecordedPairs(model, tokenizer, pairs, LAYER), iv, unit=1.0)
    np.testing.assert_allclose(found, iv.parameters["vector"].numpy(), atol=1e-3)


def test_corrupted_answers_keep_their_words() -> None:
    dialogues = [("Who?", "one two three four five six seven eight")]
    (broken,) = corrupted(dialogues)
    assert broken[0] == "Who?" and broken[1] != dialogues[0][1]
    assert sorted(broken[1].split()) == sorted(dialogues[0][1].split())
    assert corrupted(dialogues) == [broken]
