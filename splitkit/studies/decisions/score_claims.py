"""C10 to C12: the scores of steered answers, SPLIT beside its rivals, and DPO beside the best.

Their table of scores has one row per unit: model, metric (a name in the metrics), form, objective, unit (the
training seed, or the concept), score (the mean over the test questions of that run, or over questions and
seeds of that concept). The unsteered model has form and objective "vanilla". The metrics, `rules.METRICS` or
others with the same fields, say each metric's unit, scale and smallest effect: so these rules work for
scores by likelihood and without a judge.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from splitkit import paper
from splitkit.runs.profiles import CONTROLS
from splitkit.studies.decisions.grading import (
    NOT_MEASURED,
    Beside,
    Found,
    Judged,
    Values,
    as_text,
    decide,
    tested,
    together,
)
from splitkit.studies.decisions.intervals import (
    NAN,
    Estimate,
    difference,
    drawn,
    ends,
    excess,
    holm,
    mean,
    share,
)
from splitkit.studies.decisions.rules import (
    FEWEST_TESTED,
    FEWEST_UNITS,
    FORMS,
    METRICS,
    RIVALS,
    RULES,
    Metric,
)
from splitkit.studies.frames import by_model, family_column, require

ACCURACY = "psychopathy_acc_pct"
VANILLA = "vanilla"
BEST = ("sft", "reps", "split")
"""Objectives whose best gain DPO's is measured by."""
_Metrics = Mapping[str, Metric]


def unit_scores(answer_scores: pd.DataFrame, metrics: _Metrics = METRICS) -> pd.DataFrame:
    """The table of scores from scored answers: model, task, form, objective, seed, and the metrics' columns.

    ValueError for a missing column. A metric whose family was not asked has no rows.
    """
    columns = {metric.column for metric in metrics.values()}
    require(answer_scores, "model", "task", "form", "objective", "seed", *sorted(columns))
    families, parts = family_column(answer_scores), []
    for name, metric in metrics.items():
        rows = answer_scores[families == metric.family]
        unit = rows["task"] if metric.unit == "concept" else rows["seed"].astype(str)
        keys = ["model", "form", "objective", "unit"]
        scores = rows.assign(unit=unit).groupby(keys, sort=False)[metric.column].mean()
        parts.append(scores.rename("score").reset_index().assign(metric=name))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class _Side:
    """Scores of one form and objective by unit, so oriented that more is better."""

    scores: "pd.Series[float]"
    metric: Metric

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    def at_ceiling(self, ceiling: float) -> bool:
        scale = abs(self.metric.best - self.metric.worst)
        return self.mean >= _orientation(self.metric) * self.metric.best - ceiling * scale


def _orientation(metric: Metric) -> int:
    return 1 if metric.best > metric.worst else -1


def _sides(scores: pd.DataFrame, metrics: _Metrics) -> dict[tuple[str, str, str], _Side]:
    """By metric, form and objective. ValueError for a score that is NaN or a unit with two."""
    key = ["metric", "form", "objective", "unit"]
    bad = scores[key][scores["score"].isna() | scores.duplicated(key)]
    if len(bad):
        raise ValueError(f"a score is NaN, or is there twice: {bad.iloc[0].to_dict()}")
    return {
        (str(name), str(form), str(objective)): _Side(
            _orientation(metrics[str(name)]) * rows.set_index("unit")["score"].astype(float),
            metrics[str(name)],
        )
        for (name, form, objective), rows in scores.groupby(["metric", "form", "objective"], sort=False)
        if name in metrics
    }


def decide_c10(scores: pd.DataFrame, metrics: _Metrics = METRICS) -> Judged:
    """Two rows per model: SPLIT against its rivals, and its vector and LoRA against its local weight.

    A comparison that was not run, or has fewer than FEWEST_TESTED units on a side, cannot be told.
    """
    _require_scores(scores)
    parts = {
        "claim": [
            (name, (form, "split"), (form, rival))
            for name in metrics
            for form, rivals in RIVALS.items()
            for rival in rivals
        ],
        "best with vector and LoRA": [
            (name, (form, "split"), ("local_weight", "split"))
            for name in metrics
            for form in ("vector", "lora")
        ],
    }

    def judged(model: str, rows: pd.DataFrame) -> Iterator[Judged]:
        sides = _sides(rows, metrics)
        for part, wanted in parts.items():
            yield decide(
                "C10",
                model,
                "all",
                partial(_counted, [_comparison(sides, pair) for pair in wanted]),
                unit="concept of AxBench; training run of the others",
                paper=_printed_won(model, wanted),
                part=part,
            )

    return together(one for model, _, rows in by_model(scores) for one in judged(model, rows))


