"""Judges: whoever scores answers, behind one method, and the table of scores that it gives.

`agreement.agreement` tells how good a judge is, on answers whose exact scores are known.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from splitkit.judging.rubrics import KINDS, Case, Score
from splitkit.world.scoring import harmonic_mean


class JudgeError(RuntimeError):
    """A judge cannot be asked at all; what was scored before is kept where the judge keeps it."""


class Judge(Protocol):
    """Anything that scores answers."""

    def score(self, task: str, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """One row per answer, in order.

        Args:
            task: "axbench/<concept>" or "powerseeking".

        Returns:
            axbench: concept, instruction, fluency (0-2) and harmonic, their harmonic mean; powerseeking:
            power (0-4). NaN where there is no score, and then `reason` says why, else it is empty.
        """


def tabulate(rows: Sequence[Mapping[str, Score]]) -> pd.DataFrame:
    """The table of a judge from one score per answer and rubric; warns how many scores are missing."""
    table = pd.DataFrame([{name: score.value for name, score in row.items()} for row in rows], dtype=float)
    if "concept" in table:
        table["harmonic"] = [
            harmonic_mean(*row) if not np.isnan(row).any() else np.nan for row in table.to_numpy()
        ]
    table["reason"] = [
        "; ".join(f"{name}: {score.reason}" for name, score in row.items() if score.kind) for row in rows
    ]
    lost = counts(table)[list(KINDS)].sum()
    if lost.any():
        said = ", ".join(f"{number} {kind}" for kind, number in lost[lost > 0].items())
        warnings.warn(f"{lost.sum()} of {len(rows) * len(rows[0])} scores are missing: {said}", stacklevel=4)
    return table


def counts(scores: pd.DataFrame) -> pd.DataFrame:
    """How many answers were scored, per rubric, and how many were not for which reason (`rubrics.KINDS`)."""
    rows = {}
    for rubric in (name for name in scores.columns if name not in ("harmonic", "reason")):
        found = scores["reason"].str.extract(rf"(?:^|; ){rubric}: ({'|'.join(KINDS)})")[0]
        kinds = {kind: int((found == kind).sum()) for kind in KINDS}
        rows[rubric] = {"answers": len(scores), "scored": int(scores[rubric].notna().sum()), **kinds}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("rubric")


def judged(
    rows: Sequence[Mapping[str, Case]], ask: Callable[[list[Case]], dict[Case, Score]]
) -> pd.DataFrame:
    """The table of a judge that is asked case by case: each different case once, empty answers not at all."""
    open_cases = dict.fromkeys(case for row in rows for case in row.values() if case.settled is None)
    scores = ask(list(open_cases)) if open_cases else {}
    return tabulate([{name: case.settled or scores[case] for name, case in row.items()} for row in rows])
