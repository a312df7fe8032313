"""Shared prefix: what several answers begin with runs once for all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from splitkit.steering.interventions import Steering
from splitkit.steering.replay import Recording, Replay, predicting, stack_rows
from splitkit.steering.tokenization import Encoded, pad_batch

SIDES = 2
"""Number of answers of a pair: the positive one, then the negative one."""

TRUNK = 16
"""Fewest tokens that all prompts must begin with to be run once for all, as a template's system prompt is."""


@dataclass(frozen=True)
class Fork:
    """Recorded pairs as a tree: at one strength, a prefix is the same under all that follows.

    `levels` are parts of the sequences from the root on, each (rows, token); a row is continued by as many
    rows of the next level as any other, one after the other. They are the trunk that all prompts begin with,
    if they do; the stems, the rest of each prompt but its last token; the branches (2 pair, token), each
    pair's positive answer, then its negative one. The branches stand alone where no layer reads the rest.
    `whole` has the sequences (2 pair, token) as they are.
    """

    levels: tuple[Recording, ...]
    whole: Recording

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included, of one pass over the pairs."""
        return sum(level.batch.input_ids.numel() for level in self.levels)

    def deltas(self, intervention: Steering) -> list[Tensor]:
        """dh of each level; the same at every m."""
        return [intervention.delta(level.x) for level in self.levels]

    def losses(
        self, replay: Replay, dh: Sequence[Tensor], m: Float[Tensor, " strength"]
    ) -> Float[Tensor, "strength pair side"]:
        """L of both answers under h' = h + m dh (Eq. 5), in nats per token; see `Replay.losses`."""
        if replay.runs != "tail":
            (whole,) = self.levels
            many, rows = whole.repeated(len(m)), len(whole.batch.index)
            losses = replay.losses(many, dh[0].repeat(len(m), 1, 1), m.repeat_interleave(rows))
            return losses.view(len(m), -1, SIDES)
        cache = replay.tail.cache() if len(self.levels) > 1 else None
        times, before, mask = len(m), 1, None
        for level, change in zip(self.levels, dh, strict=True):
            rows, many = len(level.batch.index), level.repeated(times)
            batch = many.batch
            if cache is not None and mask is not None:
                cache.batch_repeat_interleave(rows // before)
                mask = mask.repeat_interleave(rows // before, 0)
            residual = replay.steered(many, change.repeat(times, 1, 1), m.repeat_interleave(rows))
            # of all but the branches, which have the answers, the keys and values are all that is read
            needed = predicting(batch)
            hidden = replay.tail(batch, residual, needed, cache=cache, stem_mask=mask)
            mask = batch.attention_mask if mask is None else torch.cat([mask, batch.attention_mask], dim=1)
            before = rows
        return replay.answer_losses(batch, hidden, needed).view(times, -1, SIDES)


def push(
    moved: Iterable[Float[Tensor, "row token hidden"]],
    h: Float[Tensor, "row token hidden"],
    steered: Bool[Tensor, "row token"],
) -> Float[Tensor, "strength pair"]:
    """Median of |h' - h| / |h| over the steered tokens of both answers of each pair, for each h' of `moved`.

    A row is a question with one answer, as in `Fork.whole`: the tokens of a question count twice.
    """
    wide = torch.promote_types(h.dtype, torch.float32)
    h, found = h.to(wide), []
    length = h.norm(dim=-1)
    for one in moved:
        share = ((one.to(wide) - h).norm(dim=-1) / length).masked_fill(~steered, torch.nan)
        found.append(share.view(len(h) // SIDES, -1).nanmedian(dim=1).values)
    return torch.stack(found)


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
        return Fork((recording,), recording)
    rows = [values for _, values in recording.rows()]

    def part(chosen: slice, begins: Sequence[int], ends: Sequence[int | None], side: str) -> Recording:
        """Tokens `begins` to `ends` of every chosen sequence."""
        cuts = [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]
        sequences = [
            replace(s, ids=s.ids[cut], prompt_length=min(s.prompt_length - cut.start, len(s.ids[cut])))
            for s, cut in zip(both[chosen], cuts, strict=True)
        ]
        cut_rows = [
            {name: values[cut] for name, values in row.items()}
            for row, cut in zip(rows[chosen], cuts, strict=True)
        ]
        return stack_rows(tokenizer, sequences, cut_rows, side)

    starts, every = [sequence.prompt_length - 1 for sequence in both], slice(None, None, SIDES)
    branches = part(slice(None), starts, [None] * len(both), "right")
    if not len(replay.tail) or not max(starts):
        return Fork((branches,), recording)
    stems, shared = starts[every], _trunk(replay, both)
    # padded on the left, so that a stem and its branches have no gap between them
    levels = (part(every, [shared] * len(stems), stems, "left"), branches)
    return Fork((part(slice(1), [0], [shared], "right"), *levels) if shared else levels, recording)


def _trunk(replay: Replay, sequences: Sequence[Encoded]) -> int:
    """Number of tokens that all prompts begin with; 0 where they are too few, or for a single prompt.

    Each prompt keeps a token of its own before its last one. The padding between the trunk and a shorter
    stem moves no position, but a sliding window counts it: under one that is narrower than the sequences
    there is no trunk.
    """
    prompts = [sequence.ids[: sequence.prompt_length - 1] for sequence in sequences]
    same = [len(set(ids)) == 1 for ids in zip(*prompts, strict=False)]
    shared = [*same[:-1], False].index(False)
    window = getattr(replay.sites.decoder.config, "sliding_window", None)
    widest = max(map(len, prompts)) + max(sequence.answer_length for sequence in sequences) + 1
    if len(sequences) == SIDES or shared < TRUNK or (window is not None and widest > window):
        return 0
    return shared
