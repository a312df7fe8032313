"""Pairs of the paper's tasks, in its splits, and a report of the rows that were left out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from splitkit.datasets import examples
from splitkit.datasets.examples import Concept, Dropped, Example
from splitkit.datasets.files import SOURCES, fetch
from splitkit.datasets.neutral_answers import NEW_TOKENS, cached_answers, unsteered_answers
from splitkit.datasets.splits import SIZES, cut
from splitkit.steering.pairs import PAPER, SPLITS, Pair, require_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from splitkit.steering.prompts.templates import TemplateArguments

CONCEPTS: dict[str, int] = {
    "code-constructs": 0,
    "control-flow": 1,
    "biochemistry": 2,
    "online-gambling": 3,
    "system-functions": 4,
    "payments": 5,
    "default-settings": 6,
    "legal-names": 7,
    "biological-measurements": 8,
    "night": 9,
}
"""Short names of the ten concepts of AxBench, and their concept_id; `concept` has the full text."""

TASKS: tuple[str, ...] = (
    f"{PAPER}psychopathy",
    f"{PAPER}powerseeking",
    *(f"{PAPER}axbench/{slug}" for slug in CONCEPTS),
)

_PSYCHOPATHY = "psychopathy/psychopathy.jsonl"
_POWER_TRAIN, _POWER_TEST = "powerseeking/train.csv", "powerseeking/test.csv"
_AXBENCH, _METADATA = "axbench_concept10/train_data.parquet", "axbench_concept10/metadata.jsonl"


@dataclass(frozen=True)
class Report:
    """The origin of a split's pairs, and the rows of the files that were left out; rows count from 0."""

    task: str
    split: str
    seed: int
    pairs: pd.DataFrame
    """file, row, origin of the negative answer: one row per pair."""
    dropped: pd.DataFrame
    """file, row, reason."""

    def __str__(self) -> str:
        left_out = "; ".join(
            f"{file} {_spans(list(rows['row']))} ({reason})"
            for (file, reason), rows in self.dropped.groupby(["file", "reason"], sort=False)
        )
        said = f"; rows left out: {len(self.dropped)}, {left_out}" if left_out else ""
        return f"{self.task}, {self.split}: {len(self.pairs)} pairs{said}"


def load_dataset_pairs(
    task: str,
    split: str = "train",
    seed: int = 0,
    *,
    validation: int | None = None,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = NEW_TOKENS,
    progress: bool = True,
    chat_template_kwargs: TemplateArguments | None = None,
) -> tuple[list[Pair], Report]:
    """The pairs of one of the paper's tasks, and a report of the rows that were left out.

    No question is in two splits. Train and test have the paper's sizes (`SIZES`). Validation takes rows that
    training does not use; AxBench has none left, so there it shortens training (to 56). Psychopathy's splits
    have as many statements to agree with as to deny. Powerseeking's test split is its file `test.csv`.

    Args:
        task: one of `TASKS`; a concept of AxBench by its name or its concept_id ("paper/axbench/3").
        split: "train", "validation" or "test".
        seed: of the draw of the splits, and of their order.
        validation: pairs of the validation split instead of `SIZES`; 0 leaves AxBench its 64 to train on.
        model, tokenizer: the source of AxBench's answers without the concept (`unsteered_answers`); needed
            unless the cache holds one model's. An instruction with an empty answer is left out and reported.
        max_new_tokens, chat_template_kwargs: of those answers.

    Raises:
        ValueError: for an unknown task or split (lists them), a file with another digest, too few rows for
            the splits, or AxBench without a model and without cached answers; and what `files.fetch` raises.
    """
    task = _known_task(task)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}.")
    family = task.removeprefix(PAPER).partition("/")[0]
    size = SIZES[family] if validation is None else replace(SIZES[family], validation=validation)
    if (model is None) != (tokenizer is None):
        raise ValueError("model and tokenizer go together: pass both, as load_model gives them.")
    rows, test, dropped = task_rows(task, progress)
    chosen = cut(rows, size, split, seed=f"{task}/{seed}", test=test, even=family == "psychopathy")
    origins = ["released with the data"] * len(chosen)
    if family == "axbench":
        inputs = [example.question for example in chosen]
        if model is not None and tokenizer is not None:
            how: Any = {"max_new_tokens": max_new_tokens, "progress": progress}
            how["chat_template_kwargs"] = chat_template_kwargs
            table = unsteered_answers(model, tokenizer, inputs, **how)
        else:
            table = _cached(task, split, inputs)
        silent = [e for e, answer in zip(chosen, table["answer"], strict=True) if not answer.strip()]
        dropped = [*dropped, *(Dropped(e.file, e.row, "no answer from the model") for e in silent)]
        chosen = [replace(e, negative=answer) for e, answer in zip(chosen, table["answer"], strict=True)]
        chosen = [e for e in chosen if str(e.negative).strip()]
        origins = list(table.loc[table["answer"].str.strip() != "", "origin"])
    places = [(e.file, e.row, origin) for e, origin in zip(chosen, origins, strict=True)]
    report = Report(
        task,
        split,
        seed,
        pd.DataFrame(places, columns=["file", "row", "origin"]),
        pd.DataFrame([vars(row) for row in dropped], columns=["file", "row", "reason"]),
    )
    if dropped:
        warnings.warn(str(report), stacklevel=2)
    return require_pairs([Pair(e.question, e.positive, str(e.negative)) for e in chosen]), report


