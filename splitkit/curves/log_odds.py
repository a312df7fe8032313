"""Preference and utility log-odds of answer pairs (Eq. 7 and 8 of the paper)."""

import math
from typing import TypeVar

import numpy as np
import torch

Losses = TypeVar("Losses", np.ndarray, torch.Tensor)


def preference_log_odds(loss_positive: Losses, loss_negative: Losses) -> Losses:
    """PrefOdds(q) = L_n - L_p (Eq. 7).

    How much more the model expects the positive answer than the negative one.

    Args:
        loss_positive: (...) L_p = -log P(positive answer | q), in nats or nats per token.
        loss_negative: (...) L_n of the same kind and shape.

    Returns:
        (...) in the unit of the losses and of their kind: float64 for arrays, a tensor keeps its dtype.

    Raises:
        ValueError: when the shapes differ; TypeError: when one is a tensor and the other is not.
    """
    positive, negative, dtype = _as_float64(loss_positive, loss_negative)
    return _restored(negative - positive, dtype)


def utility_log_odds(loss_positive: Losses, loss_negative: Losses) -> Losses:
    """UtilOdds(q) = log((e^-Lp + e^-Ln) / (1 - e^-Lp - e^-Ln)) (Eq. 8).

    How much probability the model leaves for either of the two answers, against everything else. With losses
    that are means per token the two terms can sum to 1 or more; there Eq. 8 is undefined and the result is
    NaN, never a clamped value.

    Args:
        loss_positive: (...) L_p in nats or nats per token.
        loss_negative: (...) L_n of the same kind and shape.

    Returns:
        (...) log-odds in nats, NaN where e^-Lp + e^-Ln >= 1, of the losses' kind.

    Raises:
        ValueError: when the shapes differ; TypeError: when one is a tensor and the other is not.
    """
    positive, negative, dtype = _as_float64(loss_positive, loss_negative)
    if isinstance(positive, torch.Tensor):
        mass = torch.logaddexp(-positive, -negative)
        mass = torch.where(mass < 0, mass, torch.full_like(mass, math.nan))
        # log(1 - e^mass): of its two forms the one that does not cancel (Maechler, 2012)
        small, large = torch.log1p(-torch.exp(mass)), torch.log(-torch.expm1(mass))
        return _restored(mass - torch.where(mass < -math.log(2), small, large), dtype)
    with np.errstate(divide="ignore", invalid="ignore"):
        mass = np.logaddexp(-positive, -negative)
        mass = np.where(mass < 0, mass, math.nan)
        small, large = np.log1p(-np.exp(mass)), np.log(-np.expm1(mass))
        return mass - np.where(mass < -math.log(2), small, large)


def _as_float64(positive: Losses, negative: Losses) -> tuple[Losses, Losses, torch.dtype | None]:
    """Both losses in float64, because 1 - e^-Lp - e^-Ln cancels where the answers are easy."""
    tensors = isinstance(positive, torch.Tensor), isinstance(negative, torch.Tensor)
    if any(tensors) and not all(tensors):
        raise TypeError("the losses are of two kinds: give two tensors or two arrays.")
    dtype = None
    if isinstance(positive, torch.Tensor) and isinstance(negative, torch.Tensor):
        dtype = torch.promote_types(positive.dtype, negative.dtype)
        dtype = dtype if dtype.is_floating_point else torch.float64
        positive, negative = positive.double(), negative.double()
    else:
        positive, negative = np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)
    if positive.shape != negative.shape:
        raise ValueError(
            f"positive and negative losses must have one shape, not {tuple(positive.shape)} and "
            f"{tuple(negative.shape)}: one value per pair in each."
        )
    return positive, negative, dtype


def _restored(values: Losses, dtype: torch.dtype | None) -> Losses:
    return values.to(dtype) if isinstance(values, torch.Tensor) else values
