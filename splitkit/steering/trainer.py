"""Trainer: the settings and the loop that fit an intervention's parameters, and the rows that loops share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.choosing.broken_text import SEQUENCES, push_at
from splitkit.steering.choosing.learning_rate import scaled_rate
from splitkit.steering.memory import tokens_that_fit
from splitkit.steering.objectives import Objective, ObjectiveInputs, get_objective
from splitkit.steering.pairs import Pair
from splitkit.steering.prompts.templates import TemplateArguments
from splitkit.steering.replay import Recording, Replay, stack_rows
from splitkit.steering.strengths import real_number, whole_number
from splitkit.steering.tokenization import Encoded, batches, buckets, encode_pairs

Rows = list[dict[str, Tensor]]
"""The unpadded activations (token, ...) of each sequence; see `replay.Recording`."""

MOST = 2**28
"""Most bytes that `SharedRows` holds; a larger recording is made for each training anew."""

NEGATIVE: dict[str, float | None] = {"negated": -1.0, "zero": 0.0, "none": None, "drawn": -1.0}
"""Sign of the factor in the mirrored direction, in which the answer without the concept wins.

Both directions are part of every step, except under "none" (no mirrored one) and "drawn" (one of the two, by
a fair coin at each step, as in BiPO).
"""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training. The optimizer is AdamW without weight decay; its learning rate falls to 0.

    lr: the learning rate at the first step. epochs: passes over the pairs. batch_size: pairs per step (in
    the official code, batch size times accumulation). dropout: share of dh's entries set to 0. factor_*:
    m is drawn evenly from factor_min, factor_min + factor_step, ... factor_max. negative: a key of
    `NEGATIVE`. rank: of a LoRA. weights: the objective's hyper-parameters that differ from its defaults.

    Raises:
        ValueError: for a setting that is out of range, not finite or of another kind, naming it: epochs,
            batch_size and rank are whole numbers (2, not 2.0), 1 or more.
    """

    lr: float
    epochs: int = 8
    batch_size: int = 8
    dropout: float = 0.1
    factor_min: float = 0.2
    factor_max: float = 2.0
    factor_step: float = 0.2
    negative: str = "negated"
    rank: int = 4
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.negative, str) or self.negative not in NEGATIVE:
            raise ValueError(f"unknown negative {self.negative!r}; there are {', '.join(NEGATIVE)}.")
        for name in ("lr", "dropout", "factor_min", "factor_max", "factor_step"):
            self._keep(name, real_number(name, getattr(self, name)))
        for name in ("epochs", "batch_size", "rank"):
            self._keep(name, whole_number(name, getattr(self, name), 1))
        for name in ("lr", "factor_step"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}.")
        if not isinstance(self.weights, dict):
            raise ValueError(f"weights are a dict of the objective's own by name, not {self.weights!r}.")
        self._keep("weights", {name: _weight(name, value) for name, value in self.weights.items()})
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, not {self.dropout!r}.")
        if self.factor_max < self.factor_min:
            raise ValueError(f"factor_max {self.factor_max} is below factor_min {self.factor_min}.")

    def _keep(self, name: str, value: object) -> None:
        """Set a field of the frozen config to its checked value."""
        object.__setattr__(self, name, value)


def _weight(name: str, value: Any) -> float:
    try:
        if (number := real_number(name, value)) >= 0:
            return number
    except ValueError:
        pass
    raise ValueError(f"the loss weight {name} must be a finite number, 0 or more, not {value!r}.")


def record_rows(
    replay: Replay, tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Encoded], progress: bool = False
) -> Rows:
    """The rows of all sequences, from one pass over them."""
    rows: dict[int, dict[str, Tensor]] = {}
    with tqdm(total=len(sequences), disable=not progress, desc="recording") as bar:
        for batch in batches(tokenizer, sequences, replay.budget):
            rows.update(replay.record(batch).rows())
            bar.update(len(batch.index))
    return [rows[index] for index in range(len(sequences))]


def stacked(
    replay: Replay, tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Encoded], rows: Rows
) -> Iterator[tuple[list[int], Recording]]:
    """The recordings that `record_rows` took these rows from, and the places of their sequences."""
    for places in buckets([len(sequence.ids) for sequence in sequences], replay.budget):
        yield (
            places,
            stack_rows(tokenizer, [sequences[n] for n in places], [rows[n] for n in places]),
        )


