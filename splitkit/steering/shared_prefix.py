"""Shared prefix: the prompt of a pair runs once for both of its answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from splitkit.steering.interventions import Intervention
from splitkit.steering.replay import Recording, Replay, predicting, stack_rows
from splitkit.steering.tokenization import Encoded, pad_batch

SIDES = 2
"""Number of answers of a pair: the positive one, then the negative one."""


@dataclass(frozen=True)
class Fork:
    """Recorded pairs: each prompt but its last token, and from there its two answers.

    At one strength, causal attention leaves the stem the same under both answers. `stems` (pair, token) ends
    where the branches begin; None where no later layer reads it, or there is none. `branches` (2 pair, token)
    has each pair's positive answer, then its negative one.
    """

    stems: Recording | None
    branches: Recording

    def repeated(self, times: int) -> "Fork":
        """The same pairs `times` times, one block after the other."""
        stems = None if self.stems is None else self.stems.repeated(times)
        return Fork(stems, self.branches.repeated(times))

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included, of one pass over the pairs."""
        parts = [self.branches] if self.stems is None else [self.stems, self.branches]
        return sum(part.batch.input_ids.numel() for part in parts)

    def deltas(self, intervention: Intervention) -> list[Tensor]:
        """dh of the branches, and of the stems where there are any; the same at every m."""
        parts = [self.branches] if self.stems is None else [self.branches, self.stems]
        return [intervention.delta(part.x) for part in parts]

    def losses(
        self, replay: Replay, dh: Sequence[Tensor], m: Float[Tensor, " strength"]
    ) -> Float[Tensor, "strength pair side"]:
        """L of both answers under h' = h + m dh (Eq. 5), in nats per token; see `Replay.losses`."""
        many, times = self.repeated(len(m)), len(m)
        factors = m.repeat_interleave(len(self.branches.batch.index) // SIDES)  # (strength * pair,)
        branches = many.branches.batch
        residual = replay.steered(many.branches, dh[0].repeat(times, 1, 1), factors.repeat_interleave(SIDES))
        needed = predicting(branches)
        if many.stems is None:
            hidden = replay.tail(branches, residual, needed)
        else:
            stems, cache = many.stems.batch, replay.tail.cache()
            # for its keys and values alone: what the head would read of a stem is not needed anywhere
            nowhere = torch.zeros_like(stems.answer_mask)
            residual_stem = replay.steered(many.stems, dh[1].repeat(times, 1, 1), factors)
            replay.tail(stems, residual_stem, nowhere, cache=cache)
            cache.batch_repeat_interleave(SIDES)
            stem_mask = stems.attention_mask.repeat_interleave(SIDES, 0)
            hidden = replay.tail(branches, residual, needed, cache=cache, stem_mask=stem_mask)
        return replay.answer_losses(branches, hidden, needed).view(times, -1, SIDES)


def record_fork(
    replay: Replay,
    tokenizer: PreTrainedTokenizerBase,
    positive: Sequence[Encoded],
    negative: Sequence[Encoded],
) -> Fork:
    """The recording of some pairs, whose sequences have the same prompt.

    Where only `replay.check_replay` covers the architecture, the whole sequences are the branches.
    """
    both = [sequence for pair in zip(positive, negative, strict=True) for sequence in pair]
    recording = replay.record(pad_batch(tokenizer, both, range(len(both))))
    if not replay.sites.proven:
        return Fork(None, recording)
    rows = [values for _, values in recording.rows()]
    starts = [sequence.prompt_length - 1 for sequence in both]
    branches = stack_rows(
        tokenizer,
        [replace(s, ids=s.ids[start:], prompt_length=1) for s, start in zip(both, starts, strict=True)],
        [_cut(row, slice(start, None)) for row, start in zip(rows, starts, strict=True)],
        side="right",
    )
    if not len(replay.tail) or not max(starts):
        return Fork(None, branches)
    # padded on the left, so that a stem and its branches have no gap between them
    stems = stack_rows(
        tokenizer,
        [replace(s, ids=s.ids[:n], prompt_length=n) for s, n in zip(positive, starts[::SIDES], strict=True)],
        [_cut(row, slice(0, n)) for row, n in zip(rows[::SIDES], starts[::SIDES], strict=True)],
        side="left",
    )
    return Fork(stems, branches)


def _cut(row: dict[str, Tensor], where: slice) -> dict[str, Tensor]:
    return {name: values[where] for name, values in row.items()}
