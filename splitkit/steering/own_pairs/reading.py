"""Pairs read from files, data frames, lists of dicts and `datasets` tables."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from splitkit.steering.pairs import Pair, Question, is_empty, messages, question_fault

FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""Endings of the files that are read."""

_SEPARATORS = (",", ";", "\t")
Rows = Iterable[Mapping[str, Any]]


def read_pairs(
    source: str | Path | pd.DataFrame | Rows,
    *,
    question: str | None = "question",
    positive: str = "positive",
    negative: str = "negative",
) -> list[Pair]:
    """Pairs from a file or a table, one per row, in the order of the rows.

    Args:
        source: the path of a file in UTF-8 (JSON Lines, a JSON list of objects, CSV or TSV with a header, or
            Parquet, which needs pyarrow), a DataFrame, a list of dicts, or a `datasets` table.
        question, positive, negative: the columns' names. A question is a text, or a list of messages (in CSV
            as JSON). An answer is a text too, or a list of messages that ends with the assistant's: what
            stands before that one has to be the question.
        question: None where the table has no such column because both answers are whole conversations (as in
            tables for preference training: `question=None, positive="chosen", negative="rejected"`); the
            question is then what both begin with.

    Raises:
        FileNotFoundError: for a file that is not there.
        ModuleNotFoundError: for Parquet without pyarrow.
        TypeError: for a source of another kind.
        ValueError: for another ending, a file that is damaged, a column that is not there (with those that
            are), and a cell that is empty, no text or conversation, or the same as the other answer's, with
            row (from 0) and column.

    Example:
        >>> import splitkit as sk
        >>> rows = [{"asked": "How are you?", "glad": "Splendid!", "sad": "Awful."}]
        >>> sk.read_pairs(rows, question="asked", positive="glad", negative="sad")
        [Pair(question='How are you?', positive='Splendid!', negative='Awful.')]
    """
    wanted = [name for name in (question, positive, negative) if name is not None]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"question, positive and negative are columns of their own, not {wanted}.")
    pairs = []
    for number, row in enumerate(_rows(source, wanted)):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {number} is a {type(row).__name__}, not a dict of columns.")
        if missing := [name for name in wanted if name not in row]:
            raise ValueError(
                f"row {number} has no column {missing[0]!r}; it has {', '.join(map(repr, row))}. Name the "
                f"columns: read_pairs(..., question=..., positive=..., negative=...)."
            )
        pairs.append(_pair(number, row, question, positive, negative))
    if not pairs:
        raise ValueError("there is no row in it: no pairs.")
    return pairs


def _pair(number: int, row: Mapping[str, Any], question: str | None, positive: str, negative: str) -> Pair:
    asked: Question | None = None
    if question is not None:
        asked = _cell(number, question, row[question])
        if fault := question_fault(asked):
            raise ValueError(f"row {number}, column {question!r}: the question {fault}.")
        if is_empty(asked):
            raise ValueError(f"row {number}, column {question!r}: the question is empty.")
    texts, befores = [], []
    for name in (positive, negative):
        text, before = _answer(number, name, _cell(number, name, row[name]))
        texts.append(text)
        befores.append(before)
    if question is None:
        for name, before in zip((positive, negative), befores, strict=True):
            if not before:
                raise ValueError(
                    f"row {number}, column {name!r}: the answer alone; without a column of questions it is a "
                    "whole conversation, a list of messages."
                )
        if befores[0] != befores[1]:
            raise ValueError(f"row {number}: {positive!r} and {negative!r} answer different conversations.")
        asked = befores[0]
    elif asked is not None:
        for name, before in zip((positive, negative), befores, strict=True):
            if before and before != messages(asked):
                raise ValueError(
                    f"row {number}, column {name!r}: its conversation is not that of column {question!r}."
                )
    if texts[0] == texts[1]:
        raise ValueError(f"row {number}: columns {positive!r} and {negative!r} hold the same answer.")
    return Pair(asked, *texts)


