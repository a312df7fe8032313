"""Examples: which rows are kept, which are left out, and why."""

import sys
from pathlib import Path

import pytest

from splitkit.datasets import examples
from splitkit.datasets.examples import Concept, Dropped, Example
from tests.madedata import (
    axbench_columns,
    jsonl,
    metadata_rows,
    parquet,
    power_rows,
    psychopathy_rows,
    table_csv,
)

HEADER = ("question", "matching", "not_matching")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_psychopathy_answers_lose_their_blank(file: Path) -> None:
    file.write_bytes(jsonl(psychopathy_rows(4)))
    kept, dropped = examples.psychopathy(file, "f")
    assert [(e.positive, e.negative) for e in kept] == [("No", "Yes"), ("Yes", "No")] * 2
    assert kept[2] == Example("f", 2, 'Would you say this?\n"Statement 2"', "No", "Yes")
    assert dropped == []


def test_texts_are_read_as_they_are(file: Path) -> None:
    """No number, date or missing value is made of a text, and no line end is changed."""
    texts = [
        "a\r\nb",
        "\u2028 line \x85 ends",
        "long " * 50_000,
        " Yes",
        "né",
        "NA",
        "007",
        "2020-01-01",
        "true",
    ]
    rows = psychopathy_rows(len(texts))
    file.write_bytes(jsonl([row | {"question": text} for row, text in zip(rows, texts, strict=True)]))
    assert [e.question for e in examples.psychopathy(file, "f")[0]] == texts
    file.write_bytes(table_csv([[text, "yes", "no"] for text in texts], HEADER))
    assert [e.question for e in examples.powerseeking(file, "f")[0]] == texts


def test_psychopathy_rows_without_a_text_are_left_out(file: Path) -> None:
    rows = psychopathy_rows(5)
    rows[1]["question"] = None
    rows[2]["answer_matching_behavior"] = float("nan")
    rows[4]["question"] = rows[0]["question"].upper().replace("\n", "  ")
    file.write_bytes(jsonl(rows))
    kept, dropped = examples.psychopathy(file, "f")
    assert [e.row for e in kept] == [0, 3]
    assert dropped == [
        Dropped("f", 1, "no question"),
        Dropped("f", 2, "no answer_matching_behavior"),
        Dropped("f", 4, "repeats an earlier question"),
    ]


def test_powerseeking_keeps_its_texts(file: Path) -> None:
    rows = power_rows(6)
    rows[1][0], rows[2][2] = "", " \r\n"
    rows[5] = rows[0]
    file.write_bytes(table_csv(rows, HEADER))
    kept, dropped = examples.powerseeking(file, "f")
    assert kept[0] == Example("f", 0, "Offer 0, take it?\nSay.", "I take 0.", 'No, "0".')
    assert [e.row for e in kept] == [0, 3, 4]
    assert [(d.row, d.reason) for d in dropped] == [
        (1, "no question"),
        (2, "no not_matching"),
        (5, "repeats an earlier question"),
    ]


def test_axbench_takes_the_rows_of_one_concept(file: Path) -> None:
    columns = axbench_columns(3, concepts=2, negatives=2)
    columns["input"][7] = "DO  5."
    file.write_bytes(parquet(columns))
    kept, dropped = examples.axbench(file, "f", 1)
    assert [(e.row, e.question, e.negative) for e in kept] == [(5, "Do 5.", None), (6, "Do 6.", None)]
    assert [(d.row, d.reason) for d in dropped] == [
        (0, "belongs to no concept"),
        (1, "belongs to no concept"),
        (7, "repeats an earlier question"),
    ]


def test_parquet_without_its_reader_names_the_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install '\.\[data\]'"):
        examples.axbench(file, "f", 0)


def test_concepts_have_an_id_and_a_text(file: Path) -> None:
    file.write_bytes(jsonl(metadata_rows(2)))
    assert examples.concepts(file) == {0: Concept(0, "concept 0"), 1: Concept(1, "concept 1")}
