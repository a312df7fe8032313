"""Data files: JSON lines, CSV and parquet become numbered rows; damage is an error that says where it is."""

import csv
import io
import json
import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from splitkit.datasets.files import import_extra

Row = tuple[int, Mapping[str, Any]]
"""A row's number, counted from 0 without header and blank lines, and its values by column."""


def read_jsonl(content: bytes, name: str, columns: Sequence[str]) -> list[Row]:
    """The rows of a file with one JSON object per line.

    Args:
        content: the file's bytes.
        name: the file's name, for errors.
        columns: what each object has to have; it may have more.

    Raises:
        ValueError: for no row, bytes that are no UTF-8, a line that is no JSON object, or a missing column,
            with the file and the row.
    """
    lines = [line for line in _decoded(content, name).split("\n") if line.strip()]
    rows: list[Row] = []
    for number, line in enumerate(lines):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}, row {number}: no JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ValueError(f"{name}, row {number}: {reprlib.repr(values)} is no JSON object.")
        _check_columns(values, columns, f"{name}, row {number}")
        rows.append((number, values))
    return _some(rows, name)


def read_csv(content: bytes, name: str, columns: Sequence[str]) -> list[Row]:
    """The rows of a comma-separated file with a header; quoted texts may go over several lines.

    Args and raises: see `read_jsonl`; also for a row of more or fewer values than the header, a quote that
    never ends, and a value above the csv module's limit of 131072 characters.
    """
    reader = csv.reader(io.StringIO(_decoded(content, name), newline=""), strict=True)
    header: list[str] | None = None
    rows: list[Row] = []
    try:
        for values in filter(None, reader):
            if header is None:
                header = values
                _check_columns(header, columns, name)
            elif len(values) != len(header):
                raise ValueError(
                    f"{name}, row {len(rows)}: {len(values)} values under {len(header)} columns."
                )
            else:
                rows.append((len(rows), dict(zip(header, values, strict=True))))
    except csv.Error as error:
        raise ValueError(f"{name}, row {len(rows)} (line {reader.line_num}): no CSV: {error}.") from error
    return _some(rows, name)


def read_parquet(content: bytes, name: str, columns: Sequence[str]) -> list[Row]:
    """The rows of a parquet file, as Python values: of the columns named, which all have to be there.

    Args and raises: see `read_jsonl`; ImportError when pyarrow is not installed.
    """
    pyarrow = import_extra("pyarrow", "Reading parquet files")
    parquet = import_extra("pyarrow.parquet", "Reading parquet files")
    # what pyarrow raises for a damaged file is not one family of errors
    try:
        names = parquet.read_schema(pyarrow.BufferReader(content)).names
    except Exception as error:
        raise ValueError(f"{name} is no parquet file, or a damaged one: {error}") from error
    _check_columns(names, columns, name)
    try:
        table = parquet.read_table(pyarrow.BufferReader(content), columns=list(columns))
        rows = list(enumerate(table.to_pylist()))
    except Exception as error:
        raise ValueError(f"{name} is a damaged parquet file: {error}") from error
    return _some(rows, name)


def text(row: Row, column: str, name: str) -> str | None:
    """The text in a column, as it is; None where it is absent, NaN or blank.

    Raises:
        ValueError: for anything else that is no text, or a text that no tokenizer could take (half of a
            surrogate pair), with the file and the row.
    """
    number, values = row
    value = values[column]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise ValueError(
            f"{name}, row {number}: {column} is {reprlib.repr(value)}, a {type(value).__name__}, not a text."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}, row {number}: {column} is no valid Unicode: {error.reason}.") from error
    return value if value.strip() else None


def whole_number(row: Row, column: str, name: str) -> int | None:
    """The whole number in a column, None where it is absent or NaN; ValueError for anything else."""
    number, values = row
    value = values[column]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    # a column of whole numbers with a gap in it is stored as floats
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise ValueError(f"{name}, row {number}: {column} is {reprlib.repr(value)}, not a whole number.")
    return int(value)


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}, line {line}: no UTF-8: {error.reason}.") from error


def _check_columns(found: Iterable[str], wanted: Sequence[str], where: str) -> None:
    names = list(found)
    if missing := [column for column in wanted if column not in names]:
        raise ValueError(f"{where}: there is no {' and no '.join(missing)}; there is {reprlib.repr(names)}.")
    if twice := [column for column in wanted if names.count(column) > 1]:
        raise ValueError(f"{where}: {' and '.join(twice)} is there more than once.")


def _some(rows: list[Row], name: str) -> list[Row]:
    if not rows:
        raise ValueError(f"{name} holds no rows.")
    return rows
