"""Seeded splits of a dataset's examples into training, validation and test."""

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
"""Pairs per split of each task family: train and test as in the paper, which has no validation split."""


def cut(
    rows: Sequence[Example],
    size: Sizes,
    split: str,
    *,
    seed: str,
    test: Sequence[Example] | None = None,
    even: bool = False,
) -> list[Example]:
    """One of the three splits of `rows`; no row is in two.

    A seeded order begins with the test split, goes on with training and ends with validation. Where there are
    too few rows, training gets less.

    Args:
        seed: of the order.
        test: the test split, where the dataset has one of its own.
        even: whether every split has each positive answer in the same proportion.

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
