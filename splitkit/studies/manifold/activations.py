"""Activations at the tokens of answers: natural ones, and those of the same texts under an intervention."""

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.interventions import Intervention
from splitkit.steering.pairs import Pair
from splitkit.steering.replay import Replay, at_rest
from splitkit.steering.strengths import Strength, as_factors, as_grid
from splitkit.steering.tokenization import Batch, Encoded, answer_ids, batches, encode_pairs, prompt_ids

SITES = ("layer", "end")
"""The residual stream that leaves the steered layer, and the head's input after the final norm."""

Dialogue = tuple[str, str]
"""A question and one answer to it."""


class _Watched(Replay):
    """A Replay that keeps the residual stream that it last passed on, and the head's input."""

    def onward(self, batch: Batch, residual: Tensor, needed: Tensor | None = None) -> Tensor:
        # at every position, whatever is needed
        self.residual, self.hidden = residual, super().onward(batch, residual)
        return self.hidden


class RecordedPairs:
    """Pairs run through the layers up to one of them, once for all interventions there, of any form."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], layer: int
    ) -> None:
        """Raises ValueError for bad pairs, or a layer out of range."""
        positive, negative = encode_pairs(model, tokenizer, pairs)
        self.model, self.layer, self.n_pairs = model, layer, len(pairs)
        with at_rest(model):
            # a weight form's recording holds all that a vector needs
            replay = Replay(model, layer, "local_weight")
            self.recordings = [replay.record(batch) for batch in batches(tokenizer, [*positive, *negative])]

    def activations(
        self, intervention: Intervention, m: Strength, tokens: int | None = None
    ) -> dict[str, Float[np.ndarray, "strength token hidden"]]:
        """h' = h + m dh (Eq. 5) at the tokens of both answers of every pair, at each of `SITES` and every m.

        `tokens` asks for that many of the answers' tokens, evenly spaced. ValueError for bad strengths or one
        named twice, another base model or another layer.
        """
        return self._run(intervention, m, tokens, self.n_pairs, None)

    def activations_and_losses(
        self, intervention: Intervention, m: Strength, tokens: int | None, pairs: int
    ) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "strength answer"]]:
        """`activations` of the first `pairs` pairs, and L of all answers per token, positive ones first."""
        losses = torch.empty(len(as_grid(m)), 2 * self.n_pairs, dtype=torch.float64)
        return self._run(intervention, m, tokens, pairs, losses), losses.numpy()

    def _run(
        self, intervention: Intervention, m: Strength, tokens: int | None, pairs: int, losses: Tensor | None
    ) -> dict[str, np.ndarray]:
        grid, replay = as_factors(as_grid(m)), self._replay(intervention)
        found: dict[str, list[Tensor]] = {site: [] for site in SITES}
        with at_rest(self.model), torch.no_grad():
            for recording in self.recordings:
                batch, dh = recording.batch, intervention.delta(recording.x)
                kept = batch.answer_mask & (batch.index % self.n_pairs < pairs).unsqueeze(1)
                every: dict[str, list[Tensor]] = {site: [] for site in SITES}
                for number, strength in enumerate(grid.tolist()):
                    factors = torch.full((len(batch.index),), strength, device=dh.device)
                    if losses is None:
                        replay.onward(batch, replay.steered(recording, dh, factors))
                    else:
                        losses[number, batch.index] = replay.losses(recording, dh, factors).double().cpu()
                    every["layer"].append(replay.residual[kept])
                    every["end"].append(replay.hidden[kept])
                for site in SITES:
                    found[site].append(torch.stack(every[site]))
        return _picked(found, tokens)

    def moved(self, intervention: Intervention, m: Strength) -> Float[np.ndarray, "strength token hidden"]:
        """h' = h + m dh (Eq. 5) at all tokens of the answers as it leaves the layer."""
        grid, replay = as_factors(as_grid(m)).tolist(), self._replay(intervention)
        found = []
        with at_rest(self.model), torch.no_grad():
            for recording in self.recordings:
                dh, answer = intervention.delta(recording.x), recording.batch.answer_mask
                ones = torch.ones(len(answer), device=dh.device)
                found.append(torch.stack([replay.steered(recording, dh, s * ones)[answer] for s in grid]))
        return torch.cat(found, dim=1).float().cpu().numpy()

    def _replay(self, intervention: Intervention) -> _Watched:
        intervention.check_base(self.model)
        if intervention.layer != self.layer:
            raise ValueError(f"recorded was layer {self.layer}, the intervention is at {intervention.layer}.")
        return _Watched(self.model, self.layer, intervention.form, intervention.tokens)


def natural_activations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[Dialogue],
    layer: int,
    sites: Sequence[str] = SITES,
) -> dict[str, Float[np.ndarray, "token hidden"]]:
    """Activations of the unsteered model at every token of the answers, at each of `sites`, some of `SITES`.

    ValueError for no dialogues, or a layer out of range.
    """
    if not dialogues:
        raise ValueError("no dialogues: there are no natural activations without texts.")
    found: dict[str, list[Tensor]] = {site: [] for site in sites}
    with at_rest(model), torch.no_grad():
        replay = Replay(model, layer, "vector")
        for batch in batches(tokenizer, _encoded(tokenizer, dialogues)):
            recording = replay.record(batch)
            batch, residual = recording.batch, recording.activations["output"]
            for site in sites:
                values = residual if site == "layer" else replay.onward(batch, residual)
                found[site].append(values[batch.answer_mask])
    return {site: torch.cat(parts).float().cpu().numpy() for site, parts in found.items()}


def mean_change(
    pairs: RecordedPairs, intervention: Intervention, unit: float
) -> Float[np.ndarray, " hidden"]:
    """Mean over the answers' tokens of dh'/dm at m = 0 (Eq. 5), in the residual stream that leaves the layer.

    For a vector that is v. For a weight form it is the mean of dW x + db, behind the norm that follows the
    down-projection where there is one (Gemma2): hence the central difference, with a step of 0.01 `unit`.
    """
    step = 0.01 * unit
    before, after = pairs.moved(intervention, [-step, step])
    return (after.astype(float) - before).mean(axis=0) / (2 * step)


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


def _picked(found: dict[str, list[Tensor]], wanted: int | None) -> dict[str, np.ndarray]:
    """`wanted` of all tokens (strength, token, hidden), evenly spaced, or all of them."""
    whole = {site: torch.cat(parts, dim=1).float().cpu().numpy() for site, parts in found.items()}
    count = whole[SITES[0]].shape[1]
    if wanted is None or wanted >= count:
        return whole
    picked = np.linspace(0, count - 1, wanted).round().astype(int)
    return {site: values[:, picked] for site, values in whole.items()}
