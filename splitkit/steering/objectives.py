"""Objectives: pure functions of the losses of a batch of pairs, or of activations, and their registries.

To add an objective that is trained, write one function and put it into `OBJECTIVES` with its settings; a
vector that is computed at once goes into `CLOSED`.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

IGNORED = -100
"""The label of a token that is no part of the answer, as in transformers."""


@dataclass(frozen=True)
class ObjectiveInputs:
    """The input of an objective: one value per pair in each tensor, all of shape (batch,).

    Losses are means over the answer's tokens, in nats per token; `positive` is the answer to be preferred, so
    for a training step against the concept the caller swaps the two answers. Reference losses are those of
    the model without the intervention.

    Raises:
        TypeError: for what is no tensor.
        ValueError: when a tensor is not (batch,), or when the batches differ.
    """

    loss_positive: Float[Tensor, " batch"]
    loss_negative: Float[Tensor, " batch"]
    length_positive: Int[Tensor, " batch"]
    length_negative: Int[Tensor, " batch"]
    reference_loss_positive: Float[Tensor, " batch"] | None = None
    reference_loss_negative: Float[Tensor, " batch"] | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, Tensor) and not (value is None and item.default is None):
                raise TypeError(f"{item.name} is a tensor (batch,), not a {type(value).__name__}.")
        expected = self.loss_positive.shape
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and (value.ndim != 1 or value.shape != expected):
                raise ValueError(
                    f"{item.name} has shape {tuple(value.shape)}; all inputs of an objective are (batch,), "
                    f"here like loss_positive {tuple(expected)}."
                )


def sft(inputs: ObjectiveInputs) -> Float[Tensor, " batch"]:
    """L = L_p: supervised fine-tuning on the positive answer alone. (batch,) in nats per token."""
    return inputs.loss_positive


def reps(inputs: ObjectiveInputs, *, beta: float, simpo_scaler: float) -> Float[Tensor, " batch"]:
    """L = -log sigmoid(beta s/|y_w| log p(y_w) - beta/|y_l| log p(y_l)).

    s = max(log p_ref(y_l) - log p_ref(y_w), c): RePS (Wu et al. 2025b), beta = c = 1 in the paper; y_w is the
    positive answer, y_l the negative one. The margin s compares *sums* of log-probabilities under the
    reference; the two other terms are means per token. The official code divides by the length of prompt and
    answer; this divides by the answer's alone, as RePS does.

    Returns:
        (batch,) in nats.

    Raises:
        ValueError: when the reference losses are missing.
    """
    if inputs.reference_loss_positive is None or inputs.reference_loss_negative is None:
        raise ValueError("reps compares with the model without the intervention: give both reference losses.")
    sum_positive = inputs.reference_loss_positive * inputs.length_positive
    sum_negative = inputs.reference_loss_negative * inputs.length_negative
    # a constant of the reference: no gradient may reach the intervention through the margin
    scale = (sum_positive - sum_negative).detach().clamp(min=simpo_scaler)
    return functional.softplus(beta * (scale * inputs.loss_positive - inputs.loss_negative))


def split(
    inputs: ObjectiveInputs, *, lambda_p: float, lambda_n: float, gamma: float, theta: float
) -> Float[Tensor, " batch"]:
    """L = lambda_p L_p + lambda_n L_n + gamma ReLU(theta - (L_n - L_p)) (Eq. 18-20).

    The first two terms keep utility: both answers stay probable. The last asks for a preference log-odds of
    at least theta, in nats per token, and is silent beyond it. (batch,) in nats per token.
    """
    positive, negative = inputs.loss_positive, inputs.loss_negative
    return lambda_p * positive + lambda_n * negative + gamma * functional.relu(theta - (negative - positive))


def dpo(inputs: ObjectiveInputs, *, beta: float) -> Float[Tensor, " batch"]:
    """L = -log sigmoid(beta [log p(y_w)/p_ref(y_w) - log p(y_l)/p_ref(y_l)]).

    DPO (Rafailov et al. 2023), log-probabilities summed over the answer's tokens. With the direction drawn by
    a coin at each step (`TrainConfig(negative="drawn")`, the default here) it is BiPO (Cao et al. 2024), the
    paper's baseline of Table 4: for the mirrored direction the caller swaps the answers and negates m.

    Returns:
        (batch,) in nats.

    Raises:
        ValueError: when the reference losses are missing.
    """
    if inputs.reference_loss_positive is None or inputs.reference_loss_negative is None:
        raise ValueError("dpo compares with the model without the intervention: give both reference losses.")
    gained = (inputs.reference_loss_positive - inputs.loss_positive) * inputs.length_positive
    other = (inputs.reference_loss_negative - inputs.loss_negative) * inputs.length_negative
    return -functional.logsigmoid(beta * (gained - other))


@dataclass(frozen=True)
class Objective:
    """An objective and its settings.

    function: gives the loss per pair from `ObjectiveInputs` and the hyper-parameters. defaults: of the
    hyper-parameters, the values most common in the official settings (theta: 0.4 and 0.5 equally often).
    needs_reference: whether it reads losses of the model without the intervention. needs_negative: whether
    it reads the other answer's loss. mirrored: the mirrored direction it is trained with, a key of
    `trainer.NEGATIVE`.
    """

    function: Callable[..., Float[Tensor, " batch"]]
    defaults: dict[str, float] = field(default_factory=dict)
    needs_reference: bool = False
    needs_negative: bool = True
    mirrored: str = "negated"

    def __call__(self, inputs: ObjectiveInputs, **hyper: float) -> Float[Tensor, " batch"]:
        """Loss per pair (batch,); hyper-parameters that are not given have their default.

        Raises:
            ValueError: for a hyper-parameter that the objective does not have.
        """
        unknown = sorted(set(hyper) - set(self.defaults))
        if unknown:
            choices = ", ".join(self.defaults) or "none"
            raise ValueError(f"{self.function.__name__} has no hyper-parameter {unknown}; it has: {choices}.")
        return self.function(inputs, **{**self.defaults, **hyper})


OBJECTIVES: dict[str, Objective] = {
    "sft": Objective(sft, needs_negative=False),
    "reps": Objective(reps, {"beta": 1.0, "simpo_scaler": 1.0}, needs_reference=True),
    "split": Objective(split, {"lambda_p": 1.0, "lambda_n": 0.5, "gamma": 5.0, "theta": 0.5}),
    # its direction is drawn at each step, as in BiPO
    "dpo": Objective(dpo, {"beta": 0.1}, needs_reference=True, mirrored="drawn"),
}
"""Objectives that are trained by gradient."""


class Activations(Protocol):
    """The residual stream that leaves the steered layer, unsteered, under the texts of some pairs."""

    @property
    def width(self) -> int:
        """Its width."""

    @property
    def questions(self) -> Sequence[str]:
        """The question of each pair."""

    def answers(self, positive: bool) -> Float[Tensor, "token hidden"]:
        """h at the tokens of all positive answers, or of all negative ones."""

    def text(self, pair: int) -> Float[Tensor, "token hidden"]:
        """h at all tokens but BOS of a pair's question with its negative answer."""