_Pair = tuple[str, tuple[str, str], tuple[str, str]]
"""A metric, and form and objective of the two sides."""


@dataclass(frozen=True)
class _Comparison:
    """One side less another, and what makes it no comparison ("" where nothing does)."""

    name: str
    label: str
    estimate: Estimate = NOT_MEASURED
    p: float = NAN
    sides: tuple[_Side, ...] = ()
    unsteered: float = NAN

    def set_apart(self, values: Values) -> str:
        """Why it is not tested: not measured, at the ceiling, at the floor, too few units; else ""."""
        if not self.sides:
            return "not measured"
        if min(side.at_ceiling(values["ceiling"]) for side in self.sides):
            return "ceiling"
        if max(side.mean for side in self.sides) - self.unsteered < self.smallest(values):
            return "floor"
        return "too few units" if self.estimate.units < FEWEST_TESTED else ""

    def smallest(self, values: Values) -> float:
        return values["effect"] * self.sides[0].metric.smallest


def _comparison(sides: dict[tuple[str, str, str], _Side], wanted: _Pair) -> _Comparison:
    name, one, other = wanted
    label = f"{name}: {' '.join(one)} less {' '.join(other)}"
    ours, theirs, unsteered = (sides.get((name, *kind)) for kind in (one, other, (VANILLA, VANILLA)))
    if ours is None or theirs is None or unsteered is None:
        return _Comparison(name, label)
    return _Comparison(name, label, *_difference(ours, theirs), (ours, theirs), unsteered.mean)


def _counted(comparisons: list[_Comparison], values: Values) -> Found:
    """Counts of comparisons won, lost, equal and untold; p is Holm's, over those of one metric."""
    apart = [one.set_apart(values) for one in comparisons]
    corrected = np.full(len(comparisons), NAN)
    for name in {one.name for one in comparisons}:
        own = [i for i, one in enumerate(comparisons) if one.name == name and not apart[i]]
        corrected[own] = holm([comparisons[i].p for i in own])
    tests, count = [], dict.fromkeys(("won", "lost", "equal", "untold"), 0)
    for one, reading, p in zip(comparisons, apart, corrected.tolist(), strict=True):
        reading = reading or _outcome(one.estimate, p, one.smallest(values), values["alpha"])
        tests.append(tested(one.label, one.estimate, reading, p))
        if reading not in ("ceiling", "floor"):
            count[reading if reading in count else "untold"] += 1
    n, won, untold = sum(count.values()), count["won"], count["untold"]
    if not n:
        return Found(Estimate(), "undecided", frozenset(), 0, tests)
    grades = frozenset(_c10_grade(won + more, count["lost"] + untold - more, n) for more in (0, untold))
    grade = next(iter(grades)) if len(grades) == 1 else "undecided"
    units = max(test["n_units"] for test in tests)
    return Found(Estimate(won / n, won / n, (won + untold) / n, units), grade, grades, n, tests)


def _c10_grade(won: int, lost: int, n: int) -> str:
    grade = RULES["C10"].grade(won / n)
    return "does not hold" if grade == "in part" and won <= lost else grade


def _outcome(estimate: Estimate, p: float, smallest: float, alpha: float) -> str:
    if p <= alpha and abs(estimate.value) >= smallest:
        return "won" if estimate.value > 0 else "lost"
    return "equal" if -smallest < estimate.low and estimate.high < smallest else "untold"


def _difference(ours: _Side, theirs: _Side) -> tuple[Estimate, float]:
    """The mean difference: over the concepts that both have, else between the runs of both."""
    if ours.metric.unit == "concept":
        both = pd.concat([ours.scores, theirs.scores], axis=1, join="inner").to_numpy()
        return difference(both[:, 0], both[:, 1], paired=True)
    return difference(ours.scores.to_numpy(), theirs.scores.to_numpy(), paired=False)


