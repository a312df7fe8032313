"""Work: the tokens and judge requests that a cell takes, counted from its profile and data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from splitkit.datasets.tasks import rows
from splitkit.judging.rubrics import OF_FAMILY
from splitkit.runs import judged_answers
from splitkit.runs.cell_keys import hparams
from splitkit.runs.profiles import Cell, Profile
from splitkit.runs.world_answers import STRENGTHS
from splitkit.steering.objectives import OBJECTIVES
from splitkit.steering.pairs import PAPER
from splitkit.steering.sweeps import UNIT_PAIRS
from splitkit.tasks import FAMILIES, load_pairs, task_family

CHARACTERS = 4.0
"""Of a token of English, where no tokenizer is given."""
TEMPLATE = 12
"""Tokens that a chat template adds to a question."""


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of a task's questions, as prompts, and of its answers."""

    prompt: float
    answer: float


@dataclass(frozen=True)
class Work:
    """What there is to do, in tokens through the whole model; a part of its layers counts as that share.

    forward: training, recording, sweeps and prompts. generated: tokens written. requests: to the judge.
    """

    forward: float = 0.0
    generated: float = 0.0
    requests: int = 0

    def __add__(self, other: "Work") -> "Work":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Work(*(mine + theirs for mine, theirs in pairs))

    def hours(self, forward_rate: float, generated_rate: float) -> float:
        """forward / forward_rate + generated / generated_rate, rates in tokens per second, in hours."""
        return (self.forward / forward_rate + self.generated / generated_rate) / 3600


def lengths(task: str, tokenizer: Any = None) -> Lengths:
    """A task's mean lengths in tokens: counted by a tokenizer, or else characters / `CHARACTERS`.

    AxBench's concept-free answers, which a model has yet to write, count as long as the others.
    """
    pairs = rows(task) if task.startswith(PAPER) else load_pairs(task)

    def mean(texts: Sequence[str]) -> float:
        count = sum(map(len, texts)) / CHARACTERS
        if tokenizer is not None:
            count = sum(len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"])
        return count / len(texts)

    answers = [text for pair in pairs for text in (pair.positive, pair.negative) if text]
    return Lengths(mean([pair.question for pair in pairs]) + TEMPLATE, mean(answers) + 1)


def judge_requests(cell: Cell, profile: Profile) -> int:
    """Requests for the answers of a cell, one per answer and rubric; equal answers are asked about once."""
    if not (profile.scored(cell) and judged_answers.is_judged(cell.task)):
        return 0
    tested = profile.size("test", cell.task) * (2 if cell.objective == "diffmean" else 1)
    answers = len(STRENGTHS) * profile.size("choose", cell.task) + tested
    return answers * len(OF_FAMILY[task_family(cell.task)])


def sweep_work(pairs: int, length: Lengths, strengths: int, tail: float) -> Work:
    """A sweep: both answers recorded whole, then the later layers at each strength, a prompt once a pair."""
    recorded, replayed = 2 * (length.prompt + length.answer), length.prompt + 2 * length.answer
    return Work(forward=pairs * (recorded * (1 - tail) + replayed * strengths * tail))


def cell_work(cell: Cell, profile: Profile, length: Lengths, tail: float) -> Work:
    """What a cell takes, by its stages.

    A backward pass through frozen layers counts as a forward one.

    Args:
        length: of its task.
        tail: share of the model's layers behind the steered one.
    """
    pair = 2 * (length.prompt + length.answer)
    trained, chosen = profile.size("train", cell.task), hparams(cell, profile)
    work = Work(forward=(trained + min(trained, UNIT_PAIRS)) * pair * (1 - tail))
    if chosen:
        directions = 2 if chosen.get("negative", "negated") in ("negated", "zero") else 1
        sides = 0.5 if cell.objective == "sft" else 1.0
        seen = chosen["epochs"] * trained * directions * sides
        # forward and backward; the losses without the intervention are taken once, forward
        reference = trained * OBJECTIVES[cell.objective].needs_reference
        work += Work(forward=(2 * seen + reference) * pair * tail)
    if profile.swept(cell):
        swept = profile.size("sweep", cell.task)
        work += sweep_work(2 * swept, length, len(profile.grid), tail)
    if profile.scored(cell):
        family = task_family(cell.task)
        asked = len(STRENGTHS) * profile.size("choose", cell.task)
        asked += profile.size("test", cell.task) * (2 if cell.objective == "diffmean" else 1)
        each = profile.new_tokens if judged_answers.is_judged(cell.task) else FAMILIES[family].tokens
        # yes and no by likelihood, besides
        twice = 1 + 2 * tail if family == "psychopathy" and cell.task.startswith(PAPER) else 1
        work += Work(asked * length.prompt * twice, asked * each, judge_requests(cell, profile))
    return work
