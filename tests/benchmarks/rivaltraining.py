"""Rivals in training: SPLIT by a loop over the whole model, all rows at once or in the official way."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from splitkit.steering.tokenization import Encoded
from splitkit.steering.trainer import TrainConfig
from tests.benchmarks.rivals import Steering, full_losses, padded


def start(form: str, model: PreTrainedModel, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    """dh = 0 at first: zeros, but for a LoRA's A, which is drawn evenly as peft draws it."""
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    if form == "vector":
        return {"vector": torch.zeros(hidden)}
    drawn = torch.rand(rank, inner, generator=generator)
    return {"A": (2 * drawn - 1) / math.sqrt(inner), "B": torch.zeros(hidden, rank)}


def train_split(
    kind: Any,
    model: PreTrainedModel,
    sequences: Sequence[Encoded],
    form: str,
    layer: int,
    config: TrainConfig,
    seed: int = 0,
    *,
    losses: Any = full_losses,
    official: bool = False,
) -> list[float]:
    """Each step's SPLIT loss (Eq. 18-20) of a loop over the whole model; both directions in one batch.

    `sequences` are the positive answers, then the negative ones. The draws (a LoRA's start, order, factors)
    are the ones that splitkit documents, in the same order. With `official`, a step goes through four pairs
    at a time, in 8 forward passes of batch 4 where 4 are needed; of what is done twice, one has no gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    count = len(sequences) // 2
    steering: Steering = kind(model, layer, form, start(form, model, config.rank, generator))
    parameters = [tensor.requires_grad_() for tensor in steering.parameters.values()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0)
    steps = config.epochs * -(-count // config.batch_size)
    choices = round((config.factor_max - config.factor_min) / config.factor_step) + 1
    order: list[int] = []
    history: list[float] = []
    for step in range(steps):
        if not order:
            order = torch.randperm(count, generator=generator).tolist()
        chosen, order = order[: config.batch_size], order[config.batch_size :]
        here = torch.tensor(chosen)
        # (direction, side, pair): winners, then losers; the mirrored direction swaps them and negates m
        rows = torch.stack([torch.stack([here, here + count]), torch.stack([here + count, here])])
        drawn = [torch.randint(choices, (2, len(chosen)), generator=generator) for _ in range(2)]
        factors = [config.factor_min + config.factor_step * number for number in drawn]
        m = torch.stack([factors[0], -factors[1]])  # (direction, side, pair)
        total = 0.0
        optimizer.zero_grad()
        for part in range(0, len(chosen), 4 if official else len(chosen)):
            some = slice(part, part + 4) if official else slice(None)
            found = _four_at_a_time if official else _all_at_once
            winner, loser = found(steering, sequences, rows[:, :, some], m[:, :, some], losses).unbind(1)
            each = _split(winner, loser, config.weights)
            loss = each.sum() / (2 * len(chosen))
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.param_groups[0]["lr"] = config.lr * (1 - step / steps)
        optimizer.step()
        history.append(total)
    return history


def _split(winner: Tensor, loser: Tensor, weights: dict[str, float]) -> Tensor:
    """lambda_p L_p + lambda_n L_n + gamma ReLU(theta - (L_n - L_p)) (Eq. 18-20)."""
    margin = functional.relu(weights["theta"] - (loser - winner))
    return weights["lambda_p"] * winner + weights["lambda_n"] * loser + weights["gamma"] * margin


def _all_at_once(
    steering: Steering, sequences: Sequence[Encoded], rows: Tensor, m: Tensor, losses: Any
) -> Tensor:
    batch = padded(sequences, rows.flatten().tolist())
    with steering.at(m.reshape(-1, 1, 1), batch.ids):
        return losses(steering.model, batch).view(rows.shape)


def _four_at_a_time(
    steering: Steering, sequences: Sequence[Encoded], rows: Tensor, m: Tensor, losses: Any
) -> Tensor:
    found = []
    for row, factors in zip(rows.flatten(0, 1), m.flatten(0, 1), strict=True):
        batch = padded(sequences, row.tolist())
        for context in (torch.no_grad(), nullcontext()):
            with context, steering.at(factors.reshape(-1, 1, 1), batch.ids):
                loss = losses(steering.model, batch)
        found.append(loss)
    return torch.stack(found).view(rows.shape)
