"""From numbers, intervals and units to a grade, and the three tables that this fills."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from splitkit.studies.decisions.intervals import NAN, Estimate, excess, trained, unit_name
from splitkit.studies.decisions.rules import EXCESS, GRADES, RULES, Rule

Values = Mapping[str, float]
"""The constants of a rule by name."""
NOT_MEASURED = Estimate()


@dataclass(frozen=True)
class Found:
    """What the tables say at one setting of the constants.

    Attributes:
        ours: the number, with its interval and units.
        grade: of the number.
        reached: all grades within the interval, that of the number among them.
        judged: cells, curves or comparisons off floor and ceiling.
        tests: rows for `verdict_tests`, without their keys.
    """

    ours: Estimate
    grade: str
    reached: frozenset[str]
    judged: int
    tests: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Beside:
    """Controls beside a number: theirs, and by how much the trained ones exceed it."""

    number: Estimate = NOT_MEASURED
    excess: Estimate = NOT_MEASURED

    @property
    def reading(self) -> str:
        """ "more", "no more" or "cannot be told" than the control; "" where there is none."""
        if math.isnan(self.excess.value):
            return ""
        if self.excess.low > 0:
            return "more"
        return "no more" if self.excess.high < EXCESS else "cannot be told"


_NOTHING = Beside()


@dataclass(frozen=True)
class Judged:
    """Verdicts as tables.

    Attributes:
        verdicts: one row per claim, model, task and part. `part` is "claim", or names what stands beside it:
            "usable window", "best with vector and LoRA". verdict, why (of an undecided one), ours, low, high
            (95 %), unit, n_units, off_floor_ceiling (how many could be judged), flips (constants, separated
            by commas); control, excess, excess_low, excess_high, beyond (`Beside.reading`) of directions;
            random_curves, random_curves_excess and so on of random curves; paper, rule.
        grades: one row per constant at the low end, the value and the high end of its range, for each of the
            above: claim, model, task, part, constant, value, ours, verdict (of the number alone).
        tests: one row per test inside a rule: claim, model, task, part, test, number, low, high, p, n_units,
            reading.
    """

    verdicts: pd.DataFrame
    grades: pd.DataFrame
    tests: pd.DataFrame


def graded(rule: Rule, ours: Estimate, judged: int) -> Found:
    """What a number and its interval give by the two bars of a rule alone."""
    ends = {rule.grade(value) for value in (ours.low, ours.value, ours.high) if not math.isnan(value)}
    return Found(ours, rule.grade(ours.value), frozenset(_between(ends)), judged)


def _between(ends: set[str]) -> set[str]:
    """The ends of an interval of grades, and those between."""
    places = [GRADES.index(grade) for grade in ends]
    return set(GRADES[min(places) : max(places) + 1]) if places else set()


def decide(
    claim: str,
    model: str,
    task: str,
    find: Callable[[Values], Found],
    *,
    unit: str,
    paper: str,
    part: str = "claim",
    directions: Beside = _NOTHING,
    random_curves: Beside = _NOTHING,
) -> Judged:
    """One verdict by the rule of a claim: undecided for the three reasons at the head of `rules`."""
    rule = RULES[claim]
    found, keys = find(rule.values), {"claim": claim, "model": model, "task": task, "part": part}
    flips, grades = [], []
    for constant in rule.constants:
        for value in (constant.low, constant.value, constant.high):
            other = find({**rule.values, constant.name: value}) if value != constant.value else found
            ours = other.ours.value
            row = {"constant": constant.name, "value": value, "ours": ours, "verdict": other.grade}
            grades.append(keys | row)
            if other.grade != found.grade and not math.isnan(ours) and constant.name not in flips:
                flips.append(constant.name)
    why = []
    if found.ours.units < rule.fewest:
        why.append(f"{found.ours.units} units off floor and ceiling, of {rule.fewest} at least")
    elif math.isnan(found.ours.value):
        why.append("the number is not known")
    elif math.isnan(found.ours.low):
        why.append("the interval is not known")
    if len(found.reached) > 1:
        why.append("the interval reaches " + ", ".join(g for g in GRADES if g in found.reached))
    if flips:
        why.append("the grade flips with " + ", ".join(flips))
    if found.grade == "undecided" and not why:
        why.append("the tests do not say")
    row = {"verdict": "undecided" if why else found.grade, "why": "; ".join(why)}
    row |= {"ours": found.ours.value, "low": found.ours.low, "high": found.ours.high, "unit": unit}
    row |= {"n_units": found.ours.units, "off_floor_ceiling": found.judged, "flips": ", ".join(flips)}
    for name, prefix, beside in (
        ("control", "", directions),
        ("random_curves", "random_curves_", random_curves),
    ):
        row |= {name: beside.number.value, f"{prefix}excess": beside.excess.value}
        row |= {f"{prefix}excess_low": beside.excess.low, f"{prefix}excess_high": beside.excess.high}
        row |= {f"{prefix}beyond": beside.reading}
    row |= {"paper": paper, "rule": rule.words}
    tests = [{**keys, **_NO_TEST, **test} for test in found.tests]
    return Judged(pd.DataFrame([keys | row]), pd.DataFrame(grades), pd.DataFrame(tests))


def decide_share(
    claim: str,
    model: str,
    task: str,
    rows: pd.DataFrame,
    shares: Callable[[pd.DataFrame, Values], tuple[Estimate, int]],
    *,
    paper: str,
    part: str = "claim",
    drawn: Estimate = NOT_MEASURED,
) -> Judged:
    """One verdict by the share of trained rows that pass, and how many are judged: `shares` gives both.

    Rows of controls stand beside those of vectors, random curves (`drawn`) beside all.
    """
    cells, values = trained(rows), RULES[claim].values
    ours, control = shares(cells, values)[0], shares(rows.drop(cells.index), values)[0]
    vectors = shares(cells[cells["form"] == "vector"], values)[0]
    return decide(
        claim,
        model,
        task,
        lambda values: graded(RULES[claim], *shares(cells, values)),
        unit=unit_name(cells),
        paper=paper,
        part=part,
        directions=Beside(control, excess(vectors, control)),
        random_curves=Beside(drawn, excess(ours, drawn)),
    )


_NO_TEST = {"test": "", "number": NAN, "low": NAN, "high": NAN, "p": NAN, "n_units": 0, "reading": ""}


def tested(name: str, found: Estimate, reading: str, p: float = NAN) -> dict[str, Any]:
    """One row of `Judged.tests`, without its keys."""
    row = {"test": name, "number": found.value, "low": found.low, "high": found.high}
    return row | {"p": p, "n_units": found.units, "reading": reading}


class NothingToJudge(ValueError):
    """A table has no rows that a claim could be judged by."""


def undecided(claim: str, model: str, task: str, why: str) -> Judged:
    """The verdict on a claim that the tables have nothing on, and why they have not."""
    nothing = Found(Estimate(), "undecided", frozenset(), 0)
    found = decide(claim, model, task, lambda values: nothing, unit=RULES[claim].unit, paper=as_text(NAN))
    return Judged(found.verdicts.assign(why=why), found.grades, found.tests)


def together(verdicts: Iterable[Judged]) -> Judged:
    """All rows of several verdicts; NothingToJudge when there is none."""
    many = list(verdicts)
    if not many:
        raise NothingToJudge("no rows to judge: the table has none of the model's trained cells")
    parts = ([getattr(one, name) for one in many] for name in ("verdicts", "grades", "tests"))
    return Judged(*(pd.concat(tables, ignore_index=True) for tables in parts))


def as_text(value: float, decimals: int = 2) -> str:
    """The paper's number as text, "not given" for NaN."""
    return "not given" if math.isnan(value) else f"{value:.{decimals}f}"