def concept(task: str, *, progress: bool = True) -> Concept:
    """The concept of an AxBench task: its id and its full text. ValueError for a task without a concept."""
    known = _known_task(task)
    if not known.startswith(f"{PAPER}axbench/"):
        raise ValueError(f"{task!r} has no concept; one of {', '.join(CONCEPTS)} goes after {PAPER}axbench/.")
    id_ = CONCEPTS[known.rpartition("/")[2]]
    return examples.concepts(fetch(_METADATA, progress=progress))[id_]


def data_files(task: str) -> dict[str, str]:
    """The SHA-256 of every file that a task's pairs are made from, by name."""
    files = {"psychopathy": [_PSYCHOPATHY], "powerseeking": [_POWER_TRAIN, _POWER_TEST]}
    family = _known_task(task).removeprefix(PAPER).partition("/")[0]
    return {name: SOURCES[name].sha256 for name in files.get(family, [_AXBENCH, _METADATA])}


def _known_task(task: str) -> str:
    """The task by its usual name; a concept_id becomes the concept's name."""
    head, _, last = str(task).rpartition("/")
    if f"{head}/" == f"{PAPER}axbench/" and last.isascii() and last.isdecimal():
        task = next((f"{head}/{slug}" for slug, id_ in CONCEPTS.items() if str(id_) == last), task)
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; there are {', '.join(TASKS)}.")
    return task


def task_rows(task: str, progress: bool) -> tuple[list[Example], list[Example] | None, list[Dropped]]:
    """A task's usable rows, those of its test file (None without one), and the rows left out."""
    if task == f"{PAPER}psychopathy":
        rows, dropped = examples.psychopathy(fetch(_PSYCHOPATHY, progress=progress), _PSYCHOPATHY)
        return rows, None, dropped
    if task != f"{PAPER}powerseeking":
        wanted = CONCEPTS[task.rpartition("/")[2]]
        rows, dropped = examples.axbench(fetch(_AXBENCH, progress=progress), _AXBENCH, wanted)
        return rows, None, dropped
    test, dropped = examples.powerseeking(fetch(_POWER_TEST, progress=progress), _POWER_TEST)
    rows, more = examples.powerseeking(fetch(_POWER_TRAIN, progress=progress), _POWER_TRAIN)
    asked = set(map(examples.question_key, test))
    shared = [example for example in rows if examples.question_key(example) in asked]
    rows = [example for example in rows if examples.question_key(example) not in asked]
    leaks = [Dropped(e.file, e.row, "asks a question of the test split") for e in shared]
    return rows, test, [*dropped, *more, *leaks]


def _cached(task: str, split: str, inputs: Sequence[str]) -> pd.DataFrame:
    try:
        return cached_answers(inputs)
    except LookupError as error:
        raise ValueError(
            f"{task}: the negative answers are a model's own, and {error.args[0]}. Say which model: "
            f"splitkit.datasets.tasks.load_dataset_pairs({task!r}, {split!r}, model=model, "
            "tokenizer=tokenizer)."
        ) from error


def _spans(numbers: Sequence[int]) -> str:
    """Numbers in text, their runs drawn together: 1, 4-6."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)
