"""Mean scores with their intervals, and SPLIT against its rivals, by one bootstrap."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from splitkit.curves.bootstrap import pair_counts
from splitkit.studies.claims import CEILING
from splitkit.studies.frames import CELL, require
from splitkit.tasks import task_family

DRAWS = 5000
INTERVAL = (2.5, 97.5)
"""Percentiles of the intervals."""


@dataclass(frozen=True)
class Metric:
    """A column of Tables 3 and 4: the tasks it is of, the column of `answer_scores`, the top of its scale."""

    family: str
    column: str
    top: float


METRICS = {
    "psychopathy_acc_pct": Metric("psychopathy", "score", 100.0),
    "powerseeking_0_4": Metric("powerseeking", "score", 4.0),
    "axbench_concept_0_2": Metric("axbench", "concept", 2.0),
    "axbench_harmonic_0_2": Metric("axbench", "score", 2.0),
}
COMPARED = ("diffmean", "sft", "reps", "dpo")
"""Objectives that SPLIT is compared with."""
_ANSWER = [*CELL, "question"]
_Kinds = dict[Any, tuple[int, Float[np.ndarray, " draw"]]]
"""By form and objective: seeds, and the mean score of the sample, then of each draw, (1 + draw,)."""


def intervals(answer_scores: pd.DataFrame) -> pd.DataFrame:
    """Mean score of every form and objective of `answer_scores` with its 95 % interval.

    A bootstrap draws seeds, concepts, and questions within a concept anew; AxBench is the mean over its
    concepts, which are its repetitions: each is a training of its own. Few are drawn from, and where three
    seeds differ much more than their answers explain the intervals are too narrow (without any difference, up
    to a quarter of the paired ones then leave out 0); where they do not differ, too wide.

    Returns:
        One row per (model, form, objective, metric): model, family, form, objective, metric (a key of
        `METRICS`), seeds, n (questions), mean, low, high, in the scale of the metric.

    Raises:
        ValueError: for a missing column, no rows, a score that is NaN, an answer scored twice, or a seed that
            was not asked all questions of its model and task family.
    """
    rows = []
    for model, name, n, kinds in _samples(answer_scores):
        for (form, objective), (seeds, means) in kinds.items():
            row = {"model": model, "family": METRICS[name].family, "form": form, "objective": objective}
            rows.append(row | {"metric": name, "seeds": seeds, "n": n, "mean": means[0]} | _interval(means))
    return pd.DataFrame(rows)


def differences(answer_scores: pd.DataFrame) -> pd.DataFrame:
    """SPLIT minus each rival of the same form, paired: both have the same draws of `intervals`.

    DiffMean, a closed form, has one seed: there SPLIT's alone are drawn.

    Returns:
        One row per (model, form, metric, rival): model, family, form, metric, rival, split and other (the two
        means), difference, low, high (95 %), p (two-sided: twice the smaller share of draws on either side of
        0), and outcome: "ceiling" when both means are within 1 % of the top of the scale, where no difference
        can be seen; else "split better" or "rival better" when the interval leaves out 0; else "tie". The p
        are of one comparison each, not corrected for their number.

    Raises:
        ValueError: what `intervals` raises, and when SPLIT has no rival in any form.
    """
    rows = []
    for model, name, _, kinds in _samples(answer_scores):
        for (form, objective), (_, other) in kinds.items():
            if objective not in COMPARED or (form, "split") not in kinds:
                continue
            _, split = kinds[form, "split"]
            # rounded, so that the order of a sum does not make a difference of 0 positive
            draws = np.round(split - other, 9)
            ends = _interval(draws)
            outcome = "split better" if ends["low"] > 0 else "rival better" if ends["high"] < 0 else "tie"
            if at_ceiling(split[0], other[0], METRICS[name].top):
                outcome = "ceiling"
            row = {"model": model, "family": METRICS[name].family, "form": form, "metric": name}
            row |= {"rival": objective, "split": split[0], "other": other[0], "difference": draws[0]}
            rows.append(row | ends | {"p": _p(draws[1:]), "outcome": outcome})
    if not rows:
        raise ValueError(f"SPLIT and one of {COMPARED} in the same form are not among the scored answers")
    return pd.DataFrame(rows)


def at_ceiling(first: float, second: float, top: float) -> bool:
    """Tell whether two means are both within 1 % of the top of their scale."""
    return min(first, second) >= top * (1 - CEILING)


def _samples(scores: pd.DataFrame) -> Iterator[tuple[str, str, int, _Kinds]]:
    """Yield each model, metric, its number of questions, and its forms and objectives: they share draws."""
    require(scores, *_ANSWER, "score", "concept")
    if scores.empty:
        raise ValueError("the table of answers is empty")
    if scores.duplicated(_ANSWER).any():
        raise ValueError(f"scored twice: {scores.loc[scores.duplicated(_ANSWER), _ANSWER].iloc[0].to_dict()}")
    families = scores["task"].map(task_family)
    for model in scores["model"].unique():
        for name, metric in METRICS.items():
            rows = scores[(scores["model"] == model) & (families == metric.family)]
            if rows.empty:
                continue
            undefined = rows.loc[rows[metric.column].isna(), _ANSWER]
            if len(undefined):
                raise ValueError(f"{metric.column} is NaN in {undefined.iloc[0].to_dict()}")
            asked = pd.MultiIndex.from_frame(rows[["task", "question"]].drop_duplicates()).sort_values()
            weights = _question_weights(asked)
            kinds: _Kinds = {}
            for kind, own in rows.groupby(["form", "objective"], sort=False):
                values = own.pivot(index="seed", columns=["task", "question"], values=metric.column)
                values = values.reindex(columns=asked)
                for seed, gaps in values.isna().sum(axis=1).items():
                    if gaps:
                        raise ValueError(
                            f"{model}, {', '.join(kind)}, seed {seed}: {gaps} of {len(asked)} answers to "
                            f"{metric.family} are missing; means over other questions do not compare"
                        )
                drawn = _with_sample(pair_counts(metric.family, "seeds", len(values), DRAWS)) / len(values)
                means = np.round((weights @ values.to_numpy(dtype=float).T * drawn).sum(axis=1), 9)
                kinds[kind] = len(values), means
            yield str(model), name, len(asked), kinds


def _question_weights(asked: pd.MultiIndex) -> np.ndarray:
    """Weights of each (task, question), (1 + draw, question): tasks are drawn, and questions within them."""
    sizes = asked.get_level_values("task").value_counts(sort=False).sort_index()
    parts = [_with_sample(pair_counts(str(task), "test", n, DRAWS)) / n for task, n in sizes.items()]
    tasks = _with_sample(pair_counts(task_family(str(sizes.index[0])), "tasks", len(sizes), DRAWS))
    return np.concatenate([part * tasks[:, [i]] for i, part in enumerate(parts)], axis=1) / len(sizes)


def _with_sample(counts: np.ndarray) -> np.ndarray:
    """The sample itself, each member once, before the draws of it: (draw, member) to (1 + draw, member)."""
    return np.concatenate([np.ones_like(counts[:1]), counts])


def _interval(means: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(means[1:], INTERVAL)
    return {"low": float(low), "high": float(high)}


def _p(draws: np.ndarray) -> float:
    """Two-sided p of no difference; at least 2 / (draws + 1), and 1 when most draws are exactly 0."""
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(draws) + 1)))
