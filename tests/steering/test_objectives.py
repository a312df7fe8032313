"""Objectives against numbers worked out by hand in float64 and against transformers' own loss."""

import math
import textwrap

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from splitkit.steering.objectives import (
    IGNORED,
    OBJECTIVES,
    ObjectiveInputs,
    get_objective,
    split_loss,
    token_losses,
)
from splitkit.steering.tokenization import encode_pairs, pad_batch
from tests.conftest import tiny_model


def inputs(positive: list[float], negative: list[float], **more: list[float]) -> ObjectiveInputs:
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in more.items()}
    lengths = {
        "length_positive": torch.tensor([10] * len(positive)),
        "length_negative": torch.tensor([20] * len(positive)),
    }
    return ObjectiveInputs(
        torch.tensor(positive, dtype=torch.float64),
        torch.tensor(negative, dtype=torch.float64),
        **{**lengths, **tensors},
    )


def test_sft_is_the_positive_loss() -> None:
    assert OBJECTIVES["sft"](inputs([1.5, 2.0], [9.0, 9.0])).tolist() == [1.5, 2.0]


def test_split_by_hand() -> None:
    # first pair: preference 0.2 misses theta 0.5 by 0.3; second: 2.0 is beyond it
    result = OBJECTIVES["split"](inputs([1.0, 1.0], [1.2, 3.0]), gamma=2.0, lambda_n=0.5, theta=0.5)
    assert result.tolist() == pytest.approx([1.0 + 0.6 + 2 * 0.3, 1.0 + 1.5])


def test_reps_by_hand() -> None:
    # reference sums: positive 10 x 1.5 = 15, negative 20 x 0.6 = 12, so s = 3; then s at its floor of 1
    batch = inputs(
        [1.0, 1.0], [2.5, 2.5], reference_loss_positive=[1.5, 0.1], reference_loss_negative=[0.6, 2.0]
    )
    expected = [math.log1p(math.exp(3 * 1.0 - 2.5)), math.log1p(math.exp(1.0 - 2.5))]
    assert OBJECTIVES["reps"](batch).tolist() == pytest.approx(expected)


def test_dpo_by_hand() -> None:
    # sums gained over the reference: 10 x (1.5 - 1.0) = 5 on the winner, 20 x (0.6 - 2.5) = -38 on the loser
    batch = inputs([1.0], [2.5], reference_loss_positive=[1.5], reference_loss_negative=[0.6])
    assert OBJECTIVES["dpo"](batch).tolist() == pytest.approx([math.log1p(math.exp(-0.1 * (5 + 38)))])
    at_rest = inputs([1.0], [2.5], reference_loss_positive=[1.0], reference_loss_negative=[2.5])
    assert OBJECTIVES["dpo"](at_rest, beta=0.7).tolist() == pytest.approx([math.log(2)])
    with pytest.raises(ValueError, match="reference losses"):
        OBJECTIVES["dpo"](inputs([1.0], [1.0]))


def test_reps_needs_the_reference() -> None:
    assert OBJECTIVES["reps"].needs_reference and not OBJECTIVES["split"].needs_reference
    with pytest.raises(ValueError, match="reference losses"):
        OBJECTIVES["reps"](inputs([1.0], [1.0]))


def test_reps_sends_no_gradient_through_its_margin() -> None:
    reference = torch.tensor([2.0], requires_grad=True)
    losses = torch.tensor([1.0], requires_grad=True)
    batch = ObjectiveInputs(
        losses, losses + 1, torch.tensor([4]), torch.tensor([4]), reference, torch.tensor([1.0])
    )
    OBJECTIVES["reps"](batch).sum().backward()
    assert reference.grad is None and losses.grad is not None


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(ValueError, match="sft, reps, split, dpo"):
        get_objective("dpp")
    with pytest.raises(ValueError, match="lambda_p, lambda_n, gamma, theta"):
        OBJECTIVES["split"](inputs([1.0], [1.0]), lamda=1.0)


def test_inputs_of_different_batches_are_named() -> None:
    with pytest.raises(ValueError, match="loss_negative"):
        inputs([1.0], [1.0, 2.0])