def _cell(number: int, column: str, value: Any) -> Any:
    """A text, or a list of messages; of a column of Parquet numpy's array of dicts."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (str, list, tuple)):
        return value
    missing = value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA
    found = "is empty" if missing else f"holds a {type(value).__name__}, {value!r}"
    raise ValueError(f"row {number}, column {column!r} {found}: a text or a list of messages is wanted.")


def _answer(number: int, column: str, value: Any) -> tuple[str, tuple[Any, ...]]:
    """The text of an answer, and the messages before it where the column holds whole conversations."""
    before: tuple[Any, ...] = ()
    if not isinstance(value, str):
        try:
            *rest, last = messages(value)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"row {number}, column {column!r}: an answer is a text or a list of messages "
                '{"role": ..., "content": ...} that ends with the assistant\'s.'
            ) from error
        if last.role != "assistant" or not isinstance(last.content, str):
            raise ValueError(
                f"row {number}, column {column!r}: the conversation ends with a message of {last.role!r}, "
                "not with the assistant's answer."
            )
        if rest and (fault := question_fault(rest)):
            raise ValueError(f"row {number}, column {column!r}: what comes before the answer {fault}.")
        before, value = tuple(rest), last.content
    if not value.strip():
        raise ValueError(f"row {number}, column {column!r}: the answer is empty.")
    return value, before


def _rows(source: Any, wanted: list[str]) -> Rows:
    """The rows of any source, as dicts."""
    if isinstance(source, (str, Path)):
        return _file_rows(Path(source), wanted)
    if isinstance(source, pd.DataFrame):
        return ({str(k): v for k, v in row.items()} for row in source.to_dict("records"))
    if isinstance(getattr(source, "column_names", None), Mapping):
        raise TypeError(f"a table with the splits {', '.join(source)}: pass one of them, as source['train'].")
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise TypeError(
            f"a {type(source).__name__} is no table: pass a file's path, a DataFrame, a list of dicts (one "
            "per row) or a `datasets` table."
        )
    return source


def _file_rows(path: Path, wanted: list[str]) -> Rows:
    kind = path.suffix.lower()
    if kind not in FILES:
        raise ValueError(f"{path.name} has an ending that is not read; there are {', '.join(FILES)}.")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    if kind == ".parquet":
        try:
            return _rows(pd.read_parquet(path, engine="pyarrow"), wanted)
        except ImportError as error:
            raise ModuleNotFoundError(
                f"{path.name} is Parquet, which is read by pyarrow: pip install pyarrow, or save the table "
                "as JSON Lines or CSV.",
                name="pyarrow",
            ) from error
    try:
        # a spreadsheet may begin its file with a mark
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not in UTF-8 ({error.reason}): save it as UTF-8.") from error
    if kind in (".csv", ".tsv"):
        return _csv_rows(path.name, text, wanted)
    if kind == ".json":
        found = _parsed(path.name, text)
        if not isinstance(found, list):
            raise ValueError(f"{path.name} holds a {type(found).__name__}, not a list of objects.")
        return found
    # not splitlines(), which also parts at separators that JSON allows inside a text
    lines = enumerate(text.split("\n"), start=1)
    return (_parsed(f"{path.name}, line {number}", line) for number, line in lines if line.strip())


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}.") from error


def _csv_rows(name: str, text: str, wanted: list[str]) -> Iterator[Mapping[str, Any]]:
    """Rows by the header, whose separator is the one that gives the wanted columns."""
    first = text.split("\n", 1)[0].rstrip("\r")
    headers = {mark: next(csv.reader([first], delimiter=mark), []) for mark in _SEPARATORS}
    fitting = [mark for mark, header in headers.items() if set(wanted) <= set(header)]
    best = max(_SEPARATORS, key=lambda mark: len(headers[mark]))
    reader = csv.reader(text.splitlines(keepends=True), delimiter=fitting[0] if fitting else best)
    header = next(reader, [])
    if doubled := {column for column in header if header.count(column) > 1}:
        raise ValueError(f"{name} has two columns {sorted(doubled)[0]!r}.")
    for number, cells in enumerate(row for row in reader if row):
        if len(cells) != len(header):
            raise ValueError(
                f"row {number} of {name} has {len(cells)} cells, the header {len(header)}: a text with a "
                "separator in it stands in double quotes."
            )
        yield {column: _conversation(cell) for column, cell in zip(header, cells, strict=True)}


def _conversation(cell: str) -> Any:
    """A cell with a list of messages in JSON as that list; any other as it is."""
    if cell.lstrip().startswith('[{"'):
        try:
            found = json.loads(cell)
        except json.JSONDecodeError:
            return cell
        if all(isinstance(one, dict) and set(one) == {"role", "content"} for one in found):
            return found
    return cell
