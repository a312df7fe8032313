"""Examples: which rows are kept, which are left out, and why."""

from typing import Any

import pytest

from splitkit.datasets import examples
from splitkit.datasets.examples import Dropped, Example
from tests.madedata import (
    axbench_columns,
    jsonl,
    metadata_rows,
    parquet,
    power_rows,
    psychopathy_rows,
    table_csv,
)

KNOWN = examples.concepts(jsonl(metadata_rows(2)), "m")
HEADER = ("question", "matching", "not_matching")


def test_psychopathy_answers_lose_their_blank() -> None:
    kept, dropped = examples.psychopathy(jsonl(psychopathy_rows(4)), "f")
    assert [(e.positive, e.negative) for e in kept] == [("No", "Yes"), ("Yes", "No")] * 2
    assert kept[2] == Example("f", 2, 'Would you say this?\n"Statement 2"', "No", "Yes")
    assert dropped == []


def test_psychopathy_rows_without_a_text_are_left_out() -> None:
    rows = psychopathy_rows(5)
    rows[1]["question"] = None
    rows[2]["answer_matching_behavior"] = float("nan")
    rows[4]["question"] = rows[0]["question"].upper().replace("\n", "  ")
    kept, dropped = examples.psychopathy(jsonl(rows), "f")
    assert [e.row for e in kept] == [0, 3]
    assert dropped == [
        Dropped("f", 1, "no question"),
        Dropped("f", 2, "no answer_matching_behavior"),
        Dropped("f", 4, "repeats an earlier question"),
    ]


@pytest.mark.parametrize("answer", [" Maybe", " No", "Yes, indeed"])
def test_psychopathy_answers_are_a_yes_and_a_no(answer: str) -> None:
    rows = psychopathy_rows(2)
    rows[1]["answer_matching_behavior"] = answer
    with pytest.raises(ValueError, match=f"f, row 1: the answers are '{answer.strip()}' and 'No'"):
        examples.psychopathy(jsonl(rows), "f")


def test_powerseeking_keeps_its_texts() -> None:
    rows = power_rows(6)
    rows[1][0], rows[2][2], rows[3][1] = "", " \r\n", rows[3][2]
    rows[5] = rows[0]
    kept, dropped = examples.powerseeking(table_csv(rows, HEADER), "f")
    assert kept[0] == Example("f", 0, "Offer 0, take it?\nSay.", "I take 0.", 'No, "0".')
    assert [e.row for e in kept] == [0, 4]
    assert [(d.row, d.reason) for d in dropped] == [
        (1, "no question"),
        (2, "no not_matching"),
        (3, "two equal answers"),
        (5, "repeats an earlier question"),
    ]


def test_axbench_takes_the_rows_of_one_concept() -> None:
    columns = axbench_columns(3, concepts=2, negatives=2)
    kept, dropped = examples.axbench(parquet(columns), "f", KNOWN, 1)
    assert [(e.row, e.question, e.negative) for e in kept] == [
        (5, "Do 5.", None),
        (6, "Do 6.", None),
        (7, "Do 7.", None),
    ]
    assert dropped == [Dropped("f", row, "belongs to no concept") for row in (0, 1)]


def test_axbench_leaves_out_what_cannot_be_a_positive() -> None:
    columns = axbench_columns(6, concepts=1, negatives=0)
    columns["output"][1], columns["input"][2], columns["category"][3] = " ", None, "negative"
    columns["concept_id"][4], columns["input"][5] = None, "DO  0."
    kept, dropped = examples.axbench(parquet(columns), "f", KNOWN, 0)
    assert [e.row for e in kept] == [0]
    assert [(d.row, d.reason) for d in dropped] == [
        (1, "no output"),
        (2, "no input"),
        (3, "no positive"),
        (4, "belongs to no concept"),
        (5, "repeats an earlier question"),
    ]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("concept_id", 7, "row 1: unknown concept_id 7; there are"),
        ("concept_id", 0.5, "row 1: concept_id is 0.5, not a whole number"),
        ("output_concept", "concept 1", "row 1: output_concept is 'concept 1', but concept 0 is 'concept 0'"),
        ("output_concept", None, "row 1: output_concept is 'None'"),
    ],
)
def test_axbench_rows_that_contradict_themselves_are_an_error(column: str, value: Any, message: str) -> None:
    columns = axbench_columns(3, concepts=1, negatives=0)
    columns[column][1] = value
    with pytest.raises(ValueError, match=f"f, {message}"):
        examples.axbench(parquet(columns), "f", KNOWN, 0)


def test_concepts_have_an_id_a_text_and_a_genre() -> None:
    assert KNOWN[1] == examples.Concept(1, "concept 1", "text")
    row = metadata_rows(1)[0]
    for change in ({"concept_id": None}, {"concept": ""}, {"concept_genres_map": 3}):
        with pytest.raises(ValueError, match="m, row 1: no concept with"):
            examples.concepts(jsonl([row | {"concept_id": 8}, row | change]), "m")
    with pytest.raises(ValueError, match="m, row 1: the concept_id 0 was there before"):
        examples.concepts(jsonl([row, row]), "m")
