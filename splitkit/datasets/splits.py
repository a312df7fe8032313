"""Splits: which of a dataset's examples are for training, for validation and for the test; seeded."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from splitkit.datasets.examples import Example
from splitkit.steering.pairs import SPLITS


@dataclass(frozen=True)
class Sizes:
    """Pairs per split."""

    train: int
    validation: int
    test: int


SIZES: dict[str, Sizes] = {
    "psychopathy": Sizes(500, 100, 100),
    "powerseeking": Sizes(500, 100, 200),
    "axbench": Sizes(64, 8, 8),
}
"""Train and test are the paper's, which has no validation split."""


def cut(
    rows: Sequence[Example],
    size: Sizes,
    split: str,
    *,
    seed: str,
    test: Sequence[Example] | None = None,
    even: bool = False,
) -> list[Example]:
    """One of the three splits of `rows`, which no row is in twice.

    The rows are drawn in a seeded order: the test split is its beginning, training comes next, validation is
    its end. Where there are too few for all, training gets less.

    Args:
        seed: of the order.
        test: the test split, where the dataset has one of its own.
        even: positive answers take turns, in proportion to how many of each there are, so that every split
            has them alike.

    Raises:
        ValueError: when a split is empty, or nothing is left to train on.
    """
    drawn = list(rows)
    Random(seed).shuffle(drawn)
    if even:
        drawn = _in_turn(drawn)
    of_test, rest = (drawn[: size.test], drawn[size.test :]) if test is None else (list(test), drawn)
    count = size.validation
    if count < 0 or count >= len(rest):
        raise ValueError(
            f"of {len(rows)} usable rows {len(rest)} are not for the test: too few for {count} validation "
            "pairs and something to train on."
        )
    border = len(rest) - count
    parts = dict(zip(SPLITS, (rest[: min(size.train, border)], rest[border:], of_test), strict=True))
    if not parts[split]:
        counts = ", ".join(f"{len(part)} for {name}" for name, part in parts.items())
        raise ValueError(f"the {split} split is empty; there are {counts}.")
    return parts[split]


def _in_turn(rows: Sequence[Example]) -> list[Example]:
    by_answer: dict[str, list[Example]] = {}
    for example in rows:
        by_answer.setdefault(example.positive, []).append(example)
    placed = [
        ((i + 0.5) / len(by_answer[word]), n, i)
        for n, word in enumerate(sorted(by_answer))
        for i in range(len(by_answer[word]))
    ]
    lists = [by_answer[word] for word in sorted(by_answer)]
    return [lists[n][i] for _, n, i in sorted(placed)]
