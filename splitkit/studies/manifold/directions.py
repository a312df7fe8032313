"""Directions in the residual stream along which utility and preference grow, and their angles with dh."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.curves.log_odds import preference_log_odds, utility_log_odds
from splitkit.steering.pairs import Pair
from splitkit.steering.replay import Replay, at_rest
from splitkit.steering.tokenization import encode_pairs, pad_batch

RANDOM = 4000
"""Random directions that an angle is compared with."""
_PAIRS_AT_ONCE = 8
_RIDGE = 1e-4


def gradients(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], layer: int
) -> dict[str, Float[np.ndarray, " hidden"]]:
    """g = d/dc mean PrefOdds (Eq. 7) and d/dc mean UtilOdds (Eq. 8) at c = 0, under h' = h + c.

    c is one shift of the residual stream that leaves `layer`, at every token but BOS: the slope at m = 0 of
    a vector v's curve is g v. The mean is over pairs; those without Eq. 8 at c = 0 are left out of utility.

    Returns:
        "preference" and "utility", each (hidden,), in nats per unit of the stream; utility's is NaN where no
        pair has Eq. 8 defined, as for answers of one word that are as good as certain together.
    """
    positive, negative = encode_pairs(model, tokenizer, pairs)
    sums: dict[str, np.ndarray] = {}
    defined_pairs = 0
    with at_rest(model):
        replay = Replay(model, layer, "vector")
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            rows = [*positive[part], *negative[part]]
            recording = replay.record(pad_batch(tokenizer, rows, range(len(rows))))
            output = recording.activations["output"]
            shift = output.new_zeros(output.shape[-1], requires_grad=True)
            ones = output.new_ones(len(rows))
            loss_positive, loss_negative = replay.losses(recording, shift.expand_as(output), ones).chunk(2)
            defined = torch.isfinite(utility_log_odds(loss_positive.detach(), loss_negative.detach()))
            defined_pairs += int(defined.sum())
            totals = {
                "preference": preference_log_odds(loss_positive, loss_negative).sum(),
                "utility": utility_log_odds(loss_positive[defined], loss_negative[defined]).sum(),
            }
            for name, total in totals.items():
                (slope,) = torch.autograd.grad(total, shift, retain_graph=True)
                sums[name] = sums.get(name, 0.0) + slope.double().cpu().numpy()
    if defined_pairs == 0:
        sums["utility"] = np.full_like(sums["utility"], np.nan)
    return {"preference": sums["preference"] / len(pairs), "utility": sums["utility"] / max(1, defined_pairs)}


def probe(
    natural: Float[np.ndarray, "token hidden"], corrupted: Float[np.ndarray, "token hidden"]
) -> tuple[Float[np.ndarray, " hidden"], float]:
    """w = (C + ridge)^-1 (mean of natural - mean of corrupted): ridge regression of "natural or corrupted".

    C is the pooled covariance within the two kinds. Returns w (hidden,) and the threshold on w h half-way.
    """
    kinds = [np.asarray(kind, dtype=float) for kind in (natural, corrupted)]
    means = [kind.mean(axis=0) for kind in kinds]
    pooled = np.mean([np.cov(kind, rowvar=False) for kind in kinds], axis=0)
    ridge = _RIDGE * np.trace(pooled) / len(pooled)
    w = np.linalg.solve(pooled + ridge * np.eye(len(pooled)), means[0] - means[1])
    return w, float(w @ (means[0] + means[1]) / 2)


def probe_accuracy(w: np.ndarray, threshold: float, natural: np.ndarray, corrupted: np.ndarray) -> float:
    """Share of activations on the right side of a probe, the two kinds weighted equally: 0.5 is chance."""
    return float(((natural @ w > threshold).mean() + (corrupted @ w <= threshold).mean()) / 2)


def cosine(a: Float[np.ndarray, "*batch hidden"], b: Float[np.ndarray, " hidden"]) -> np.ndarray:
    """cos = a b / (|a| |b|), of each row of a; ValueError for a direction of length 0, which has no angle."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b)
    if not np.all(lengths > 0):
        raise ValueError("a direction of length 0 has no angle.")
    return np.asarray(a @ b / lengths)


def random_directions(
    natural: Float[np.ndarray, "token hidden"], seed: int = 0
) -> dict[str, Float[np.ndarray, "direction hidden"]]:
    """`RANDOM` directions of each kind: "isotropic", and "natural" with the covariance of `natural`.

    Natural activations fill few directions, so that random natural ones meet more often.
    """
    isotropic = np.random.default_rng(seed).standard_normal((RANDOM, natural.shape[1]))
    variance, axes = np.linalg.eigh(np.cov(np.asarray(natural, dtype=float), rowvar=False))
    return {"isotropic": isotropic, "natural": (isotropic * np.sqrt(variance.clip(min=0))) @ axes.T}


def angle(
    direction: Float[np.ndarray, " hidden"],
    change: Float[np.ndarray, " hidden"],
    random: dict[str, Float[np.ndarray, "direction hidden"]],
) -> dict[str, float]:
    """The cosine of a direction and dh, its degrees (0 to 180), and |cos| of `random_directions` beside it.

    For each kind of random directions <kind>_95 is the |cos| that 95 % of them stay below, <kind>_share the
    share of them with a |cos| at least as large.
    """
    found = float(cosine(change, direction))
    row = {"cosine": found, "degrees": float(np.degrees(np.arccos(np.clip(found, -1, 1))))}
    for kind, directions in random.items():
        sizes = np.abs(cosine(directions, direction))
        row[f"{kind}_95"] = float(np.quantile(sizes, 0.95))
        row[f"{kind}_share"] = float((sizes >= abs(found)).mean()) if np.isfinite(found) else np.nan
    return row
