"""Activations at the tokens of answers: natural ones, and the same texts' under an intervention."""

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.encoding import Encoded, answer_ids, batches, encode_pairs, prompt_ids
from splitkit.interventions import Intervention, Strength, as_factors
from splitkit.pairs import Pair
from splitkit.recording import Replay, at_rest

SITES = ("layer", "end")
"""The residual stream that leaves the steered layer, and what the head reads after the final norm."""

Dialogue = tuple[str, str]
"""A question and one answer to it."""

_STEP = 0.01


def natural_activations(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Dialogue], layer: int
) -> dict[str, Float[np.ndarray, "token hidden"]]:
    """Activations of the unsteered model at every token of the answers, at each of `SITES`.

    Raises:
        ValueError: for no dialogues, or a layer out of range.
    """
    if not dialogues:
        raise ValueError("no dialogues: there are no natural activations without texts.")
    found: dict[str, list[Tensor]] = {site: [] for site in SITES}
    with at_rest(model), torch.no_grad():
        replay = Replay(model, layer, "vector")
        for batch in batches(tokenizer, _encoded(tokenizer, dialogues)):
            recording = replay.record(batch)
            batch, residual = recording.batch, recording.activations["output"]
            found["layer"].append(residual[batch.answer_mask])
            found["end"].append(replay.onward(batch, residual)[batch.answer_mask])
    return {site: torch.cat(parts).float().cpu().numpy() for site, parts in found.items()}


def steered_activations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: Sequence[Pair],
    m: Strength,
    tokens: int | None = None,
) -> dict[str, Float[np.ndarray, "strength token hidden"]]:
    """h' = h + m dh (Eq. 5) at the tokens of both answers of every pair, at each of `SITES` and every m.

    The layers up to the steered one run once. With `tokens`, that many of the answers' tokens, evenly spaced.

    Raises:
        ValueError: for bad pairs or strengths, or another base model.
    """
    grid = as_factors(m).reshape(-1).tolist()
    intervention.check_base(model)
    found: dict[str, list[Tensor]] = {site: [] for site in SITES}
    with at_rest(model), torch.no_grad():
        replay = Replay(model, intervention.layer, intervention.form)
        positive, negative = encode_pairs(model, tokenizer, pairs)
        for batch in batches(tokenizer, [*positive, *negative]):
            recording = replay.record(batch)
            batch, dh = recording.batch, intervention.delta(recording.x)
            every: dict[str, list[Tensor]] = {site: [] for site in SITES}
            for strength in grid:
                factors = torch.full((len(batch.index),), strength, device=dh.device)
                residual = replay.steered(recording, dh, factors)
                every["layer"].append(residual[batch.answer_mask])
                every["end"].append(replay.onward(batch, residual)[batch.answer_mask])
            for site in SITES:
                found[site].append(torch.stack(every[site]))
    whole = {site: torch.cat(parts, dim=1).float().cpu().numpy() for site, parts in found.items()}
    return {site: values[:, _evenly(values.shape[1], tokens)] for site, values in whole.items()}


def mean_change(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: Sequence[Pair],
    unit: float,
) -> Float[np.ndarray, " hidden"]:
    """Mean over the answers' tokens of dh'/dm at m = 0 (Eq. 5), in the residual stream that leaves the layer.

    For a vector that is v. For a weight form it is the mean of dW x + db, behind the norm that follows the
    down-projection where there is one (Gemma2): hence the central difference, with a step of 0.01 `unit`.
    """
    step = _STEP * unit
    moved = steered_activations(model, tokenizer, intervention, pairs, [-step, step])["layer"]
    return (moved[1].astype(float) - moved[0]).mean(axis=0) / (2 * step)


def corrupted(dialogues: Sequence[Dialogue], seed: int = 0) -> list[Dialogue]:
    """The same dialogues with the words of each answer in random order: the same words, no text."""
    rng, shuffled = Random(f"corrupted/{seed}"), []
    for question, answer in dialogues:
        words = answer.split()
        rng.shuffle(words)
        shuffled.append((question, " ".join(words)))
    return shuffled


def _encoded(tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[Dialogue]) -> list[Encoded]:
    rows = []
    for number, (question, answer) in enumerate(dialogues):
        prompt = prompt_ids(tokenizer, question)
        rows.append(Encoded(number, (*prompt, *answer_ids(tokenizer, answer)), len(prompt)))
    return rows


def _evenly(count: int, wanted: int | None) -> np.ndarray:
    if wanted is None or wanted >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, wanted).round().astype(int)
