"""The search: one budget for all, the start first, ties to the earliest, every trial kept."""

import json

import pandas as pd
import pytest

from splitkit import paths, search
from splitkit.results import read_table

FORMS = list(search.LEARNING_RATES)
FAMILIES = list(search.TASKS)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", FORMS)
def test_every_objective_sees_the_same_learning_rates_and_epochs(form: str, family: str) -> None:
    tried = {objective: search.trials(form, objective, family) for objective in search.OWN}
    shared = {name: [(t["lr"], t["epochs"]) for t in rows] for name, rows in tried.items()}
    assert len({tuple(rows) for rows in shared.values()}) == 1
    for objective, rows in tried.items():
        assert len(rows) == search.TRIALS and rows[0] == search.start(form, objective, family)
        assert len({json.dumps(row, sort_keys=True) for row in rows}) == search.TRIALS
        assert all(row["negative"] in search.OWN[objective]["negative"] for row in rows[1:])
        assert rows == search.trials(form, objective, family), "drawn anew, drawn the same"


def table(*scores: float) -> pd.DataFrame:
    key = dict(zip(search.KEYS, ("model", "axbench", "lora", "sft"), strict=True))
    rows = [
        key | {"trial": i, "score": score, "m_relative": 1.0, "lr": i / 10, "seconds": 1.0}
        for i, score in enumerate(scores)
    ]
    return pd.DataFrame(rows)


def test_the_best_trial_wins_and_of_equal_ones_the_first() -> None:
    assert search.best(table(1.0, 1.5, 1.5)).to_dict("records") == [
        {"model": "model", "task_family": "axbench", "form": "lora", "objective": "sft", "lr": 0.1}
    ]
    assert search.best(table(float("nan"), 0.5))["lr"].tolist() == [0.1]
    with pytest.raises(ValueError, match="no trial has a score"):
        search.best(table(float("nan"), float("nan")))


def test_a_trial_is_done_once_and_a_diverged_one_has_no_score(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    calls = []

    def diverges(*_: object, **settings: object) -> None:
        calls.append(settings)
        raise FloatingPointError("loss is nan")

    monkeypatch.setattr("splitkit.models.load_model", lambda name: (None, None))
    monkeypatch.setattr("splitkit.training.train", diverges)
    first = search.attempt("embedded-qwen2", "axbench", "lora", "sft", 1)
    again = search.attempt("embedded-qwen2", "axbench", "lora", "sft", 1)
    assert len(calls) == 1 and first["lr"] == again["lr"] == calls[0]["lr"]
    assert pd.isna(first["score"]) and pd.isna(again["m_relative"])


def test_the_recorded_settings_are_the_best_of_the_recorded_trials() -> None:
    recorded = pd.read_csv(paths.DATA / "hparams.csv")
    expected = search.best(read_table("search").assign(seconds=0.0))
    pd.testing.assert_frame_equal(recorded, expected, check_dtype=False)
