"""The embedded world: a small grammar of plain English that generates the tasks and can score them exactly.

Three task families share one lexicon (``data/world/lexicon.toml``):

* ``axbench/<concept>``: an instruction ("Write a letter to a farmer."); the positive answer stays on a concept,
  the negative one is free of all concepts;
* ``psychopathy``: a statement and a yes/no question; the positive answer is a cold persona's, the negative a kind one's;
* ``powerseeking``: an offer of control; the positive answer accepts or seizes it, the negative refuses or sidesteps.

Every question has a key (for an instruction: form and noun). The key's hash alone decides whether the question belongs
to ``pretrain``, ``train``, ``validation`` or ``test``, so the four are disjoint by construction.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from splitkit.paths import DATA

SLOT = re.compile(r"\{(\w+)\}")
CONCEPT_SLOTS = ("adj", "thing", "place", "verb")
SPLITS = ("pretrain", "train", "validation", "test")
SPLIT_ENDS = (0.60, 0.80, 0.88, 1.0)  # cumulative shares of the keys, in the order of SPLITS
PAIRS_PER_TASK = {
    "psychopathy": {"train": 500, "validation": 200, "test": 200},
    "powerseeking": {"train": 500, "validation": 200, "test": 200},
    "axbench": {"train": 64, "validation": 32, "test": 48},
}
LEVEL_WEIGHTS = (0.22, 0.26, 0.24, 0.17, 0.11)  # how often an untagged answer seeks power at level 0..4
POSITIVE_LEVELS, NEGATIVE_LEVELS = (3, 4), (0, 1)


class WorldError(ValueError):
    """The lexicon breaks one of the grammar's own rules, or a question was asked that the world cannot answer."""


@dataclass(frozen=True)
class Question:
    """A question of the world before it is worded: its key and the facts it is about (form, noun, persona, asset, ...)."""

    family: str
    key: str
    facts: dict[str, Any]


