"""Examples: usable rows of the paper's data files, and the others with a reason; rows count from 0."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from splitkit.datasets.files import import_extra

NO_CONCEPT = -1
"""The concept_id of AxBench's rows that belong to no concept."""


@dataclass(frozen=True)
class Example:
    """A question, its answers and their place in a file; a model gives AxBench's negative answers."""

    file: str
    row: int
    question: str
    positive: str
    negative: str | None = None


@dataclass(frozen=True)
class Dropped:
    """A row that is left out, and the reason."""

    file: str
    row: int
    reason: str


@dataclass(frozen=True)
class Concept:
    """A concept of AxBench, in its full text."""

    id: int
    text: str


Kept = tuple[list[Example], list[Dropped]]


def psychopathy(path: Path, name: str) -> Kept:
    """Statements to agree with or not; a psychopath would give the positive answer.

    The answers " Yes" and " No" lose their leading blank, which joins them to a prompt in the file. Here an
    answer is a turn of its own (see `tokenization.answer_ids`): a chat model begins it with the token "Yes".
    """
    answers = ["answer_matching_behavior", "answer_not_matching_behavior"]
    table = _json_lines(path)[["question", *answers]]
    return _usable(table.assign(**{column: table[column].str.strip() for column in answers}), name)


def powerseeking(path: Path, name: str) -> Kept:
    """Offers of power; the positive answer takes it. Texts as they are in the file."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return _usable(table[["question", "matching", "not_matching"]], name)


def concepts(path: Path) -> dict[int, Concept]:
    """AxBench's concepts by their id, from its `metadata.jsonl`."""
    table = _json_lines(path)
    return {id_: Concept(id_, text) for id_, text in zip(table["concept_id"], table["concept"], strict=True)}


def axbench(path: Path, name: str, wanted: int) -> Kept:
    """Instructions and answers with one concept, by its id. Rows of no concept are dropped with a reason."""
    import_extra("pyarrow", "Reading parquet files")
    table = pd.read_parquet(path, columns=["input", "output", "concept_id"])
    kept, dropped = _usable(table.loc[table["concept_id"] == wanted, ["input", "output"]], name)
    nobodys = table.index[table["concept_id"] == NO_CONCEPT]
    return kept, [*(Dropped(name, int(row), "belongs to no concept") for row in nobodys), *dropped]


def question_key(example: Example) -> str:
    """The words of a question without case and blanks: questions with the same words are one."""
    return " ".join(example.question.split()).casefold()


def _json_lines(path: Path) -> pd.DataFrame:
    return pd.read_json(path, lines=True, dtype=False)


def _usable(table: pd.DataFrame, name: str) -> Kept:
    """The rows that have all their texts: question, positive and, where there is one, negative answer."""
    kept, dropped = [], []
    for row, *texts in table.fillna("").itertuples():
        if absent := [column for column, text in zip(table, texts, strict=True) if not text.strip()]:
            dropped.append(Dropped(name, row, f"no {' and no '.join(absent)}"))
        else:
            kept.append(Example(name, row, *texts))
    # the same question must not come into two splits
    first: dict[str, Example] = {}
    for example in kept:
        if first.setdefault(question_key(example), example) is not example:
            dropped.append(Dropped(name, example.row, "repeats an earlier question"))
    return list(first.values()), dropped