def decide_c11(scores: pd.DataFrame, metric: Metric = METRICS[ACCURACY]) -> Judged:
    """One verdict per model: k of n runs of SPLIT that learn, and how far those do.

    A run that learns is above its accuracy for reasons of its own, so that runs are counted. Interval and
    grade take the share and the mean of those that learn at both ends.
    """
    _require_scores(scores)
    rule = RULES["C11"]

    def judged(model: str, rows: pd.DataFrame) -> Judged:
        sides = _sides(rows, {metric.name: metric})
        unsteered = sides.get((metric.name, VANILLA, VANILLA))

        def find(values: Values) -> Found:
            forms = [f for f in FORMS if _any_learns(sides, f, values["learns"])]
            runs = _runs(sides, [(form, "split") for form in forms])
            learned = runs >= values["learns"]
            ours, level = share(learned, _each(runs)), mean(runs[learned].to_numpy())
            start = unsteered.mean if unsteered else NAN
            tests = [
                tested(f"SPLIT, {form}: runs that learn", *_of_form(sides, form, values)) for form in FORMS
            ]
            tests += [tested("mean accuracy of the runs that learn", level, "")]
            tests += [tested("unsteered accuracy", Estimate(start, NAN, NAN, 1), "")]
            if np.isnan(start) or runs.empty:
                return Found(Estimate(), "undecided", frozenset(), len(runs), tests)

            def grade(learns: float, accuracy: float) -> str:
                word = rule.grade(learns)
                far = accuracy >= values["level"] and abs(start - 50) <= values["chance"]
                return "in part" if word == "holds" and not far else word

            low, high = (level.value if np.isnan(end) else end for end in (level.low, level.high))
            middle = grade(ours.value, level.value)
            return Found(
                ours,
                middle,
                frozenset({grade(ours.low, low), middle, grade(ours.high, high)}),
                len(runs),
                tests,
            )

        vectors, control = (_share_that_learns(sides, of, rule.values) for of in (BEST, CONTROLS))
        printed = paper.table(3).query("objective == 'split'")
        theirs = printed.loc[printed["model"] == paper.counterpart(model, model), ACCURACY].min()
        return decide(
            "C11",
            model,
            "psychopathy",
            find,
            unit="training run",
            paper=as_text(theirs, 0),
            directions=Beside(control, excess(vectors, control)),
        )

    measured = scores[scores["metric"] == metric.name]
    return together(judged(model, rows) for model, _, rows in by_model(measured))


def _runs(sides: dict[tuple[str, str, str], _Side], kinds: list[tuple[str, str]]) -> "pd.Series[float]":
    found = [side.scores for (_, *kind), side in sides.items() if tuple(kind) in kinds]
    return pd.concat(found, ignore_index=True) if found else pd.Series(dtype=float)


def _each(runs: pd.Series) -> pd.Series:
    return pd.Series(range(len(runs)), runs.index)


def _any_learns(sides: dict[tuple[str, str, str], _Side], form: str, learns: float) -> bool:
    own = (side for (_, kind, objective), side in sides.items() if kind == form and objective not in CONTROLS)
    return any((side.scores >= learns).any() for side in own)


def _of_form(sides: dict[tuple[str, str, str], _Side], form: str, values: Values) -> tuple[Estimate, str]:
    runs = _runs(sides, [(form, "split")])
    reading = "judged" if _any_learns(sides, form, values["learns"]) else "no objective learns"
    return share(runs >= values["learns"], _each(runs)), reading


def _share_that_learns(
    sides: dict[tuple[str, str, str], _Side], objectives: tuple[str, ...], values: Values
) -> Estimate:
    runs = _runs(sides, [("vector", objective) for objective in objectives])
    return share(runs >= values["learns"], _each(runs))


