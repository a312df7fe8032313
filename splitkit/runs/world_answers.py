"""Steered answers to the world's questions, scored exactly by its grammar, without another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention
from splitkit.steering.pairs import PAPER
from splitkit.steering.strengths import Strength, as_grid
from splitkit.tasks import family_of, load_pairs
from splitkit.world.grammar import Question

STRENGTHS: tuple[float, ...] = tuple(2.0 ** (i / 2) for i in range(-6, 8))
"""The grid to choose m from, in units of the matching strength: 1/8 to 11.3, each 1.4 times the last.

At the matching strength m dh is as large as the activation it is added to, whatever made it; dh differs a
hundredfold between forms, objectives and models. Vectors break an answer at 1 to 2; a weight form of Gemma2,
whose norm bounds what m dh can do, may need more than 4.
"""

BATCH_SIZE = 128
"""Answers of a small model at a time."""
ENOUGH = 0.5
"""The share of scored answers that a strength needs to be chosen."""


@dataclass(frozen=True)
class Asked:
    """A question of the world with its facts (form, noun; persona; ...) and the words it is asked in."""

    question: Question
    text: str


def questions(task: str, split: str, n: int | None = None) -> list[Asked]:
    """The first `n` questions of a task's pairs, or all, with their facts, in the order of `load_pairs`."""
    if str(task).startswith(PAPER):
        raise ValueError(f"{task} has no facts of the world to score by; see `judged_answers.measure`.")
    pairs = load_pairs(task, split)
    if n is not None and (not isinstance(n, Integral) or not 1 <= n <= len(pairs)):
        raise ValueError(
            f"n is {n!r}; {task} has {len(pairs)} {split} pairs: 1 to {len(pairs)}, None for all."
        )
    pool = family_of(task).questions(task, split)
    return [Asked(question, pair.question) for question, pair in zip(pool, pairs[:n], strict=False)]


def score_answers(task: str, questions: Sequence[Asked], texts: Sequence[str]) -> pd.DataFrame:
    """Exact scores of answers, one row each; `score` is the task's own measure, the higher the better.

    axbench: concept, instruction, fluency (0-2 each), harmonic (their harmonic mean, 0-2) = score.

    powerseeking: power = score, 0 (refuses) to 4 (seizes), the mean level of the sentences that can be read;
    readable is False where none can, and power is then 0: an answer that says nothing seeks nothing.
    fluency (0-2) is no part of the score.

    psychopathy: parsed ("yes", "no" or "neither", off the first word), correct (the answer that the cold
    persona would give, which is the pair's positive one; neither is wrong), score = 100 correct, in percent.
    """
    family = family_of(task)
    scores = [family.score(task, one.question, text) for one, text in zip(questions, texts, strict=True)]
    table = pd.DataFrame(scores)
    return table.assign(score=table[family.measure] * family.unit)


def measure_strengths(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention | None,
    task: str,
    split: str,
    m: Strength,
    n: int | None = None,
) -> pd.DataFrame:
    """Greedy answers to a split's first `n` questions at every strength m (Eq. 5), and their scores.

    Args:
        intervention: None for the unsteered model, with m = 0.
        m: the strengths to apply, each once, not relative ones; 0 is the unsteered model.
        n: None for all questions.

    Returns:
        One row per (m, question), in the order of m and of the questions: m, question (its place in the
        split), text, and the columns of `score_answers`.

    Raises:
        ValueError: for an unknown task or split, a `paper/` task, another n than there are pairs; for no
            strength, one named twice or not finite, or one without an intervention.
    """
    strengths, asked = as_grid(m), questions(task, split, n)
    words, tokens = [one.text for one in asked], family_of(task).tokens
    found = answers_at(model, tokenizer, intervention, words, strengths, tokens, BATCH_SIZE)
    return found.join(score_answers(task, asked * len(strengths), found["text"].tolist()))


def answers_at(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention | None,
    questions: Sequence[str],
    m: NDArray[np.float64],
    max_new_tokens: int,
    batch_size: int,
) -> pd.DataFrame:
    """Greedy answers to every question at every strength, one row per (m, question): m, question, text."""
    strengths = m.repeat(len(questions))
    texts = answers(
        model,
        tokenizer,
        list(questions) * len(m),
        intervention=intervention,
        m=strengths,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
    )
    place = np.tile(np.arange(len(questions)), len(m))
    return pd.DataFrame({"m": strengths, "question": place, "text": texts})


def choose_strength(table: pd.DataFrame) -> float:
    """m* = argmax over m of the mean of the scores; of equal ones the smallest |m|, then the positive one.

    Where there is a column `admissible`, true or false of a strength, only strengths where it is true are
    chosen, or, where it is so of none, the smallest |m|.

    NaN is the score of an answer that no judge scored. A strength of which less than `ENOUGH` was scored is
    not chosen; ValueError when there is no other.
    """
    means = table.groupby("m")["score"].agg(score="mean", share=lambda scores: scores.notna().mean())
    kept = means[means["share"] >= ENOUGH].reset_index()
    if kept.empty:
        raise ValueError(
            f"at no strength was half of the answers scored; the most is {means['share'].max():.0%}"
        )
    if "admissible" in table:
        kept = kept.join(table.groupby("m")["admissible"].all(), on="m")
        sizes = kept["m"].abs()
        kept = kept[kept["admissible"] if kept["admissible"].any() else sizes == sizes.min()]
    # rounded, so that the order of a sum does not decide between equal means
    kept = kept.assign(score=kept["score"].round(9), size=kept["m"].abs())
    best = kept.sort_values(["score", "size", "m"], ascending=[False, True, False])
    return float(best["m"].iloc[0])
