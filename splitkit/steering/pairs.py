"""Pairs: a question with an answer that shows the wanted behaviour and one that does not."""

from collections.abc import Sequence
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
PAPER = "paper/"
"""Prefix of the names of the paper's own tasks."""


@dataclass(frozen=True)
class Pair:
    """A question and two answers to it; `positive` is the one that shows the behaviour steered for."""

    question: str
    positive: str
    negative: str


def check_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs as a list, once it is clear that there are some and that none lacks a text.

    Raises:
        ValueError: for no pairs, an empty question or answer, or two answers that are the same, with the
            number of the row (from 0).
        TypeError: for a single Pair or anything else that is no list of them, a row that is not a Pair, or a
            text that is not a string.
    """
    if isinstance(pairs, Pair):
        raise TypeError("pairs is one Pair; pass a list of pairs, [pair] for a single one.")
    if isinstance(pairs, str) or not isinstance(pairs, Sequence):
        raise TypeError(
            f"pairs is a {type(pairs).__name__}, not a list of Pair(question, positive, negative)."
        )
    rows = list(pairs)
    if not rows:
        raise ValueError("the list of pairs is empty: there is nothing to train on or to measure.")
    for number, pair in enumerate(rows):
        if not isinstance(pair, Pair):
            raise TypeError(
                f"row {number} is a {type(pair).__name__}, not a Pair(question, positive, negative)."
            )
        for part in ("question", "positive", "negative"):
            text = getattr(pair, part)
            name = part if part == "question" else f"{part} answer"
            if text is not None and not isinstance(text, str):
                raise TypeError(f"row {number}: the {name} is a {type(text).__name__}, not a string.")
            if not text or not text.strip():
                raise ValueError(f"row {number}: the {name} is missing or empty.")
        if pair.positive == pair.negative:
            raise ValueError(f"row {number}: both answers are the same, {pair.positive!r}.")
    return rows