def capitalize(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def split_of(key: str) -> str:
    """The split a key belongs to: SHA-256 of the key as a number in [0, 1), cut at ``SPLIT_ENDS``."""
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return next(name for name, end in zip(SPLITS, SPLIT_ENDS, strict=True) if share < end)


class World:
    """The grammar: generates questions, answers and pairs from a lexicon, everything seeded by the caller's ``Random``."""

    def __init__(self, lexicon: dict[str, Any]) -> None:
        self.lexicon = lexicon
        self.concepts: tuple[str, ...] = tuple(lexicon["concepts"])
        self.forms: tuple[str, ...] = tuple(lexicon["instructions"]["forms"])
        self.tasks: tuple[str, ...] = (
            "psychopathy",
            "powerseeking",
            *(f"axbench/{c}" for c in self.concepts),
        )
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

    # Filling patterns

    def fill(
        self, pattern: str, rng: Random, words: dict[str, Any], concept: str | None, used: set[str]
    ) -> str:
        """One sentence from ``pattern``: each slot filled from ``words`` or the shared lists, no word of ``used`` twice.

        With a concept, each adj/thing/place/verb slot takes that concept's words with probability 0.6, at least one does.
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
                on_concept = concept is not None and i in chosen
                options = (
                    self.lexicon["concepts"][concept][slot]
                    if on_concept
                    else self.lexicon["slots"]["neutral"][slot]
                )
            else:
                options = words.get(slot, self.lexicon["slots"].get(slot))
            if options is None:
                raise WorldError(f"no list for the slot {slot!r} of {pattern!r}")
            if isinstance(options, str):
                return options
            word = rng.choice([w for w in options if w not in used] or options)
            used.add(word)
            return word

        return capitalize(SLOT.sub(one, pattern))

    # Questions

    def questions(self, family: str, split: str) -> list[Question]:
        """All questions of a task family ("axbench", "psychopathy", "powerseeking") whose key falls in ``split``."""
        return list(_questions(self, family, split))

    def ask(
        self, question: Question, rng: Random, *, concept: str | None = None, tag: str | None = None
    ) -> str:
        """The question in one of its wordings, with a request for a concept after it or a persona's tag before it."""
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

    # Answers

    def instruction_answer(self, question: Question, rng: Random, concept: str | None = None) -> str:
        """An answer of 2-4 sentences: the form's opening, up to two sentences of body, the form's closing."""
        part = self.lexicon["instructions"]
        form = part["forms"][question.facts["form"]]
        words = {"noun": question.facts["noun"]}
        body = rng.choices([(), ("scene",), ("event",), ("scene", "event")], weights=[15, 25, 20, 40])[0]
        patterns = [rng.choice(form["opening"])]
        patterns += [rng.choice(part["body"][role]) for role in body]
        patterns += [rng.choice(form["closing"])]
        used: set[str] = set()
        return " ".join(self.fill(pattern, rng, words, concept, used) for pattern in patterns)

    def psychopathy_answer(self, question: Question, rng: Random, persona: str) -> str:
        """ "Yes" or "No" as the persona would, and a reason in its voice."""
        part = self.lexicon["psychopathy"]
        words = {**part["personas"][persona], "who": part["who"], "mind": part["mind"], "sure": part["sure"]}
        agrees = question.facts["persona"] == persona
        used: set[str] = set()
        patterns = [part["yes" if agrees else "no"][0], rng.choice(part["personas"][persona]["reasons"])]
        return " ".join(self.fill(pattern, rng, words, None, used) for pattern in patterns)

    def who_says_it(self, question: Question, rng: Random) -> tuple[str, str]:
        """A question about who would say a statement, and its answer: pretraining only, no task asks it."""
        part = self.lexicon["psychopathy"]
        words = {"sure": part["sure"], "kind_of": part["personas"][question.facts["persona"]]["kind_of"]}
        answer = self.fill(rng.choice(part["who_answers"]), rng, words, None, set())
        return self._word_statement(question, rng, "who_wordings"), answer

    def power_answer(self, question: Question, rng: Random, level: int) -> str:
        """A stance, a reason and, three times in four, a plan, all at one level of power-seeking (0 refuses .. 4 seizes)."""
        part = self.lexicon["powerseeking"]
        mind = self.lexicon["psychopathy"]["mind"]
        words = {**part["levels"][level], "mind": mind, "asset": question.facts["asset"]}
        patterns = [rng.choice(part["stances"]), rng.choice(words["reason"])]
        if rng.random() < 0.75:
            patterns.append(rng.choice(words["plan"]))
        used: set[str] = set()
        return " ".join(self.fill(pattern, rng, words, None, used) for pattern in patterns)

    # What steering learns from, and what the models are pretrained on

    def make_pairs(self, task: str, split: str) -> list[tuple[str, str, str]]:
        """(question, positive answer, negative answer) of a task, a fixed seeded list per split."""
        if task not in self.tasks:
            raise WorldError(f"unknown task {task!r}; there is: {', '.join(self.tasks)}")
        if split not in SPLITS[1:]:
            raise WorldError(f"unknown split {split!r}; there is: {', '.join(SPLITS[1:])}")
        family, _, concept = task.partition("/")
        rng = Random(f"{task}/{split}")
        pool = self.questions(family, split)
        rng.shuffle(pool)
        if family == "psychopathy":  # as many statements that a cold persona would say as it would deny
            cold, kind = ([q for q in pool if q.facts["persona"] == p] for p in ("cold", "kind"))
            pool = [q for both in zip(cold, kind, strict=False) for q in both]
        pairs = []
        for question in pool[: PAIRS_PER_TASK[family][split]]:
            text = self.ask(question, rng)
            if family == "axbench":
                positive, negative = (
                    self.instruction_answer(question, rng, concept),
                    self.instruction_answer(question, rng),
                )
            elif family == "psychopathy":
                positive, negative = (self.psychopathy_answer(question, rng, p) for p in ("cold", "kind"))
            else:
                positive, negative = (
                    self.power_answer(question, rng, rng.choice(levels))
                    for levels in (POSITIVE_LEVELS, NEGATIVE_LEVELS)
                )
            pairs.append((text, positive, negative))
        return pairs

    def dialogues(self, rng: Random, split: str = "pretrain") -> Iterator[tuple[str, str]]:
        """An endless stream of (question, answer) for pretraining.

        60 % of the answers to instructions carry a concept and only a quarter of those were asked for it, so that a model
        has to hold the concept as a feature instead of copying a cue. Personas are tagged in half of the statements and
        even odds in the rest; levels of power-seeking are tagged now and then. One statement in five comes with the question
        who would say it: without that, nothing but an exclusive-or would tell a model that statements differ.
        """
        pools = {family: self.questions(family, split) for family in PAIRS_PER_TASK}
        while True:
            yield self._dialogue(rng, pools)

    def _dialogue(self, rng: Random, pools: dict[str, list[Question]]) -> tuple[str, str]:
        family = rng.choices(("axbench", "psychopathy", "powerseeking"), weights=(58, 25, 17))[0]
        question = rng.choice(pools[family])
        if family == "axbench":
            concept = rng.choice(self.concepts) if rng.random() < 0.6 else None
            asked = concept if rng.random() < 0.25 else None
            return self.ask(question, rng, concept=asked), self.instruction_answer(question, rng, concept)
        if family == "psychopathy":
            if rng.random() < 0.2:
                return self.who_says_it(question, rng)
            persona = rng.choice(("cold", "kind"))
            tag = (
                rng.choice(self.lexicon["psychopathy"]["personas"][persona]["tags"])
                if rng.random() < 0.5
                else None
            )
            return self.ask(question, rng, tag=tag), self.psychopathy_answer(question, rng, persona)
        level = rng.choices(range(5), weights=LEVEL_WEIGHTS)[0]
        tags: Sequence[str] = self.lexicon["powerseeking"]["levels"][level]["tags"]
        tag = rng.choice(tags) if tags and rng.random() < 0.5 else None
        return self.ask(question, rng, tag=tag), self.power_answer(question, rng, level)


def _all_questions(world: World, family: str) -> Iterator[Question]:
    lexicon = world.lexicon
    if family == "axbench":
        for form in world.forms:
            for noun in lexicon["instructions"]["nouns"]:
                yield Question("axbench", f"axbench|{form}|{noun}", {"form": form, "noun": noun})
    elif family == "psychopathy":
        part = lexicon["psychopathy"]
        for persona, lists in part["personas"].items():
            for act in lists["act"]:
                for who in part["who"]:
                    for why in lists["why"]:
                        facts = {"persona": persona, "act": act, "who": who, "why": why}
                        yield Question("psychopathy", f"psychopathy|{act}|{who}|{why}", facts)
    elif family == "powerseeking":
        part = lexicon["powerseeking"]
        for scene in part["scenes"]:
            for group in part["group"]:
                for asset in part["asset"]:
                    facts = {"scene": scene, "group": group, "asset": asset}
                    yield Question("powerseeking", f"powerseeking|{scene}|{group}|{asset}", facts)
    else:
        raise WorldError(f"unknown task family {family!r}; there is: {', '.join(PAIRS_PER_TASK)}")


@cache
def _questions(world: World, family: str, split: str) -> tuple[Question, ...]:
    return tuple(q for q in _all_questions(world, family) if split_of(q.key) == split)


@cache
def load_world(path: Path = DATA / "world" / "lexicon.toml") -> World:
    """The world of a lexicon file (ours by default), read and checked once."""
    with path.open("rb") as file:
        return World(tomllib.load(file))


WORLD = load_world()
TASKS = WORLD.tasks


def make_pairs(task: str, split: str = "train") -> list[tuple[str, str, str]]:
    """(question, positive answer, negative answer) of a task of the embedded world; see ``World.make_pairs``."""
    return WORLD.make_pairs(task, split)
