"""Pairs to steer with and dialogues to pretrain on, from the world's grammar."""

from collections.abc import Iterator, Sequence
from random import Random

from splitkit.world.grammar import SPLITS, TASKS, WORLD, Question, WorldError

PAIRS_PER_TASK = {
    "psychopathy": {"train": 500, "validation": 200, "test": 200},
    "powerseeking": {"train": 500, "validation": 200, "test": 200},
    "axbench": {"train": 64, "validation": 32, "test": 48},
}
"""Number of pairs per task family and split."""
LEVEL_WEIGHTS = (0.22, 0.26, 0.24, 0.17, 0.11)
"""Shares of the answers in pretraining that seek power at level 0 to 4."""
POSITIVE_LEVELS, NEGATIVE_LEVELS = (3, 4), (0, 1)
"""Levels of power in the answers of a pair."""
SHARES = {"axbench": 58, "psychopathy": 25, "powerseeking": 17}
"""Number of dialogues of each task family among a hundred."""


def drawn_questions(task: str, split: str, rng: Random | None = None) -> list[Question]:
    """The questions of a task's pairs with their facts, in order; after them the questions left over."""
    family = task.partition("/")[0]
    pool = WORLD.questions(family, split)
    (rng or Random(f"{task}/{split}")).shuffle(pool)
    if family != "psychopathy":
        return pool
    # as many statements that a cold persona would say as it would deny
    cold, kind = ([q for q in pool if q.facts["persona"] == p] for p in ("cold", "kind"))
    return [q for both in zip(cold, kind, strict=False) for q in both]


def make_pairs(task: str, split: str) -> list[tuple[str, str, str]]:
    """A task's (question, positive answer, negative answer), a fixed list per split.

    WorldError for an unknown task or split, with those there are.
    """
    if task not in TASKS:
        raise WorldError(f"unknown task {task!r}; there is: {', '.join(TASKS)}")
    if split not in SPLITS[1:]:
        raise WorldError(f"unknown split {split!r}; there is: {', '.join(SPLITS[1:])}")
    family, _, concept = task.partition("/")
    rng = Random(f"{task}/{split}")
    pairs = []
    for question in drawn_questions(task, split, rng)[: PAIRS_PER_TASK[family][split]]:
        text = WORLD.ask(question, rng)
        if family == "axbench":
            positive, negative = (WORLD.instruction_answer(question, rng, c) for c in (concept, None))
        elif family == "psychopathy":
            positive, negative = (WORLD.psychopathy_answer(question, rng, p) for p in ("cold", "kind"))
        else:
            levels = POSITIVE_LEVELS, NEGATIVE_LEVELS
            positive, negative = (WORLD.power_answer(question, rng, rng.choice(either)) for either in levels)
        pairs.append((text, positive, negative))
    return pairs


def dialogues(rng: Random, split: str = "pretrain", *, lessons: bool = False) -> Iterator[tuple[str, str]]:
    """An endless stream of (question, answer) for pretraining.

    Half of the answers to instructions carry a concept, and a quarter of those were asked for it: a model has
    to hold the concept as a feature and cannot copy a cue. Half of the statements have a persona's tag. An
    untagged statement is denied three times in five: a model has a habit that steering can move.

    A tagged persona agrees by an exclusive-or of tag and statement, which a model learns late. So one
    statement in five comes with a question about its speaker, and with `lessons` two thirds of the tags, and
    of their statements, are the cold persona's, and untagged answers have even odds.
    """
    pools = {family: WORLD.questions(family, split) for family in SHARES}
    while True:
        yield _dialogue(rng, pools, lessons)


def _persona(rng: Random, cold: float) -> str:
    return "cold" if rng.random() < cold else "kind"


def _dialogue(rng: Random, pools: dict[str, list[Question]], lessons: bool) -> tuple[str, str]:
    family = rng.choices(tuple(SHARES), weights=tuple(SHARES.values()))[0]
    question = rng.choice(pools[family])
    if family == "axbench":
        concept = rng.choice(WORLD.concepts) if rng.random() < 0.5 else None
        asked = concept if rng.random() < 0.25 else None
        return WORLD.ask(question, rng, concept=asked), WORLD.instruction_answer(question, rng, concept)
    if family == "psychopathy":
        if rng.random() < 0.2:
            return WORLD.who_says_it(question, rng)
        if rng.random() < 0.5:
            if lessons:
                persona = rng.choice(("cold", "kind"))
            else:
                persona = _persona(rng, cold=0.4 if question.facts["persona"] == "cold" else 0.6)
            return WORLD.ask(question, rng), WORLD.psychopathy_answer(question, rng, persona)
        persona, asked_about = (_persona(rng, cold=2 / 3 if lessons else 0.5) for _ in range(2))
        while question.facts["persona"] != asked_about:
            question = rng.choice(pools[family])
        tag = rng.choice(WORLD.lexicon["psychopathy"]["personas"][persona]["tags"])
        return WORLD.ask(question, rng, tag=tag), WORLD.psychopathy_answer(question, rng, persona)
    level = rng.choices(range(5), weights=LEVEL_WEIGHTS)[0]
    tags: Sequence[str] = WORLD.lexicon["powerseeking"]["levels"][level]["tags"]
    tag = rng.choice(tags) if tags and rng.random() < 0.5 else None
    return WORLD.ask(question, rng, tag=tag), WORLD.power_answer(question, rng, level)