class SharedRows:
    """The rows recorded last, for trainings and their units on the same model, layer and pairs.

    Below the steered layer nothing depends on form, objective or seed, so that all cells of a task can share
    one recording, to the last bit. `MOST` bytes at most are held; `clear` lets go of them.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Hold nothing."""
        self._model: PreTrainedModel | None = None
        self._of: tuple[object, ...] = ()
        self._rows: Rows = []

    def record(
        self,
        model: PreTrainedModel,
        replay: Replay,
        tokenizer: PreTrainedTokenizerBase,
        sequences: Sequence[Encoded],
        progress: bool = False,
    ) -> Rows:
        """`record_rows` of a `replay` of `model`, which must not have changed since the last call."""
        of = (replay.sites.layer, replay.device, tokenizer.padding_side, tuple(sequences))
        same = self._model is model and self._of == of
        needed = replay.form.recorded
        # the recording of a weight form holds all that a vector needs, not the other way round
        if not (same and set(needed) <= set(self._rows[0])):
            # before the next are recorded: both may not fit
            self.clear()
            rows = record_rows(replay, tokenizer, sequences, progress)
            if sum(values.nbytes for row in rows for values in row.values()) > MOST:
                return rows
            self._model, self._of, self._rows = model, of, rows
        return [{name: row[name] for name in needed} for row in self._rows]


