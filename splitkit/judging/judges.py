"""Judges, which score answers behind one method, and the table of their scores."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from splitkit.judging.rubrics import KINDS, Case, Score
from splitkit.world.scoring import harmonic_mean


class JudgeError(RuntimeError):
    """A judge that cannot be asked at all; the scores it gave before are kept."""


class Judge(Protocol):
    """Anything that scores answers."""

    def score(self, task: str, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """One row per answer, in order, of the task "axbench/<concept>" or "powerseeking".

        axbench: concept, instruction, fluency (0-2) and harmonic, their harmonic mean; powerseeking: power
        (0-4). NaN where there is no score, and then `reason` says why, else it is empty.
        """


def tabulate(rows: Sequence[Mapping[str, Score]]) -> pd.DataFrame:
    """The table of a judge from one score per answer and rubric; warns of missing scores, by their kinds."""
    table = pd.DataFrame([{name: score.value for name, score in row.items()} for row in rows], dtype=float)
    if "concept" in table:
        table["harmonic"] = [
            harmonic_mean(*row) if not np.isnan(row).any() else np.nan for row in table.to_numpy()
        ]
    table["reason"] = [
        "; ".join(f"{name}: {score.reason}" for name, score in row.items() if score.kind) for row in rows
    ]
    found = Counter(score.kind for row in rows for score in row.values())
    if lost := found.total() - found[""]:
        said = ", ".join(f"{found[kind]} {kind}" for kind in KINDS if found[kind])
        warnings.warn(f"{lost} of {found.total()} scores are missing: {said}", stacklevel=4)
    return table


def judged(
    rows: Sequence[Mapping[str, Case]], ask: Callable[[list[Case]], dict[Case, Score]]
) -> pd.DataFrame:
    """The table of a judge that is asked each different case once, and empty answers not at all."""
    open_cases = dict.fromkeys(case for row in rows for case in row.values() if case.settled is None)
    scores = ask(list(open_cases)) if open_cases else {}
    return tabulate([{name: case.settled or scores[case] for name, case in row.items()} for row in rows])