def decide_c12(scores: pd.DataFrame, metrics: _Metrics = METRICS) -> Judged:
    """One verdict per model: DPO's gain over the best gain of SFT, RePS and SPLIT, by form and open metric.

    A pair that was not run, or has fewer than FEWEST_UNITS units in any of its means, cannot be told.
    """
    _require_scores(scores)
    rule, names = RULES["C12"], [name for name, metric in metrics.items() if metric.open_ended]

    def judged(model: str, rows: pd.DataFrame) -> Judged:
        sides = _sides(rows, metrics)
        ratios = {(name, form): _ratio(sides, name, form) for name in names for form in FORMS}

        def find(values: Values) -> Found:
            tests, count = [], dict.fromkeys(("barely", "moved", "untold"), 0)
            for (name, form), (found, best) in ratios.items():
                small = best < values["moved"] * abs(metrics[name].best - metrics[name].worst)
                reading = "no gain to compare with" if small else _moved(found, values["barely"])
                tests.append(tested(f"{name}: DPO's share of the best gain, {form}", found, reading))
                if not small:
                    count[reading] += 1
            n, barely, untold = sum(count.values()), count["barely"], count["untold"]
            units = max(test["n_units"] for test in tests) if n else 0
            if n == untold:
                return Found(Estimate(units=units), "undecided", frozenset(), n, tests)
            grades = frozenset({rule.grade(barely / n), rule.grade((barely + untold) / n)})
            grade = next(iter(grades)) if len(grades) == 1 else "undecided"
            return Found(
                Estimate(barely / n, barely / n, (barely + untold) / n, units), grade, grades, n, tests
            )

        return decide(
            "C12",
            model,
            "all",
            find,
            unit="concept of AxBench; training run of the others",
            paper=_printed_unmoved(model),
        )

    return together(judged(model, rows) for model, _, rows in by_model(scores))


def _moved(found: Estimate, barely: float) -> str:
    if found.units < FEWEST_UNITS or np.isnan(found.low):
        return "untold"
    return "barely" if found.high <= barely else "moved" if found.low > barely else "untold"


def _ratio(sides: dict[tuple[str, str, str], _Side], name: str, form: str) -> tuple[Estimate, float]:
    """|gain of DPO| / best gain with its bootstrap over units, and the best gain; NaN where one lacks."""
    unsteered = sides.get((name, VANILLA, VANILLA))
    every = [sides.get((name, form, objective)) for objective in ("dpo", *BEST)]
    known = [side for side in every if side is not None]
    if unsteered is None or len(known) < len(every):
        return Estimate(), NAN
    if unsteered.metric.unit == "concept":
        both = pd.concat([side.scores for side in (unsteered, *known)], axis=1, join="inner").to_numpy()
        gains = [both[:, i] - both[:, 0] for i in range(1, both.shape[1])]
        seeds = [0] * len(gains)
    else:
        gains = [side.scores.to_numpy() - unsteered.mean for side in known]
        # runs of different objectives have nothing to do with each other: each side is drawn by itself
        seeds = list(range(len(gains)))
    units = min(len(gain) for gain in gains)
    if not units:
        return Estimate(), NAN
    means = [
        np.append(gain.mean(), gain[drawn(len(gain), seed)].mean(axis=1))
        for gain, seed in zip(gains, seeds, strict=True)
    ]
    best = np.max(means[1:], axis=0)
    ratios = np.where(best > 0, np.abs(means[0]) / np.where(best > 0, best, 1.0), np.inf)
    return Estimate(float(ratios[0]), *ends(ratios[1:]), units), float(best[0])


def _require_scores(scores: pd.DataFrame) -> None:
    require(scores, "model", "metric", "form", "objective", "unit", "score")


def _printed_means(model: str) -> pd.DataFrame:
    """The paper's means (Tables 3 and 4) for a model's counterpart: form and objective, then metrics."""
    both = pd.concat([paper.table(3), paper.table(4).assign(objective="dpo")])
    return both[both["model"] == paper.counterpart(model, model)].set_index(["form", "objective"])


def _printed_won(model: str, wanted: list[_Pair]) -> str:
    """Share of the comparisons in which the paper's first mean is above the second, ceilings left out."""
    means = _printed_means(model)
    known = [
        (means.loc[one, name], means.loc[other, name], METRICS[name].best)
        for name, one, other in wanted
        if name in METRICS and {one, other} <= set(means.index)
    ]
    ceiling = 1 - RULES["C10"].values["ceiling"]
    won = [ours > theirs for ours, theirs, top in known if min(ours, theirs) < ceiling * top]
    return as_text(float(np.mean(won)) if won else NAN)


def _printed_unmoved(model: str) -> str:
    """Share of the (form, metric) pairs in which the paper's DPO gains at most `barely` of the best gain."""
    means, still = _printed_means(model), []
    for name in (name for name, metric in METRICS.items() if metric.open_ended):
        for form in FORMS:
            if (form, "dpo") in means.index:
                gains = means.loc[form][name] - means.loc[(VANILLA, VANILLA), name]
                still.append(abs(gains["dpo"]) <= RULES["C12"].values["barely"] * max(gains[list(BEST)]))
    return as_text(float(np.mean(still)) if still else NAN)
