"""Pairs: a question with an answer that shows the wanted behaviour and one that does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SPLITS = ("train", "validation", "test")
PAPER = "paper/"
"""Prefix of the names of the paper's own tasks."""


class Message(NamedTuple):
    """One message of a conversation; role as the chat template knows it: system, user, assistant, tool."""

    role: str
    content: str


Question = str | Sequence[Message] | Sequence[Mapping[str, str]]
"""A text, or a conversation that the answer continues: messages as `{"role": "user", "content": "..."}`."""


@dataclass(frozen=True)
class Pair:
    """A question and two answers to it; `positive` is the one that shows the behaviour steered for.

    The question is a text, which a chat template asks as the user's, or a conversation, a system prompt
    first where there is one: `[{"role": "system", "content": "..."}, {"role": "user", "content": "..."}]`. It
    is kept as a tuple of `Message`.
    """

    question: Any
    positive: str
    negative: str

    def __post_init__(self) -> None:
        if not isinstance(self.question, str) and not question_fault(self.question):
            object.__setattr__(self, "question", messages(self.question))


def messages(question: Question) -> tuple[Message, ...]:
    """The messages of a question in which `question_fault` finds no fault; a text is one of the user's."""
    if isinstance(question, str):
        return (Message("user", question),)
    return tuple(m if isinstance(m, Message) else Message(m["role"], m["content"]) for m in question)


def question_fault(question: object) -> str | None:
    """What is wrong with something that is to be a question, as the end of a sentence; None if nothing is."""
    if isinstance(question, str):
        return None
    if isinstance(question, (Mapping, Message)):
        return "is one message, not a conversation: put it into a list"
    if not isinstance(question, (list, tuple)):
        return f"is a {type(question).__name__}, not a string or a list of messages"
    for number, one in enumerate(question):
        entry = one._asdict() if isinstance(one, Message) else one
        if not isinstance(entry, Mapping) or set(entry) != {"role", "content"}:
            found = sorted(map(str, entry)) if isinstance(entry, Mapping) else type(entry).__name__
            return f'has {found} as message {number}, which is {{"role": ..., "content": ...}}'
        if not all(isinstance(text, str) for text in entry.values()):
            return f"has a message {number} whose role and content are not both texts"
    if question and messages(question)[-1].role == "assistant":
        return "ends with the assistant's message: the answer is what follows, so end with the user's"
    return None


def is_empty(question: Question) -> bool:
    """True for a question without text where the answer is asked for: in its last message."""
    return not question or not messages(question)[-1].content.strip()


def require_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """The same pairs as a list, once it is clear that there are some and that none lacks a text.

    Raises:
        ValueError: for no pairs, an empty question or answer, a conversation that ends with the assistant, or
            two answers that are the same, with the number of the row (from 0).
        TypeError: for a single Pair or anything else that is no list of them, a row that is not a Pair, a
            text that is not a string, or a conversation that is no list of messages.
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
        if pair.question is not None and (fault := question_fault(pair.question)):
            kind = ValueError if "assistant" in fault else TypeError
            raise kind(f"row {number}: the question {fault}.")
        if pair.question is None or is_empty(pair.question):
            raise ValueError(f"row {number}: the question is missing or empty.")
        for name in ("positive", "negative"):
            text = getattr(pair, name)
            if text is not None and not isinstance(text, str):
                raise TypeError(f"row {number}: the {name} answer is a {type(text).__name__}, not a string.")
            if not text or not text.strip():
                raise ValueError(f"row {number}: the {name} answer is missing or empty.")
        if pair.positive == pair.negative:
            raise ValueError(f"row {number}: both answers are the same, {pair.positive!r}.")
    return rows
