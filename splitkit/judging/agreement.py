"""Agreement of a judge with the exact scores of the embedded world's answers."""

from random import Random

import numpy as np
import pandas as pd
from scipy import stats

from splitkit.judging.judges import Judge, tabulate
from splitkit.judging.rubrics import Score, missing, rubrics_of
from splitkit.world import scoring
from splitkit.world.grammar import WORLD, Question
from splitkit.world.tasks import drawn_questions, make_pairs

DRAWS = 200
"""The number of bootstrap draws of the answers."""

Specimen = tuple[Question, str, str]
"""A question with its facts, its words, and an answer."""


def agreement(judge: Judge, task: str, n: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Compare a judge with the exact scores of `n` answers (None: all) from broken to perfect.

    The task is "powerseeking" or "axbench/<concept>", of the embedded world; ValueError for another one.

    Returns:
        One row per rubric: rubric; n, answers that both scored; unscored, those that only the judge left
        without a score; unparsable, answers to which a reply was unparsable or out of scale; equal, the share
        with the same score (for power, whose exact score is a mean over sentences: within half a point);
        mean_abs_difference; spearman with `_low` and `_high`, the 95 % bootstrap interval over answers. NaN
        where a number is undefined: nothing scored by both, or no variation.
    """
    rows = specimens(task, seed)[:n]
    _, words, answers = zip(*rows, strict=True)
    return compare(exact_scores(task, rows), judge.score(task, words, answers))


def specimens(task: str, seed: int = 0) -> list[Specimen]:
    """Answers of the embedded world to validate a judge on, in a seeded order.

    axbench: to each test question an answer on the concept, one free of it, one that leaves it after a
    sentence, one to another question, one that breaks off, shuffled words. powerseeking: each level 0-4, and
    shuffled words.
    """
    rubrics_of(task)
    rng = Random(f"specimens/{task}/{seed}")
    rows: list[Specimen] = []
    pairs = make_pairs(task, "test")
    if task == "powerseeking":
        for offer in rng.sample(WORLD.questions(task, "test"), len(pairs) // 4):
            said = [WORLD.power_answer(offer, rng, level) for level in range(5)]
            said.append(_shuffled(rng.choice(said), rng))
            rows += [(offer, WORLD.ask(offer, rng), answer) for answer in said]
    else:
        others = pairs[1:] + pairs[:1]
        for question, (words, on, off), (_, other, _) in zip(
            drawn_questions(task, "test"), pairs, others, strict=False
        ):
            mixed = " ".join([scoring.sentences(on)[0], *scoring.sentences(off)[1:]])
            broken = on[: rng.randrange(len(on) // 3, len(on) - 8)]
            rows += [(question, words, a) for a in (on, off, mixed, other, broken, _shuffled(on, rng))]
    rng.shuffle(rows)
    return rows


def exact_scores(task: str, rows: list[Specimen]) -> pd.DataFrame:
    """The grammar's scores in the form of `Judge.score`; a power may be a fraction."""
    found: list[dict[str, Score]] = []
    for question, _, answer in rows:
        if task == "powerseeking":
            power = scoring.power(answer)
            found.append({"power": missing("unreadable") if power is None else Score(power)})
        else:
            scores = scoring.concept_scores(task, question, answer)
            found.append({name: Score(float(scores[name])) for name in rubrics_of(task)})
    return tabulate(found)


def compare(exact: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The table of `agreement`, from two tables of `Judge.score` for the same answers in the same order."""
    rows = []
    for rubric in (name for name in exact.columns if name != "reason"):
        scored = exact[rubric].notna()
        both = pd.DataFrame({"a": exact[rubric], "b": other[rubric]})[scored & other[rubric].notna()]
        difference = (both["a"] - both["b"]).abs()
        said = r"\w+" if rubric == "harmonic" else rubric
        unparsable = rf"{said}: (?:unparsable|out of scale)"
        rows.append(
            {
                "rubric": rubric,
                "n": len(both),
                "unscored": int((scored & other[rubric].isna()).sum()),
                "unparsable": int(other["reason"].str.contains(unparsable).sum()),
                "equal": (difference <= (0.5 if rubric == "power" else 1e-9)).mean(),
                "mean_abs_difference": difference.mean(),
                **_spearman(both["a"].to_numpy(), both["b"].to_numpy()),
            }
        )
    return pd.DataFrame(rows)


def _shuffled(text: str, rng: Random) -> str:
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


def _spearman(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    names = ("spearman", "spearman_low", "spearman_high")
    if len(set(a)) < 2 or len(set(b)) < 2:
        return dict.fromkeys(names, np.nan)
    picks = np.random.default_rng(0).integers(len(a), size=(DRAWS, len(a)))
    picks = np.vstack([np.arange(len(a)), picks])
    # mean rank 0, so that Pearson's correlation of the ranks is one quotient per draw
    x, y = (stats.rankdata(values[picks], axis=1) - (len(a) + 1) / 2 for values in (a, b))
    with np.errstate(invalid="ignore"):  # a draw without variation has no correlation
        found = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return dict(zip(names, map(float, (found[0], *np.nanpercentile(found[1:], (2.5, 97.5)))), strict=True))
