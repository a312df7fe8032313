"""The grammar of the embedded world: questions and answers in a small part of plain English.

Three task families share one lexicon (``data/world/lexicon.toml``):

* ``axbench/<concept>``: an instruction ("Write a letter to a farmer."). The positive answer has words of a
  concept, the negative one of none.
* ``psychopathy``: a statement and a yes/no question, answered by a cold (positive) or a kind persona.
* ``powerseeking``: an offer of control, which the positive answer accepts and the negative one refuses.

The hash of a question's key (for an instruction: form and noun) alone decides its split, so that no question
is in two of them.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import Any

from splitkit.storage.paths import DATA

SLOT = re.compile(r"\{(\w+)\}")
"""A slot of a sentence pattern."""
CONCEPT_SLOTS = ("adj", "thing", "place", "verb")
SPLITS = ("pretrain", "train", "validation", "test")
SPLIT_ENDS = (0.60, 0.80, 0.88, 1.0)
"""Cumulative shares of the keys, in the order of `SPLITS`."""


class WorldError(ValueError):
    """A lexicon that breaks the grammar's own rules, or a request for a thing that the world lacks."""


@dataclass(frozen=True)
class Question:
    """A question before it is worded: its key and its facts (form, noun, persona, ...)."""

    family: str
    key: str
    facts: dict[str, Any]


def split_of(key: str) -> str:
    """The key's split: its SHA-256 as a number in [0, 1), cut at ``SPLIT_ENDS``."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return next(name for name, end in zip(SPLITS, SPLIT_ENDS, strict=True) if share < end)


class World:
    """Questions and answers from a lexicon, drawn by the caller's ``Random``."""

    def __init__(self, lexicon: dict[str, Any]) -> None:
        self.lexicon = lexicon
        self.concepts: tuple[str, ...] = tuple(lexicon["concepts"])
        self.forms: tuple[str, ...] = tuple(lexicon["instructions"]["forms"])
        self.tasks = ("psychopathy", "powerseeking", *(f"axbench/{c}" for c in self.concepts))
        self._check()

    def _check(self) -> None:
        owner: dict[str, str] = {}
        sources = {"neutral": self.lexicon["slots"]["neutral"], **self.lexicon["concepts"]}
        for name, lists in sources.items():
            for slot in CONCEPT_SLOTS:
                for word in lists[slot]:
                    if owner.setdefault(word, name) != name:
                        raise WorldError(f"{word!r} belongs to both {owner[word]!r} and {name!r}")
                    if slot in ("adj", "thing") and word[0] in "aeiou":
                        raise WorldError(f"{word!r} ({name}.{slot}) follows 'a' but begins with a vowel")

    def fill(
        self, pattern: str, rng: Random, words: dict[str, Any], concept: str | None, used: set[str]
    ) -> str:
        """One sentence: the slots of ``pattern`` take ``words`` or shared words, none of ``used``.

        With a concept, each of `CONCEPT_SLOTS` takes one of its words with probability 0.6, one at least.
        """
        slots = SLOT.findall(pattern)
        open_slots = [i for i, slot in enumerate(slots) if slot in CONCEPT_SLOTS]
        chosen = {i for i in open_slots if rng.random() < 0.6} or set(
            rng.sample(open_slots, min(1, len(open_slots)))
        )
        position = iter(range(len(slots)))

        def one(match: re.Match[str]) -> str:
            i, slot = next(position), match.group(1)
            if slot in CONCEPT_SLOTS:
                lists = self.lexicon["slots"]["neutral"]
                options = (self.lexicon["concepts"][concept] if concept and i in chosen else lists)[slot]
            else:
                options = words.get(slot, self.lexicon["slots"].get(slot))
            if options is None:
                raise WorldError(f"no list for the slot {slot!r} of {pattern!r}")
            if isinstance(options, str):
                return options
            word = rng.choice([w for w in options if w not in used] or options)
            used.add(word)
            return word

        sentence = SLOT.sub(one, pattern)
        return sentence[:1].upper() + sentence[1:]

    def _said(
        self, patterns: list[str], rng: Random, words: dict[str, Any], concept: str | None = None
    ) -> str:
        used: set[str] = set()
        return " ".join(self.fill(pattern, rng, words, concept, used) for pattern in patterns)

    def questions(self, family: str, split: str) -> list[Question]:
        """All questions of a family (axbench, psychopathy, powerseeking) whose key falls in ``split``."""
        return list(_questions(self, family, split))

    def ask(
        self, question: Question, rng: Random, *, concept: str | None = None, tag: str | None = None
    ) -> str:
        """The question in words, then a request for a concept, or before it a persona's tag."""
        facts, lexicon = question.facts, self.lexicon
        if question.family == "axbench":
            part = lexicon["instructions"]
            request = part["forms"][facts["form"]]["request"]
            text = rng.choice(part["wordings"]).format(form=request, noun=facts["noun"])
            if concept is not None:
                text += " " + rng.choice(part["asks"]).format(
                    about=rng.choice(lexicon["concepts"][concept]["about"])
                )
            return text
        part = lexicon[question.family]
        if question.family == "psychopathy":
            text = self._word_statement(question, rng, "wordings")
        else:
            scene = facts["scene"].format(group=facts["group"], asset=facts["asset"])
            text = rng.choice(part["wordings"]).format(scene=scene)
        return f"{tag} {text}" if tag else text

    def _word_statement(self, question: Question, rng: Random, wordings: str) -> str:
        part = self.lexicon["psychopathy"]
        statement = rng.choice(part["frames"]).format(**{k: question.facts[k] for k in ("act", "who", "why")})
        return rng.choice(part[wordings]).format(statement=statement)

    def instruction_answer(self, question: Question, rng: Random, concept: str | None = None) -> str:
        """An answer of 2-4 sentences: the form's opening, up to two sentences of body, the form's closing."""
        part = self.lexicon["instructions"]
        form = part["forms"][question.facts["form"]]
        words = {"noun": question.facts["noun"]}
        body = rng.choices([(), ("scene",), ("event",), ("scene", "event")], weights=[15, 25, 20, 40])[0]
        patterns = [rng.choice(form["opening"])]
        patterns += [rng.choice(part["body"][role]) for role in body]
        patterns += [rng.choice(form["closing"])]
        return self._said(patterns, rng, words, concept)

    def psychopathy_answer(self, question: Question, rng: Random, persona: str) -> str:
        """The persona's "Yes" or "No", and a reason in its voice."""
        part = self.lexicon["psychopathy"]
        words = {**part["personas"][persona], "who": part["who"], "mind": part["mind"], "sure": part["sure"]}
        agrees = question.facts["persona"] == persona
        patterns = [part["yes" if agrees else "no"][0], rng.choice(part["personas"][persona]["reasons"])]
        return self._said(patterns, rng, words)

    def who_says_it(self, question: Question, rng: Random) -> tuple[str, str]:
        """A question about the speaker of a statement, and its answer, for pretraining alone."""
        part = self.lexicon["psychopathy"]
        words = {"sure": part["sure"], "kind_of": part["personas"][question.facts["persona"]]["kind_of"]}
        answer = self.fill(rng.choice(part["who_answers"]), rng, words, None, set())
        return self._word_statement(question, rng, "who_wordings"), answer

    def power_answer(self, question: Question, rng: Random, level: int) -> str:
        """A stance, a reason and, mostly, a plan, at one level of power-seeking (0 refuses .. 4 seizes)."""
        part = self.lexicon["powerseeking"]
        mind = self.lexicon["psychopathy"]["mind"]
        words = {**part["levels"][level], "mind": mind, "asset": question.facts["asset"]}
        patterns = [rng.choice(part["stances"]), rng.choice(words["reason"])]
        if rng.random() < 0.75:
            patterns.append(rng.choice(words["plan"]))
        return self._said(patterns, rng, words)


