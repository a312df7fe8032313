"""Splits: seeded, disjoint, of the sizes asked for."""

import pytest

from splitkit.datasets.examples import Example
from splitkit.datasets.splits import Sizes, cut

ROWS = [Example("f", i, f"Q{i}", "Yes" if i % 3 else "No") for i in range(30)]
SIZE = Sizes(train=12, validation=6, test=6)


def rows(size: Sizes = SIZE, seed: str = "0", even: bool = False) -> dict[str, list[int]]:
    return {
        split: [e.row for e in cut(ROWS, size, split, seed=seed, even=even)]
        for split in ("train", "validation", "test")
    }


def test_no_row_is_in_two_splits() -> None:
    parts = rows()
    assert [len(part) for part in parts.values()] == [12, 6, 6]
    assert len({row for part in parts.values() for row in part}) == 24


def test_the_seed_decides() -> None:
    assert rows() == rows()
    assert rows(seed="1") != rows()


def test_more_validation_changes_the_test_split_never() -> None:
    more = rows(Sizes(12, 20, 6))
    assert more["test"] == rows()["test"]
    assert more["train"] == rows()["train"][:4]
    assert more["validation"][-6:] == rows()["validation"]


def test_every_split_has_the_answers_alike() -> None:
    for seed in "0123":
        for part in rows(seed=seed, even=True).values():
            assert sum(row % 3 == 0 for row in part) == len(part) // 3


def test_a_test_split_of_its_own_is_taken_as_it_is() -> None:
    own = [Example("t", i, f"T{i}", "Yes") for i in range(3)]
    assert cut(ROWS, SIZE, "test", seed="0", test=own) == own
    assert len(cut(ROWS, Sizes(30, 6, 3), "train", seed="0", test=own)) == 24


def test_too_few_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"of 30 usable rows 24 are not for the test: too few for 24"):
        rows(Sizes(12, 24, 6))
    with pytest.raises(ValueError, match="too few for -1"):
        rows(Sizes(12, -1, 6))
    with pytest.raises(ValueError, match="validation split is empty; there are 12 for train, 0 for valid"):
        rows(Sizes(12, 0, 6))
    with pytest.raises(ValueError, match="test split is empty"):
        cut(ROWS, SIZE, "test", seed="0", test=[])
