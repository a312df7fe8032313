"""Comparisons: mean scores with their intervals, and SPLIT against its rivals, by one bootstrap."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from splitkit.curves.bootstrap import pair_counts
from splitkit.studies.frames import CELL, require
from splitkit.tasks import task_family

DRAWS = 5000
INTERVAL = (2.5, 97.5)
"""Percentiles of the intervals."""
CEILING = 0.01
"""Two means that are both this close to the scale's top, as a share of it, cannot be told apart there."""


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


@dataclass(frozen=True)
class Sample:
    """A kind's mean score: the sample's own first, then that of each bootstrap draw, (1 + draw,)."""

    means: Float[np.ndarray, " draw"]
    seeds: int
    n: int

    @property
    def mean(self) -> float:
        return float(self.means[0])


def intervals(answer_scores: pd.DataFrame) -> pd.DataFrame:
    """Mean score of every form and objective with its 95 % interval.

    A bootstrap draws seeds, concepts, and questions within a concept anew; AxBench is the mean over its
    concepts, which are its repetitions: each is a training of its own. Few are drawn from, and where three
    seeds differ much more than their answers explain the intervals are too narrow (without any difference, up
    to a quarter of the paired ones then leave out 0); where they do not differ, too wide.

    Args:
        answer_scores: see `scores.score_base`.

    Returns:
        One row per (model, form, objective, metric): model, family, form, objective, metric (a key of
        `METRICS`), seeds, n (questions), mean, low, high, in the scale of the metric.

    Raises:
        ValueError: for a missing column, no rows, a score that is NaN, an answer scored twice, or a seed that
            was not asked all questions of its model and task family.
    """
    rows = []
    for model, name, kinds in _samples(answer_scores):
        for (form, objective), sample in kinds.items():
            row = {"model": model, "family": METRICS[name].family, "form": form, "objective": objective}
            size = {"metric": name, "seeds": sample.seeds, "n": sample.n}
            rows.append(row | size | {"mean": sample.mean} | _interval(sample.means[1:]))
    return pd.DataFrame(rows)


def differences(answer_scores: pd.DataFrame) -> pd.DataFrame:
    """SPLIT minus each rival of the same form, paired: both have the same draws of `intervals`.

    DiffMean, a closed form, has one seed: there SPLIT's alone are drawn.

    Args:
        answer_scores: see `scores.score_base`.

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
    for model, name, kinds in _samples(answer_scores):
        for (form, objective), other in kinds.items():
            split = kinds.get((form, "split"))
            if split is None or objective not in COMPARED:
                continue
            # rounded, so that the order of a sum does not make a difference of 0 positive
            draws = np.round(split.means - other.means, 9)
            ends = _interval(draws[1:])
            outcome = "split better" if ends["low"] > 0 else "rival better" if ends["high"] < 0 else "tie"
            if at_ceiling(split.mean, other.mean, METRICS[name].top):
                outcome = "ceiling"
            row = {"model": model, "family": METRICS[name].family, "form": form, "metric": name}
            means = {"split": split.mean, "other": other.mean, "difference": float(draws[0])}
            rows.append(row | {"rival": objective} | means | ends | {"p": _p(draws[1:]), "outcome": outcome})
    if not rows:
        raise ValueError(f"SPLIT and one of {COMPARED} in the same form are not among the scored answers")
    return pd.DataFrame(rows)


def at_ceiling(first: float, second: float, top: float) -> bool:
    """True if two means are both within 1 % of the top of their scale."""
    return min(first, second) >= top * (1 - CEILING)


def _samples(scores: pd.DataFrame) -> Iterator[tuple[str, str, dict[tuple[str, str], Sample]]]:
    """By model and metric, a sample for each (form, objective); they share their draws."""
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
            kinds = {}
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
                kinds[cast(tuple[str, str], kind)] = Sample(means, len(values), len(asked))
            yield str(model), name, kinds


def _question_weights(asked: pd.MultiIndex) -> np.ndarray:
    """Weights of each (task, question), (1 + draw, question): tasks are drawn, and questions within them."""
    sizes = asked.get_level_values("task").value_counts(sort=False).sort_index()
    parts = [_with_sample(pair_counts(str(task), "test", n, DRAWS)) / n for task, n in sizes.items()]
    tasks = _with_sample(pair_counts(task_family(str(sizes.index[0])), "tasks", len(sizes), DRAWS))
    return np.concatenate([part * tasks[:, [i]] for i, part in enumerate(parts)], axis=1) / len(sizes)


def _with_sample(counts: np.ndarray) -> np.ndarray:
    """The sample itself, each member once, before the draws of it: (draw, member) to (1 + draw, member)."""
    return np.concatenate([np.ones_like(counts[:1]), counts])


def _interval(draws: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(draws, INTERVAL)
    return {"low": float(low), "high": float(high)}


def _p(draws: np.ndarray) -> float:
    """Two-sided p of no difference; at least 2 / (draws + 1), and 1 when most draws are exactly 0."""
    rarer = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(draws) + 1)))
