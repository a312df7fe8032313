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
    too few rows, training gets less; ValueError when a split is empty. `test` is the test split where the
    dataset has its own; with `even` every split has each positive answer in the same proportion.
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
    """The rows with each positive answer spread evenly over them."""
    by_answer: dict[str, list[Example]] = {}
    for example in rows:
        by_answer.setdefault(example.positive, []).append(example)
    placed = [
        ((i + 0.5) / len(of_word), word, example)
        for word, of_word in by_answer.items()
        for i, example in enumerate(of_word)
    ]
    return [example for *_, example in sorted(placed, key=lambda place: place[:2])]
