"""The search: one budget for all, the paper's row first, ties to the earliest, every run kept."""

import json

import pandas as pd
import pytest

from splitkit.runs import search
from splitkit.runs.profiles import PROFILES
from splitkit.runs.results import read_table
from splitkit.storage import paths

FORMS = list(search.LEARNING_RATES)
FAMILIES = list(search.TASKS)


MODELS = ["tiny-gemma2", "tiny-qwen2"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
def test_every_objective_has_one_budget(model: str, form: str, family: str) -> None:
    tried = {objective: search.trials(model, form, objective, family) for objective in search.OWN}
    drawn = {tuple(row["lr"] for row in rows[1:]) for rows in tried.values()}
    assert len(drawn) == 1, "the same learning rates for all"
    for objective, rows in tried.items():
        assert len(rows) == search.TRIALS and rows[0] == search.start(model, form, objective, family)
        assert len({json.dumps(row, sort_keys=True) for row in rows}) == search.TRIALS
        assert {row["negative"] for row in rows} == {"drawn" if objective == "dpo" else "negated"}
        assert {row["epochs"] for row in rows} == {search.EPOCHS[family]}
        assert rows == search.trials(model, form, objective, family), "drawn anew, drawn the same"


def test_the_first_trial_is_the_papers_row() -> None:
    row = search.start("tiny-gemma2", "local_weight", "split", "axbench")
    assert (row["lr"], row["gamma"], row["theta"], row["lambda_n"]) == (0.04, 3.5, 0.6, 0.3)
    assert "rank" not in row and search.start("tiny-qwen2", "lora", "sft", "psychopathy")["rank"] == 4
    assert search.start("tiny-qwen2", "vector", "dpo", "axbench")["beta"] == 0.1


def test_the_seeds_of_the_search_are_none_that_is_reported() -> None:
    assert not set(search.SEEDS) & set(PROFILES["embedded"].seeds)
    assert all(len(tasks) == len(search.SEEDS) for tasks in search.TASKS.values())


def table(*scores: list[float]) -> pd.DataFrame:
    """A budget's runs: one list per trial, of its scores by seed."""
    key = dict(zip(search.KEYS, ("model", "axbench", "lora", "sft"), strict=True))
    rows = [
        key | {"trial": i, "seed": seed, "task": "t", "score": score}
        for i, of_trial in enumerate(scores)
        for seed, score in zip(search.SEEDS, of_trial, strict=False)
    ]
    return pd.DataFrame(rows).assign(m_relative=1.0, lr=lambda rows: rows["trial"] / 10)


NAN = float("nan")


def test_the_finalists_are_the_best_with_the_first_seed_and_of_equal_ones_the_first() -> None:
    key = ("model", "axbench", "lora", "sft")
    assert search.finalists(table([1.0], [1.5], [1.5], [1.5])) == {key: [1, 2]}
    assert search.finalists(table([NAN], [0.5], [NAN])) == {key: [1]}
    with pytest.raises(ValueError, match="no trial has a score"):
        search.finalists(table([NAN], [NAN]))


def test_the_best_mean_over_seeds_wins_and_of_equal_ones_the_first() -> None:
    # the lucky one of the first seed loses to the steady one
    lucky, steady = [2.0, 0.0, 0.0], [1.5, 1.5, 1.5]
    assert search.best(table([0.0], lucky, steady)).to_dict("records") == [
        {"model": "model", "task_family": "axbench", "form": "lora", "objective": "sft", "lr": 0.2}
    ]
    assert search.best(table(steady, steady))["lr"].tolist() == [0.0]
    assert search.best(table([2.0, NAN, 2.0], steady))["lr"].tolist() == [0.1]
    with pytest.raises(ValueError, match="no finalist has a score with every seed"):
        search.best(table([1.0, NAN, 1.0], [NAN]))


def test_a_trial_is_done_once_and_a_diverged_one_has_no_score(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    calls = []

    def diverges(*_: object, **settings: object) -> None:
        calls.append(settings)
        raise FloatingPointError("loss is nan")

    monkeypatch.setattr("splitkit.steering.training.train", diverges)
    run = (("tiny-qwen2", "axbench", "lora", "sft"), 1, 0)
    (first,) = search._run([run], jobs=1, progress=False)
    (again,) = search._run([run], jobs=1, progress=False)
    assert len(calls) == 1 and first["lr"] == again["lr"] == calls[0]["lr"]
    assert pd.isna(first["score"]) and pd.isna(again["m_relative"])


def test_the_recorded_settings_are_the_best_of_the_recorded_trials() -> None:
    recorded = pd.read_csv(paths.DATA / "hparams.csv")
    expected = search.best(read_table("search"))
    pd.testing.assert_frame_equal(recorded, expected, check_dtype=False)
