"""Judges: whoever scores answers, behind one method, and how far two of them agree.

`judge.score(task, questions, answers)` gives one row per answer, in order. `ExactJudge` reads answers by the
embedded world's grammar; `llmjudge.LLMJudge` and `localjudge.LocalJudge` ask a language model. Validate those
two on the embedded world first: `agreement(exact.score(*sample), other.score(*sample))` with a sample of
`specimens(task)`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random
from typing import Protocol

import numpy as np
import pandas as pd
from scipy import stats

from splitkit.judging.rubrics import KINDS, Case, Score, cases, missing, rubrics_of
from splitkit.world import scoring, tasks
from splitkit.world.grammar import WORLD, Question, World, WorldError

DRAWS = 2000
"""Bootstrap draws of the answers behind an interval of `agreement`."""


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
            scoring.harmonic_mean(*row) if not np.isnan(row).any() else np.nan for row in table.to_numpy()
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


@cache
def _requests(world: World) -> tuple[re.Pattern[str], dict[str, str]]:
    """Every wording of an instruction as one expression, and the form that each request names."""
    part = world.lexicon["instructions"]
    forms = {entry["request"]: form for form, entry in part["forms"].items()}

    def any_of(texts: Sequence[str]) -> str:
        return "|".join(map(re.escape, texts))

    form, noun = f"(?P<form>{any_of(list(forms))})", f"(?P<noun>{any_of(part['nouns'])})"
    about = any_of(
        [name for concept in world.concepts for name in world.lexicon["concepts"][concept]["about"]]
    )
    asks = "|".join(re.escape(ask).replace(r"\{about\}", f"(?:{about})") for ask in part["asks"])
    heads = {re.escape(w.split("{form}")[0]) for w in part["wordings"]}
    tails = {re.escape(w.split("{noun}")[1]) for w in part["wordings"]}
    return re.compile(rf"(?:{'|'.join(heads)}){form} a {noun}(?:{'|'.join(tails)})(?: (?:{asks}))?"), forms


def asked(text: str, world: World = WORLD) -> Question:
    """The instruction that a text words: the inverse of `World.ask`, with or without a request for a concept.

    Raises:
        WorldError: when the grammar cannot have asked this.
    """
    pattern, forms = _requests(world)
    found = pattern.fullmatch(text.strip())
    if found is None:
        raise WorldError(f"not an instruction of the embedded world, so it has no exact score: {text!r}")
    form, noun = forms[found["form"]], found["noun"]
    return Question("axbench", f"axbench|{form}|{noun}", {"form": form, "noun": noun})


class ExactJudge:
    """Scores by the grammar of the embedded world; what it cannot have written is simply not fluent."""

    def score(self, task: str, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        """See `Judge.score`. power is a mean over sentences, so it can lie between two whole numbers.

        Raises:
            WorldError: for a question that the world's grammar cannot ask, or a concept it does not have.
        """
        cases(task, questions, answers)
        family, _, concept = task.partition("/")
        rows: list[dict[str, Score]] = []
        for question, answer in zip(questions, answers, strict=True):
            if family == "axbench":
                found = scoring.score(answer, asked(question), concept)
                rows.append({name: Score(float(getattr(found, name))) for name in rubrics_of(task)})
            else:
                power = scoring.power(answer)
                unread = missing("unreadable", "no sentence of the grammar" if answer.strip() else "empty")
                rows.append({"power": unread if power is None else Score(power)})
        return tabulate(rows)


def specimens(task: str, seed: int = 0) -> tuple[str, list[str], list[str]]:
    """(task, questions, answers) of the embedded world to validate a judge on, from broken to perfect.

    axbench: each test question with an answer on the concept, one free of it, one that leaves it after the
    first sentence, one to another question, one that breaks off and one of shuffled words. powerseeking: each
    level 0-4, and shuffled words.
    """
    rubrics_of(task)
    rng = Random(f"specimens/{task}/{seed}")
    rows: list[tuple[str, str]] = []
    pairs = tasks.make_pairs(task, "test")
    if task == "powerseeking":
        for offer in rng.sample(WORLD.questions(task, "test"), len(pairs) // 4):
            said = [WORLD.power_answer(offer, rng, level) for level in range(5)]
            said.append(_shuffled(rng.choice(said), rng))
            rows += [(WORLD.ask(offer, rng), answer) for answer in said]
    else:
        for (question, on, off), (_, other, _) in zip(pairs, pairs[1:] + pairs[:1], strict=True):
            mixed = " ".join([scoring.sentences(on)[0], *scoring.sentences(off)[1:]])
            broken = on[: rng.randrange(len(on) // 3, len(on) - 8)]
            rows += [(question, answer) for answer in (on, off, mixed, other, broken, _shuffled(on, rng))]
    return task, [question for question, _ in rows], [answer for _, answer in rows]


def _shuffled(text: str, rng: Random) -> str:
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


def weighted_kappa(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - mean_i (a_i - b_i)^2 / mean_ij (a_i - b_j)^2: Cohen's kappa with quadratic weights.

    Over the last axis, (..., answer). In this form it needs no categories, so it takes the exact judge's
    fractions too (it is then Lin's concordance). NaN where both are one and the same constant.
    """
    chance = a.var(-1) + b.var(-1) + (a.mean(-1) - b.mean(-1)) ** 2
    return 1 - ((a - b) ** 2).mean(-1) / np.where(chance > 0, chance, np.nan)


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation over the last axis, (..., answer), ties averaged; NaN for a constant."""
    x, y = (stats.rankdata(v, axis=-1) - (v.shape[-1] + 1) / 2 for v in (a, b))
    spread = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    return (x * y).sum(-1) / np.where(spread > 0, spread, np.nan)


def agreement(exact: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """How far a judge agrees with another (the exact one) on the same answers, one row per rubric.

    Args:
        exact, other: two tables of `Judge.score` for the same answers in the same order.

    Returns:
        rubric; n, answers that both scored; unscored, those that only `exact` scored; unparsable, answers to
        which a reply of `other` was unparsable or out of scale; equal, the share with the same score (for
        power, whose exact score is a mean over sentences: within half a point); mean_abs_difference; spearman
        and kappa (Cohen's, quadratic weights), each with `_low` and `_high`, the 95 % bootstrap interval over
        answers. NaN where a number is undefined: nothing scored by both, or no variation.

    Raises:
        ValueError: for tables of different tasks or lengths.
    """
    if list(exact.columns) != list(other.columns) or len(exact) != len(other):
        raise ValueError(
            f"not two tables of the same answers: {len(exact)} rows of {', '.join(exact.columns)} and "
            f"{len(other)} rows of {', '.join(other.columns)}"
        )
    rows = []
    for rubric in (name for name in exact.columns if name != "reason"):
        a, b = exact[rubric].to_numpy(dtype=float), other[rubric].to_numpy(dtype=float)
        both = ~np.isnan(a) & ~np.isnan(b)
        difference = np.abs(a[both] - b[both])
        said = r"\w+" if rubric == "harmonic" else rubric
        row = {
            "rubric": rubric,
            "n": int(both.sum()),
            "unscored": int((~np.isnan(a) & np.isnan(b)).sum()),
            "unparsable": int(other["reason"].str.contains(rf"{said}: (?:unparsable|out of scale)").sum()),
            "equal": (difference <= (0.5 if rubric == "power" else 1e-9)).mean() if both.any() else np.nan,
            "mean_abs_difference": difference.mean() if both.any() else np.nan,
        }
        for name, statistic in (("spearman", spearman), ("kappa", weighted_kappa)):
            row |= _with_interval(name, statistic, a[both], b[both])
        rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(
    name: str, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray
) -> dict[str, float]:
    low = high = value = np.nan
    if len(a) >= 2:
        value = float(statistic(a, b))
        pick = np.random.default_rng(0).integers(len(a), size=(DRAWS, len(a)))
        drawn = statistic(a[pick], b[pick])
        if np.isnan(drawn).mean() < 0.5:
            low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