def test_token_losses_equal_those_of_transformers() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    tokens = torch.randint(0, 31, (1, 9))
    labels = tokens.clone()
    labels[:, :4] = -100
    output = model(input_ids=tokens, labels=labels)
    losses, lengths = token_losses(output.logits, labels)
    assert lengths.tolist() == [5]
    assert losses.item() == pytest.approx(output.loss.item(), rel=1e-6)


def test_split_loss_by_hand_and_with_gradient() -> None:
    torch.manual_seed(0)
    logits_pos = torch.randn(2, 6, 11, dtype=torch.float64, requires_grad=True)
    logits_neg = torch.randn(2, 8, 11, dtype=torch.float64)
    labels_pos, labels_neg = torch.randint(0, 11, (2, 6)), torch.randint(0, 11, (2, 8))
    labels_pos[:, :2], labels_neg[0, :5], labels_neg[1, 6:] = -100, -100, -100
    total = 0.0
    for row in range(2):
        mean = []
        for logits, labels in ((logits_pos, labels_pos), (logits_neg, labels_neg)):
            probability = torch.softmax(logits[row].detach(), dim=-1)
            terms = [
                -math.log(probability[t - 1, labels[row, t]])
                for t in range(1, labels.shape[1])
                if labels[row, t] != -100
            ]
            mean.append(sum(terms) / len(terms))
        total += 0.7 * mean[0] + 0.4 * mean[1] + 3.0 * max(0.0, 2.0 - (mean[1] - mean[0]))
    loss = split_loss(logits_pos, logits_neg, labels_pos, labels_neg, 0.7, 0.4, 3.0, 2.0)
    assert loss.item() == pytest.approx(total / 2, rel=1e-12)
    loss.backward()
    # the last logits predict nothing, and those before the prompt's end predict no answer token
    assert logits_pos.grad is not None
    assert logits_pos.grad[:, [0, 5]].abs().max() == 0 < logits_pos.grad[:, 1:5].abs().max()


def test_the_weights_that_are_trained_with_are_described() -> None:
    for name, value in OBJECTIVES["split"].defaults.items():
        assert f"{name} {value:g}" in " ".join((split_loss.__doc__ or "").split())


def test_a_row_without_answer_is_named() -> None:
    labels = torch.tensor([[1, 2, 3], [5, -100, -100]])
    with pytest.raises(ValueError, match=r"row\(s\) \[1\]"):
        token_losses(torch.zeros(2, 3, 7), labels)
    with pytest.raises(ValueError, match=r"\(2, 4, 7\) and labels \(2, 3\)"):
        token_losses(torch.zeros(2, 4, 7), labels)


def test_what_is_no_tensor_of_losses_or_ids_is_named() -> None:
    two, logits, labels = torch.ones(2), torch.zeros(1, 3, 5), torch.tensor([[-100, 1, 2]])
    for given in ([1.0, 2.0], None):
        with pytest.raises(TypeError, match=r"loss_negative is a tensor \(batch,\), not a "):
            ObjectiveInputs(two, given, two, two)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="logits are a tensor of floats, labels one of whole numbers"):
        split_loss(logits, logits, labels, labels.float())
    with pytest.raises(ValueError, match="labels are token ids below 5"):
        split_loss(logits, logits, labels, labels + 3)


def test_the_example_of_split_loss_is_a_step(tokenizer, pairs) -> None:
    """The lines of its docstring, over a model whose loss they lower."""
    example = split_loss.__doc__.split("::\n\n")[1].split("\n\n")[0]
    model = tiny_model("llama")
    sides = []
    for encoded in encode_pairs(model, tokenizer, pairs):
        batch = pad_batch(tokenizer, encoded, range(len(encoded)))
        labels = batch.input_ids.masked_fill(~batch.answer_mask, IGNORED)
        sides.append({"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": labels})
    names = {"model": model, "positive": sides[0], "negative": sides[1], "split_loss": split_loss}
    names["optimizer"] = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        exec(textwrap.dedent(example), names)
        losses.append(names["loss"].item())
    assert losses[1] < losses[0]