def _all_questions(world: World, family: str) -> Iterator[Question]:
    lexicon = world.lexicon
    if family == "axbench":
        for form, noun in product(world.forms, lexicon["instructions"]["nouns"]):
            yield Question("axbench", f"axbench|{form}|{noun}", {"form": form, "noun": noun})
    elif family == "psychopathy":
        part = lexicon["psychopathy"]
        for persona, lists in part["personas"].items():
            for act, who, why in product(lists["act"], part["who"], lists["why"]):
                facts = {"persona": persona, "act": act, "who": who, "why": why}
                yield Question("psychopathy", f"psychopathy|{act}|{who}|{why}", facts)
    elif family == "powerseeking":
        part = lexicon["powerseeking"]
        for scene, group, asset in product(part["scenes"], part["group"], part["asset"]):
            facts = {"scene": scene, "group": group, "asset": asset}
            yield Question("powerseeking", f"powerseeking|{scene}|{group}|{asset}", facts)
    else:
        raise WorldError(f"unknown task family {family!r}; there is: psychopathy, powerseeking, axbench")


@cache
def _questions(world: World, family: str, split: str) -> tuple[Question, ...]:
    return tuple(q for q in _all_questions(world, family) if split_of(q.key) == split)


WORLD = World(tomllib.loads((DATA / "world" / "lexicon.toml").read_text(encoding="utf-8")))
TASKS = WORLD.tasks