class Trainer:
    """The training loop as an iterator over steps: each next() is one step and gives its loss."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pairs: Sequence[Pair],
        form: str,
        objective: str,
        layer: int,
        seed: int,
        config: TrainConfig,
        shared: SharedRows | None = None,
        tokens: str = "all",
        chat_template_kwargs: TemplateArguments | None = None,
        progress: bool = False,
        scaled: bool = False,
    ) -> None:
        """`scaled`: the rate is that of `choosing.learning_rate.scaled_rate`, whatever `config` says."""
        self.config = config
        self.objective: Objective = get_objective(objective)
        # an objective that looks at the winner alone: the other answer need not be replayed
        self.sides = 2 if self.objective.needs_negative else 1
        self.generator = torch.Generator().manual_seed(seed)
        self.tokenizer, self.replay = tokenizer, Replay(model, layer, form, tokens)
        self.budget = tokens_that_fit(model, differentiated=self.replay.later)
        positive, negative = encode_pairs(model, tokenizer, pairs, chat_template_kwargs)
        self.count, self.sequences = len(pairs), [*positive, *negative]
        self.tokens = torch.tensor([len(sequence.ids) for sequence in self.sequences])
        shared = SharedRows() if shared is None else shared
        self.rows = shared.record(model, self.replay, tokenizer, self.sequences, progress)
        self.lengths = torch.tensor([sequence.answer_length for sequence in self.sequences]).to(model.device)
        self.steps = config.epochs * -(-self.count // config.batch_size)
        self.chosen = ""
        self.factor = (config.factor_min + config.factor_max) / 2
        if scaled:
            rate, self.chosen = scaled_rate(
                self.replay, self.sequences, self.rows, self.steps, self.factor, config.rank
            )
            self.config = config = replace(config, lr=rate)
        sites = self.replay.sites
        start = self.replay.form.fresh(sites.down_width, sites.width, config.rank, self.generator)
        self.parameters = {name: p.to(model.device).requires_grad_() for name, p in start.items()}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=config.lr, weight_decay=0.0)
        self.order: list[int] = []
        self.losses: list[float] = []
        self.reference: Tensor | None = None
        if self.objective.needs_reference:
            self.reference = self._base_losses()

    def __iter__(self) -> "Trainer":
        return self

    def __next__(self) -> float:
        step = len(self.losses)
        if step == self.steps:
            raise StopIteration
        if not self.order:
            self.order = torch.randperm(self.count, generator=self.generator).tolist()
        chosen, self.order = self.order[: self.config.batch_size], self.order[self.config.batch_size :]
        rows, m = self._drawn(torch.tensor(chosen))
        kept, numbers = self._kept(rows), torch.arange(rows.numel()).view_as(rows)
        self.optimizer.zero_grad()
        loss = 0.0
        for places in self._groups(rows):
            some = numbers[..., places].flatten().tolist() if kept else []
            each = self._losses(rows[..., places], m[..., places], [kept[row] for row in some])
            bad = (~torch.isfinite(each)).nonzero().flatten().tolist()
            if bad:
                pair = chosen[places[bad[0] % len(places)]]
                raise FloatingPointError(
                    f"step {step}: the loss of pair {pair} is {each[bad[0]].item()}; "
                    f"a smaller lr than {self.config.lr} or smaller factors may help."
                )
            part = each.sum() / (len(rows) * len(chosen))
            part.backward(inputs=list(self.parameters.values()))
            loss += part.item()
        self._update(self.config.lr * (1 - step / self.steps))
        self.losses.append(loss)
        return loss

    def _drawn(self, chosen: Tensor) -> tuple[Int[Tensor, "directions sides pairs"], Tensor]:
        """Sequences of the next step and the factor m of each, both (directions, sides, pairs)."""
        directions = self._directions()
        # per direction the winners, then (if the objective looks at them) the losers; the mirror swaps them
        rows = torch.stack(
            [
                torch.stack([chosen + self.count * (mirrored ^ side) for side in range(self.sides)])
                for mirrored, _ in directions
            ]
        )
        return rows, torch.stack([sign * self._factors(self.sides, len(chosen)) for _, sign in directions])

    def _groups(self, rows: Int[Tensor, "directions sides pairs"]) -> list[list[int]]:
        """Places of the step's pairs, in groups whose tokens are held at once; their gradients add up."""
        tokens = self.tokens[rows].amax((0, 1)) * rows[..., 0].numel()
        return [sorted(places) for places in buckets(tokens.tolist(), self.budget)]

    def _losses(
        self, rows: Int[Tensor, "directions sides pairs"], m: Tensor, kept: list[Tensor]
    ) -> Float[Tensor, " examples"]:
        """The objective of some pairs, (directions * pairs,), one direction after the other."""
        losses = self._replayed(rows.flatten().tolist(), m.flatten(), kept).view(rows.shape)
        rows = rows.to(losses.device)
        return torch.cat(
            [
                self.objective(self._inputs(loss, row), **self.config.weights)
                for loss, row in zip(losses, rows, strict=True)
            ]
        )

    def _directions(self) -> list[tuple[int, float]]:
        """(is it the mirrored one, sign of its factor) of each direction of the next step."""
        sign = NEGATIVE[self.config.negative]
        if sign is None:
            return [(0, 1.0)]
        both = [(0, 1.0), (1, sign)]
        if self.config.negative == "drawn":
            return [both[int(torch.randint(2, (), generator=self.generator))]]
        return both

    def _inputs(self, loss: Float[Tensor, "sides pairs"], row: Int[Tensor, "sides pairs"]) -> ObjectiveInputs:
        """Input of the objective for one direction; where there is one side only, it reads no other."""
        reference = None if self.reference is None else self.reference[row]
        return ObjectiveInputs(
            loss_positive=loss[0],
            loss_negative=loss[-1],
            length_positive=self.lengths[row[0]],
            length_negative=self.lengths[row[-1]],
            reference_loss_positive=None if reference is None else reference[0],
            reference_loss_negative=None if reference is None else reference[-1],
        )

    def _factors(self, sides: int, pairs: int) -> Float[Tensor, "sides pairs"]:
        """m, drawn evenly from factor_min to factor_max in steps of factor_step."""
        config = self.config
        # the tolerance keeps factor_max itself when the steps are no binary fractions
        choices = int((config.factor_max - config.factor_min) / config.factor_step + 1e-6) + 1
        drawn = torch.randint(choices, (sides, pairs), generator=self.generator)
        return config.factor_min + config.factor_step * drawn

    def _kept(self, rows: Int[Tensor, "directions sides pairs"]) -> list[Bool[Tensor, "token hidden"]]:
        """Entries of dh that dropout leaves, for each row; nothing where there is no dropout.

        They are drawn for real tokens only and for the whole step, so that padding and groups change nothing.
        """
        if not self.config.dropout:
            return []
        lengths = self.tokens[rows.flatten()].tolist()
        drawn = torch.rand(sum(lengths), self.replay.sites.width, generator=self.generator)
        return list((drawn >= self.config.dropout).split(lengths))

    def _replayed(self, rows: list[int], m: Tensor, kept: list[Tensor]) -> Float[Tensor, " rows"]:
        """Losses of some sequences under the present parameters, with dropout on dh."""
        recording = stack_rows(
            self.tokenizer, [self.sequences[row] for row in rows], [self.rows[row] for row in rows]
        )
        dh = self.replay.form.change(self.parameters, recording.x)  # (rows, token, hidden)
        if kept:
            scale = torch.zeros_like(dh)
            scale[recording.batch.attention_mask.bool()] = torch.cat(kept).to(dh) / (1 - self.config.dropout)
            dh = dh * scale
        return self.replay.losses(recording, dh, m.to(dh.device))

    @torch.no_grad()
    def _base_losses(self) -> Float[Tensor, " rows"]:
        """Every sequence's loss without the intervention."""
        found = torch.empty(len(self.sequences), device=self.replay.device)
        for places, recording in stacked(self.replay, self.tokenizer, self.sequences, self.rows):
            zero = torch.zeros_like(recording.activations["output"])
            found[places] = self.replay.losses(recording, zero, zero.new_zeros(len(places))).to(found)
        return found

    def _update(self, lr: float) -> None:
        """One step of AdamW with the gradient's norm clipped at 1."""
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()

    def push(self) -> float:
        """The push at the mean factor under the present parameters; see `broken_text.push_at`."""
        # the sequences of the first pairs, both answers of each
        few = min(self.count, SEQUENCES // 2)
        chosen = [*range(few), *range(self.count, self.count + few)]
        return push_at(
            self.replay,
            self.tokenizer,
            [self.sequences[row] for row in chosen],
            [self.rows[row] for row in chosen],
            self.parameters,
            self.factor,
        )

    def epoch_losses(self) -> list[float]:
        """The mean loss of each epoch."""
        length = self.steps // self.config.epochs
        return [sum(self.losses[at : at + length]) / length for at in range(0, self.steps, length)]
