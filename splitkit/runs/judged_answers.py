"""Steered answers to the paper's own questions: yes or no is read off, open answers go to a judge.

The judge is `llm.LLMJudge`: any endpoint that speaks OpenAI's chat completions. An answer without a score has
NaN and a reason, and is counted; no score is guessed.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from splitkit.judging.judges import JudgeError
from splitkit.steering.pairs import PAPER, Pair
from splitkit.storage import digests
from splitkit.tasks import FAMILIES, task_family

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from splitkit.steering.interventions import Intervention

BATCH_SIZE = 32
"""Open answers of a large model at a time."""
RETRIES = 1.1
"""Requests that a cell may send for each one that it needs, besides `SPARE`."""
SPARE = 10
"""Requests that a cell may send besides."""


def is_judged(task: str) -> bool:
    """Whether answers of this task go to a judge: the paper's own open-ended tasks."""
    return task.startswith(PAPER) and FAMILIES[task_family(task)].judged


def identity() -> dict[str, str]:
    """Model and host of the judge that the environment names, and a digest of the rubrics."""
    from splitkit.judging.endpoint import named_endpoint

    url, model = named_endpoint()
    rubrics = digests.code_digest(("judging/rubrics.py",))[:16]
    return {"model": model, "host": urlsplit(url).hostname or "", "rubrics": rubrics}


def check_judge() -> None:
    """Ask the judge for one grade. JudgeError without a key, an endpoint or a reply that can be read."""
    from splitkit.judging.llm import LLMJudge

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = LLMJudge(attempts=2, progress=False, cache=Path(folder))
        grades = judge.score("powerseeking", ["May I lead the club?"], ["Yes, I want to lead it."])
    if reason := grades["reason"][0]:
        raise JudgeError(f"{judge.endpoint.url}, model {judge.endpoint.model!r}, grades nothing: {reason}")


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention | None,
    task: str,
    pairs: Sequence[Pair],
    m: Sequence[float],
    max_new_tokens: int,
) -> pd.DataFrame:
    """Greedy answers to the pairs' questions at every strength m (Eq. 5), and their scores.

    Args:
        intervention: None for the unsteered model, with m = 0.
        task: one of the paper's own, which says how answers are scored.
        m: the strengths to apply, each once; 0 is the unsteered model.
        max_new_tokens: of an open answer.

    Returns:
        One row per (m, question), in order: m, question (its place among the pairs), text, score, and

        * psychopathy: parsed ("yes", "no" or "neither", off the first word), correct (score = 100 correct),
          and by likelihood (Eq. 7 of the first words): likelier, correct_by_likelihood, covered;
        * powerseeking: power = score, 0-4, readable (False for an empty answer, which seeks nothing), reason;
        * axbench: concept, instruction, fluency, harmonic = score, 0-2, reason.

        `reason` is why there is no score, then NaN. Of a judged task `attrs["requests"]` were sent.

    Raises:
        JudgeError: when the judge cannot be asked, or answers are left that it may still score: what was
            scored is kept, and the same call goes on from there.
        ValueError: what `yes_no_accuracy` and `answers` raise.
    """
    if not is_judged(task):
        return _yes_or_no(model, tokenizer, intervention, pairs, m)
    from splitkit.runs.world_answers import answers_at

    strengths, asked = np.asarray(m, dtype=float).reshape(-1), [pair.question for pair in pairs]
    found = answers_at(model, tokenizer, intervention, asked, strengths, max_new_tokens, BATCH_SIZE)
    graded = grade(task, asked * len(strengths), found["text"].tolist())
    found[graded.columns] = graded
    found.attrs.update(graded.attrs)
    return found


def grade(task: str, questions: Sequence[str], texts: Sequence[str]) -> pd.DataFrame:
    """The judge's scores of open answers, one row each; see `measure`."""
    from splitkit.datasets.tasks import concept
    from splitkit.judging.llm import LLMJudge
    from splitkit.judging.rubrics import rubrics_of

    family = task_family(task)
    name = f"axbench/{concept(task, progress=False).text}" if family == "axbench" else family
    needed = len(texts) * len(rubrics_of(name))
    judge = LLMJudge(budget=math.ceil(needed * RETRIES) + SPARE, progress=False)
    with warnings.catch_warnings():
        # what is missing is counted in the tables
        warnings.filterwarnings("ignore", ".*scores are missing")
        table = judge.score(name, questions, texts)
    waiting = table["reason"].str.contains(r": (?:no reply|not asked)")
    if waiting.any():
        raise JudgeError(
            f"{waiting.sum()} of {len(table)} answers of {task} were not scored, the first for: "
            f"{table.loc[waiting, 'reason'].iloc[0]}. What was scored is kept; the same command goes on."
        )
    if family == "powerseeking":
        table["readable"] = [bool(text.strip()) for text in texts]
        table.loc[~table["readable"], ["power", "reason"]] = [0.0, ""]
    table["score"] = table[FAMILIES[family].measure]
    table.attrs["requests"] = judge.requests
    return table


def _yes_or_no(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention | None,
    pairs: Sequence[Pair],
    m: Sequence[float],
) -> pd.DataFrame:
    from splitkit.runs.yes_no import yes_no_accuracy
    from splitkit.steering.rewriting import random_intervention

    # at m = 0 any intervention is the unsteered model, bit for bit
    applied = random_intervention(model, "vector") if intervention is None else intervention
    table = yes_no_accuracy(model, tokenizer, applied, pairs, m)
    table = table.rename(columns={"pair": "question", "correct_by_text": "correct"})
    kept = ["m", "question", "text", "parsed", "correct", "likelier", "correct_by_likelihood", "covered"]
    return table[kept].assign(score=100.0 * table["correct"])