def diffmean(seen: Activations, seed: int) -> Float[Tensor, " hidden"]:
    """v = mean h over the positive answers' tokens - mean h over the negative answers' (DiffMean).

    The means are over all tokens of all answers together; nothing is drawn.
    """
    return seen.answers(True).double().mean(0) - seen.answers(False).double().mean(0)


def random_direction(width: int, generator: np.random.Generator) -> Float[np.ndarray, " width"]:
    """A direction of length 1, drawn evenly from all."""
    drawn = generator.standard_normal(width)
    return drawn / np.linalg.norm(drawn)


def random(seen: Activations, seed: int) -> Float[Tensor, " hidden"]:
    """v, an isotropic Gaussian direction of length 1: a control that knows nothing of the model.

    It is drawn by the seed and the first question, so that no two tasks share a draw.
    """
    return torch.from_numpy(random_direction(seen.width, _generator(seen, seed)))


def natural(seen: Activations, seed: int) -> Float[Tensor, " hidden"]:
    """v = mean h over one text - mean h over another: a control that has nothing to do with the concept.

    Both texts are without the concept: the questions of two pairs that the seed draws, each with its negative
    answer, all tokens but BOS.

    Raises:
        ValueError: for fewer than two different questions.
    """
    each = list(dict.fromkeys(seen.questions))
    if len(each) < 2:
        raise ValueError("natural is the difference of two texts: give pairs of two questions or more.")
    first, second = _generator(seen, seed).choice(len(each), 2, replace=False)
    means = [seen.text(seen.questions.index(each[n])).double().mean(0) for n in (first, second)]
    return means[0] - means[1]


def _generator(seen: Activations, seed: int) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{seed} {seen.questions[0]}".encode()))


