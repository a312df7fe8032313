"""Scores of trials on the paper's own tasks, where no judge is asked: against sweeps and answers by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from splitkit.runs import answers, trial_scores
from splitkit.runs.profiles import PROFILES, Cell
from splitkit.runs.trial_scores import TOLERANCE, made_of, trained_on
from splitkit.runs.yes_no import yes_no_accuracy
from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import sweep
from tests.conftest import random_intervention, tiny_model, tiny_tokenizer

PROFILE = replace(PROFILES["paper"], n_train=60, n_choose=3, tried=(0.0, 0.5, 1.0, 4.0))
UNIT = 0.1
OPEN = [
    Pair("Go on?", "I will take it all.", "No need at all."),
    Pair("And you?", "Mine.", "Yours, I think."),
]
CLOSED = [Pair("True?", "Yes, it is.", "No, it is not."), Pair("False?", "No.", "Yes.")]


@pytest.fixture(scope="module")
def steered():
    model = tiny_model("qwen2", layers=2)
    return model, tiny_tokenizer(), random_intervention(model, "vector", layer=0)


def measured(steered, task: str, pairs: list[Pair], monkeypatch) -> tuple[float, float]:
    model, tokenizer, iv = steered
    monkeypatch.setattr(answers, "load", lambda *_: (model, tokenizer))
    monkeypatch.setattr(answers, "pairs", lambda profile, task, split, *_: {"validation": pairs}[split])
    result = SimpleNamespace(cell=Cell("any", task, "vector", "sft"), unit=UNIT, intervention=lambda: iv)
    return trial_scores._measured(result, PROFILE)


def test_an_open_task_is_scored_by_the_gain_that_utility_allows(steered, monkeypatch) -> None:
    score, m = measured(steered, "paper/powerseeking", OPEN, monkeypatch)
    grid = [UNIT * relative for relative in PROFILE.tried]
    means = sweep(*steered, OPEN, grid, reduction="sum").groupby("m")[["preference", "utility"]].mean()
    tokens = np.mean([len(text) + 1 for pair in OPEN for text in (pair.positive, pair.negative)])
    gains = (means["preference"] - means["preference"][0.0])[
        means["utility"] >= means["utility"][0.0] - TOLERANCE * tokens
    ]
    assert score == pytest.approx(gains.max()) and m * UNIT == pytest.approx(gains.idxmax())
    # nothing is allowed to be lost: the unsteered model alone, or what gains utility too
    monkeypatch.setattr(trial_scores, "TOLERANCE", 0.0)
    bounded, _ = measured(steered, "paper/powerseeking", OPEN, monkeypatch)
    assert 0 <= bounded <= score


def test_yes_or_no_is_scored_by_likelihood(steered, monkeypatch) -> None:
    score, m = measured(steered, "paper/psychopathy", CLOSED, monkeypatch)
    # the unsteered model is none of the strengths that are chosen from
    table = yes_no_accuracy(*steered, CLOSED, [UNIT * relative for relative in PROFILE.tried[1:]])
    accuracy = 100 * table.groupby("m")["correct_by_likelihood"].mean()
    assert score == accuracy.max() and m * UNIT == pytest.approx(accuracy.idxmax())


def test_a_papers_concept_is_judged_by_pairs_that_no_trial_learned(monkeypatch) -> None:
    task = "paper/axbench/night"
    assert trained_on(replace(PROFILE, n_train=64, n_choose=8), task) == 56
    assert trained_on(replace(PROFILE, n_train=40, n_choose=8), task) == 40
    assert trained_on(PROFILES["tiny"], "axbench/ocean") == PROFILES["tiny"].size("train", "axbench")
    monkeypatch.setattr(answers, "pairs", lambda *_: list(range(64)))
    held = trial_scores.held_out(replace(PROFILE, n_train=64, n_choose=8), task, None, None)
    assert held == list(range(56, 64))


def test_what_a_score_is_made_of() -> None:
    def cell(task: str, seed: int, lr: float) -> Cell:
        return Cell("tiny-qwen2", task, "vector", "sft", seed, (("hparams", (("lr", lr),)),))

    tiny, own = PROFILES["tiny"], cell("axbench/ocean", 1000, 0.1)
    assert made_of(own, tiny) == made_of(own, replace(tiny, seeds=(7,), models=("tiny-qwen2",)))
    others = [cell("axbench/ocean", 1001, 0.1), cell("axbench/ocean", 1000, 0.2)]
    found = {made_of(one, tiny) for one in (own, *others, cell("axbench/music", 1000, 0.1))}
    found |= {made_of(own, replace(tiny, n_choose=8)), made_of(own, replace(tiny, n_train=9, n_choose=8))}
    assert len(found) == 6
