"""Pairs looked at: each fault is found alone, in the rows that have it, and good pairs have none."""

import pytest

from splitkit.steering.own_pairs.checking import check_pairs
from splitkit.steering.pairs import Pair

GOOD = [Pair(f"Question {n}?", f"A happy answer {n}.", f"A mournful one {n}.") for n in range(32)]
HELD_OUT = [Pair(f"Another {n}?", f"It is glad {n}.", f"It is sad {n}.") for n in range(8)]


def levels(train: list[Pair], held_out: list[Pair]) -> dict[str, tuple[str, list[int]]]:
    table = check_pairs(train, held_out).table
    return {row.check: (row.level, row.rows) for row in table.itertuples() if row.level != "fine"}


def test_good_pairs_have_no_fault() -> None:
    report = check_pairs(GOOD, HELD_OUT)
    assert report.good and len(report.table) == 9 and (report.table["level"] == "fine").all()
    assert repr(report).startswith("32 training pairs, 8 held out: 0 to mend, 0 to look at\n  fine: dupl")
    assert "<table" in report._repr_html_()


@pytest.mark.parametrize(
    "more, check, level, rows",
    [
        ([Pair(" question 1?", "a Happy  answer 1.", "A mournful one 1.")], "duplicates", "mend", [32]),
        ([Pair("Question 1?", "A mournful one 1.", "A happy answer 1.")], "swapped", "mend", [1, 32]),
        ([Pair("Else?", "A mournful one 1.", "A stone.")], "swapped", "look", [1]),
        ([Pair("Else?", "A stone.", "A  stone.")], "white space", "mend", [32]),
        ([Pair("Else?", " A stone.", "A bird.")], "edges", "look", [32]),
    ],
)
def test_a_pair_at_fault_is_found(more: list[Pair], check: str, level: str, rows: list[int]) -> None:
    assert levels([*GOOD, *more], HELD_OUT) == {check: (level, rows)}


def test_faults_of_all_pairs() -> None:
    longer = [Pair(p.question, p.positive + " And more, and more.", p.negative) for p in GOOD]
    assert levels(longer, HELD_OUT) == {"lengths": ("mend", list(range(32)))}
    shorter = check_pairs([Pair(p.question, p.negative, p.positive) for p in longer], HELD_OUT)
    assert "2.1 times as short" in repr(shorter)
    same = [Pair(p.question, f"A happy answer {n % 4}.", p.negative) for n, p in enumerate(GOOD)]
    assert levels(same, HELD_OUT) == {"repeated": ("look", list(range(32)))}
    assert levels(GOOD[:5], HELD_OUT) == {"few": ("look", list(range(5)))}
    assert levels(GOOD, []) == {"held out": ("mend", [])} and not check_pairs(GOOD).good
    assert levels(GOOD, HELD_OUT[:3]) == {"held out": ("look", [])}


def test_leaks() -> None:
    asked = Pair(" QUESTION 3?", "It is new.", "It is old.")
    told = Pair("New?", "It is new.", GOOD[2].negative)
    assert levels(GOOD, [*HELD_OUT, asked]) == {"leaks": ("look", [8])}
    assert levels(GOOD, [told, *HELD_OUT, asked]) == {"leaks": ("mend", [0, 9])}


def test_pairs_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ValueError, match="row 0: the positive answer is missing"):
        check_pairs([Pair("q", "", "b")])