CLOSED: dict[str, Callable[[Activations, int], Float[Tensor, " hidden"]]] = {
    "diffmean": diffmean,
    "random": random,
    "natural": natural,
}
"""Vectors that are computed at once, from activations and a seed: they have no loss and no settings."""

CONTROLS = ("random", "natural")
"""Those of `CLOSED` that learn nothing: each seed draws one. What they do is what adding anything does."""


def get_objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        ValueError: for an unknown name, listing what there is to choose from.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"Unknown objective {name!r}; trained objectives are {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def token_losses(
    logits: Float[Tensor, "batch token vocabulary"], labels: Int[Tensor, "batch token"]
) -> tuple[Float[Tensor, " batch"], Int[Tensor, " batch"]]:
    """L = -1/|A| sum_t log P(A_t | q, A_<t): mean over the answer's tokens.

    Args:
        logits: (batch, token, vocabulary); those at position t predict the token at t + 1.
        labels: (batch, token) token ids aligned with the inputs, -100 wherever a token is not of the answer.

    Returns:
        (batch,) means in nats per token, and (batch,) numbers of answer tokens, to recover sums.

    Raises:
        TypeError: for logits or labels that are no such tensors.
        ValueError: when the shapes do not match, a label is beyond the vocabulary, or (naming the row) when
            one has no answer token.
    """
    if not isinstance(logits, Tensor) or not isinstance(labels, Tensor) or labels.is_floating_point():
        raise TypeError("logits are a tensor of floats, labels one of whole numbers, the token ids.")
    if logits.ndim != 3 or logits.shape[:2] != labels.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not match: "
            "they are (batch, token, vocabulary) and (batch, token)."
        )
    targets, size = labels[:, 1:], logits.shape[2]
    if ((labels != IGNORED) & ((labels < 0) | (labels >= size))).any():
        raise ValueError(f"labels are token ids below {size}, the vocabulary of the logits, or {IGNORED}.")
    lengths = (targets != IGNORED).sum(dim=1)
    empty = (lengths == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"No answer token to predict in row(s) {empty} of the batch: all labels are {IGNORED}."
        )
    # half precision is too coarse for a sum over the vocabulary
    scores = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    losses = functional.cross_entropy(
        scores.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return losses.view_as(targets).sum(dim=1) / lengths, lengths


def split_loss(
    logits_pos: Float[Tensor, "batch token_pos vocabulary"],
    logits_neg: Float[Tensor, "batch token_neg vocabulary"],
    labels_pos: Int[Tensor, "batch token_pos"],
    labels_neg: Int[Tensor, "batch token_neg"],
    lambda_p: float = 1.0,
    lambda_n: float = 1.0,
    gamma: float = 1.0,
    theta: float = 1.0,
) -> Float[Tensor, ""]:
    """L = mean over pairs of lambda_p L_p + lambda_n L_n + gamma ReLU(theta - (L_n - L_p)) (Eq. 18-20).

    The weights are 1 here unless they are given. `train(..., objective="split")` minimises the same loss with
    those of its `TrainConfig` (`weights`), which are `OBJECTIVES["split"].defaults` unless they are given:
    lambda_p 1, lambda_n 0.5, gamma 5, theta 0.5.

    Example, a step of a loop of one's own; each side is a dict of input_ids, attention_mask and labels::

        logits = [model(side["input_ids"], side["attention_mask"]).logits for side in (positive, negative)]
        loss = split_loss(*logits, positive["labels"], negative["labels"], gamma=5.0, theta=0.5)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    Args:
        logits_pos: (batch, token, vocabulary) as a causal LM gives them for prompt and positive answer.
        logits_neg: the same for the negative answer; the number of tokens may differ.
        labels_pos: (batch, token) token ids aligned with the inputs, -100 masked; shifting is done here.
        labels_neg: the same for the negative answer.
        lambda_p: weight of the positive answer's loss.
        lambda_n: weight of the negative answer's loss.
        gamma: weight of the margin.
        theta: preference log-odds asked for, in nats per token.

    Returns:
        () in nats per token.

    Raises:
        ValueError: when shapes do not match, or when a row has no answer token (naming the row).
    """
    loss_positive, length_positive = token_losses(logits_pos, labels_pos)
    loss_negative, length_negative = token_losses(logits_neg, labels_neg)
    inputs = ObjectiveInputs(loss_positive, loss_negative, length_positive, length_negative)
    return split(inputs, lambda_p=lambda_p, lambda_n=lambda_n, gamma=gamma, theta=theta).mean()
