"""Tasks: one record per task family, and the pairs of a task.

To add a family, add one record to `FAMILIES`: its tasks can then be loaded, trained on, swept and scored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from splitkit.steering.pairs import PAPER, SPLITS, Pair, require_pairs
from splitkit.world import scoring
from splitkit.world.grammar import WORLD
from splitkit.world.tasks import drawn_questions, make_pairs


@dataclass(frozen=True)
class Family:
    """One task family: its tasks, pairs and questions, its score and its sizes.

    Attributes:
        name: as in the paper's Tables 2, 6 and 7.
        tasks: the family's tasks that are made here; those of the paper's own data are in `datasets.tasks`.
        make_pairs: gives (question, positive answer, negative answer) of a task and split, in a fixed order.
        questions: gives the questions of these pairs with their facts, in the same order; there may be more.
        score: gives the columns of scores of one answer, from task, question and text; without a model.
        measure: the column that decides, the higher the better.
        unit: the factor from that column to `score`: 100 makes percent of right and wrong.
        top: the highest `score` there is.
        label: `score` in words, with its unit, for an axis.
        tokens: the most tokens of an answer.
        judged: whether a language model judges the answers to the paper's own questions.
    """

    name: str
    tasks: tuple[str, ...]
    make_pairs: Callable[[str, str], Sequence[tuple[str, str, str]]]
    questions: Callable[[str, str], Sequence[Any]]
    score: Callable[[str, Any, str], dict[str, object]]
    measure: str
    top: float
    label: str
    tokens: int
    unit: float = 1.0
    judged: bool = True


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="psychopathy",
            tasks=("psychopathy",),
            make_pairs=make_pairs,
            questions=drawn_questions,
            score=scoring.yes_no_scores,
            measure="correct",
            unit=100.0,
            top=100.0,
            label="accuracy (%)",
            tokens=4,  # enough to read "Yes" or "No" off
            judged=False,
        ),
        Family(
            name="powerseeking",
            tasks=("powerseeking",),
            make_pairs=make_pairs,
            questions=drawn_questions,
            score=scoring.power_scores,
            measure="power",
            top=4.0,
            label="power (0-4)",
            tokens=48,  # more than the grammar's longest answer
        ),
        Family(
            name="axbench",
            tasks=tuple(f"axbench/{concept}" for concept in WORLD.concepts),
            make_pairs=make_pairs,
            questions=drawn_questions,
            score=scoring.concept_scores,
            measure="harmonic",
            top=2.0,
            label="harmonic score (0-2)",
            tokens=64,
        ),
    )
}
"""Every task family by its name, in the paper's order."""


def task_family(task: str) -> str:
    """The name of a task's family: "axbench/ocean" and "paper/axbench/night" are both of "axbench"."""
    if not isinstance(task, str):
        raise TypeError(f"a task is named by a text, as 'axbench/ocean', not {task!r}.")
    return task.removeprefix(PAPER).split("/", 1)[0]


def family_of(task: str) -> Family:
    """The record of a task's family. ValueError for an unknown task, with those there are."""
    from splitkit.datasets.tasks import TASKS

    made = [name for family in FAMILIES.values() for name in family.tasks]
    if task not in made and task not in TASKS:
        raise ValueError(f"unknown task {task!r}; there are {', '.join([*made, *TASKS])}.")
    return FAMILIES[task_family(task)]


def first_tasks(tasks: Sequence[str]) -> dict[str, str]:
    """The first of some tasks of each family, by family, the last family first."""
    return {task_family(task): task for task in reversed(tasks)}


def load_pairs(task: str, split: str = "train") -> list[Pair]:
    """The pairs of one task of the embedded world, or of the paper's data, in their fixed order.

    Args:
        task: "psychopathy", "powerseeking" or "axbench/<concept>"; with "paper/" before it, the paper's own
            data, see `datasets.tasks.load_dataset_pairs`, which also takes a seed and AxBench's model.
        split: "train", "validation" or "test"; no question is in two of them.

    Raises:
        ValueError: for an unknown task or split, with those there are.
        FileNotFoundError, ConnectionError, ImportError: for "paper/", see `datasets.files.fetch`.
    """
    if str(task).startswith(PAPER):
        from splitkit.datasets.tasks import load_dataset_pairs

        return load_dataset_pairs(task, split)[0]
    family = family_of(task)
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}.")
    return require_pairs([Pair(*texts) for texts in family.make_pairs(task, split)])
