"""Scores of trained trials on validation data alone: one number each, the higher the better, for any profile.

The made world's answers are scored by its grammar. The paper's own tasks need no judge here:

* psychopathy: accuracy in percent by the likelihoods of "Yes" and "No" (Eq. 7 of the first words);
* open tasks: the mean gain in preference log-odds, in nats per pair, at the strength that gains most while
  mean utility is at most `TOLERANCE` nats per token below that of the unsteered model. Gain alone is what
  SPLIT maximises, and rises on broken text; the bound leaves text that can be read. Losses are sums
  (Eq. 28), because Eq. 8 is undefined in token means where one of the two answers is the model's own.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd

from splitkit.runs.cell_keys import settings
from splitkit.runs.cell_results import CellResult
from splitkit.runs.cells import compute, own_threads
from splitkit.runs.profiles import Cell, Profile
from splitkit.runs.search_space import FORMS, OWN, trained_on
from splitkit.steering.pairs import PAPER
from splitkit.storage import digests
from splitkit.tasks import task_family

TOLERANCE = 0.5
"""Nats per token of utility that an open task's strength may cost: fluency halves between 0.5 and 1."""

STRENGTHS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6)
"""Strengths tried on the paper's own tasks, in matching strengths: on real models all of use were here."""

COLUMNS = ["made_of", "score", "m_relative"]
_MEASURES = ("runs/trial_scores.py", "runs/yes_no.py", "curves/operating_point.py", "curves/decay.py")


def made_of(cell: Cell, profile: Profile) -> str:
    """A digest of all that decides a trial's score: settings, sizes, strengths, models, data and code."""
    own, stage = asked(profile), "trained" if cell.task.startswith(PAPER) else "answers"
    found = settings(cell, own, stage)
    if stage == "trained":
        found |= {"tried": own.tried or STRENGTHS, "n_choose": own.size("choose", cell.task)}
        found |= {"tolerance": TOLERANCE, "measure_digest": digests.code_digest(_MEASURES)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def asked(profile: Profile) -> Profile:
    """The profile in which trials run: trained and answering validation questions, and nothing else."""
    every = tuple(product(FORMS, OWN))
    return replace(profile, combinations=(), answered=every, n_test=0, part=frozenset())


def scored(
    cells: Sequence[Cell],
    profile: Profile,
    known: pd.DataFrame | None = None,
    jobs: int = 2,
    progress: bool = True,
) -> pd.DataFrame:
    """The score of each cell at its best strength, in the order of the cells: `COLUMNS`.

    A cell whose `made_of` is in the table `known` is not run again. One whose loss was not finite has NaN.
    """
    keys = [made_of(cell, profile) for cell in cells]
    there = {} if known is None else known.drop_duplicates("made_of").set_index("made_of")[COLUMNS[1:]].T
    missing = {key: cell for key, cell in zip(keys, cells, strict=True) if key not in there}
    found: dict[str, Any] = {key: tuple(there[key]) for key in keys if key in there}
    real = {key: cell for key, cell in missing.items() if cell.task.startswith(PAPER)}
    world = {key: cell for key, cell in missing.items() if key not in real}
    there_are = replace(asked(profile), models=tuple(dict.fromkeys(cell.model for cell in cells)))
    for part, own, measure in (
        (world, there_are, _answered),
        (real, replace(there_are, answered=()), _measured),
    ):
        results = compute(part.values(), own, jobs, progress) if part else []
        for key, result in zip(part, results, strict=True):
            score, m = (math.nan, math.nan) if result.diverged else measure(result, own)
            # as the table keeps them, so that a run that goes on chooses as one that was not interrupted
            found[key] = float(f"{score:.6g}"), float(f"{m:.6g}")
    return pd.DataFrame([(key, *found[key]) for key in keys], columns=COLUMNS)


def _answered(result: CellResult, profile: Profile) -> tuple[float, float]:
    m, score = result.best
    return score, m


def _measured(result: CellResult, profile: Profile) -> tuple[float, float]:
    """Score and relative strength of a trial on the paper's own data, see above."""
    from splitkit.curves.operating_point import operating_point
    from splitkit.runs import answers
    from splitkit.runs.world_answers import choose_strength
    from splitkit.runs.yes_no import yes_no_accuracy
    from splitkit.steering.sweeps import sweep
    from splitkit.steering.tokenization import encode_pairs

    task, unit = result.cell.task, result.unit
    with own_threads():
        model, tokenizer = answers.load(profile, result.cell.model)
        pairs = held_out(profile, task, model, tokenizer)
        grid = [unit * relative for relative in profile.tried or STRENGTHS if relative]
        if task_family(task) == "psychopathy":
            table = yes_no_accuracy(model, tokenizer, result.intervention(), pairs, grid)
            table["score"] = 100.0 * table["correct_by_likelihood"]
            m = choose_strength(table)
            return float(table.loc[table["m"] == m, "score"].mean()), m / unit
        swept = sweep(model, tokenizer, result.intervention(), pairs, [0.0, *grid], reduction="sum")
        sequences = [sequence for side in encode_pairs(model, tokenizer, pairs) for sequence in side]
        tokens = sum(sequence.answer_length for sequence in sequences) / len(sequences)
        point = operating_point(swept, TOLERANCE * tokens)
        preference = point.table.set_index("m")["preference"]
        return float(preference[point.m] - preference[0.0]), point.m / unit


def held_out(profile: Profile, task: str, model: Any, tokenizer: Any) -> Any:
    """Validation pairs of a paper's task; of AxBench, which has none left, the last of the training pairs."""
    from splitkit.runs import answers

    n = profile.size("choose", task)
    if task_family(task) != "axbench":
        return answers.pairs(profile, task, "validation", model, tokenizer)[:n]
    return answers.pairs(profile, task, "train", model, tokenizer)[trained_on(profile, task) :][:n]
