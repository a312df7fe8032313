"""Views of scores say what their tables say."""

import numpy as np
import pandas as pd
import pytest

from splitkit.runs.profiles import get_profile
from splitkit.studies import score_views
from splitkit.studies.score_differences import METRICS
from splitkit.studies.scores import VANILLA

_MODEL = "tiny-qwen2"


def table3(**rows: float) -> pd.DataFrame:
    """Table 3 with the same number in every metric: `vector_split=1.5` is one row."""
    lines = []
    for name, value in {f"{VANILLA}_{VANILLA}": 0.5, **rows}.items():
        form, _, objective = name.rpartition("_")
        line = {"model": _MODEL, "form": form, "objective": objective, "seeds": 3}
        for metric in METRICS:
            line |= {metric: value, f"{metric}_low": value - 0.1, f"{metric}_high": value + 0.1}
        lines.append(line)
    return pd.DataFrame(lines)


def test_ours_beside_the_papers_with_both_ranks() -> None:
    table = table3(vector_split=1.5, vector_sft=1.25)
    shown = score_views.score_view(table, 3, "axbench_harmonic_0_2")
    split = shown.loc[(_MODEL, "vector", "split")]
    assert split["ours"] == 1.5 and split["paper"] == 1.65 and split["interval"] == "1.40 to 1.60"
    assert split["ranks"] == "1 / 1"
    assert shown.loc[(_MODEL, VANILLA, VANILLA), "ranks"] == "3 / 3"


def test_a_metric_that_was_not_measured_is_not_shown() -> None:
    table = table3(vector_split=1.5).assign(powerseeking_0_4=np.nan)
    assert score_views.metrics_of(table, ["powerseeking", "psychopathy"]) == ["psychopathy_acc_pct"]
    assert score_views.score_view(table, 3, "powerseeking_0_4").empty


def test_the_ceiling_is_named_only_where_it_is_reached() -> None:
    reached, far = (
        score_views.ceilings(table3(vector_split=v, lora_sft=1.0), ["axbench_concept_0_2"])[0]
        for v in (1.985, 1.97)
    )
    assert "the ceiling of 2 is reached by vector split; the highest is 1.985" in reached
    assert "reached by none; the highest is 1.97 (vector split)" in far


def test_gains_and_dpo_beside_the_best() -> None:
    table4 = table3(lora_dpo=0.6, vector_dpo=0.5).query("form != 'vanilla'").drop(columns="objective")
    found = score_views.gains(table3(lora_sft=0.9, lora_split=1.5, vector_split=0.5), table4)
    assert VANILLA not in set(found["form"])
    shown = score_views.dpo_view(found).xs("axbench_concept_0_2", level="metric")
    lora, vector = shown.loc[(_MODEL, "lora")], shown.loc[(_MODEL, "vector")]
    assert (lora["dpo"], lora["best"], lora["of"], lora["share"]) == (0.1, 1.0, "split", 0.1)
    assert np.isnan(vector["share"])  # nothing was gained, so there is no share of it


def test_differences_and_their_tally() -> None:
    row = {"model": _MODEL, "form": "lora", "metric": "axbench_concept_0_2", "difference": 0.123, "p": 0.0123}
    row |= {"low": 0.1, "high": 0.2}
    outcomes = {"sft": "split better", "reps": "ceiling", "dpo": "split better"}
    table = pd.DataFrame([row | {"rival": name, "outcome": what} for name, what in outcomes.items()])
    shown = score_views.difference_view(table, "axbench_concept_0_2")
    assert shown["SPLIT - rival"].tolist() == ["0.12 [0.10, 0.20]"] * 2  # DPO is not of Table 3
    assert shown["better"].tolist() == ["SPLIT", "ceiling"]
    assert score_views.tally(table).loc[(_MODEL, "lora")].tolist() == [1, 0, 0, 1]


def test_the_lead_is_over_the_best_rival_at_each_strength() -> None:
    key = {"model": _MODEL, "task": "axbench/ocean", "form": "lora", "seed": 0, "fluency": 2.0}
    scores = {"split": (1.0, 1.0), "sft": (0.5, 0.0), "reps": (0.0, 1.5), "dpo": (2.0, 2.0)}
    rows = [
        key | {"objective": name, "m_relative": m, "score": score, "concept": np.nan}
        for name, values in scores.items()
        for m, score in zip((0.25, 0.125), values, strict=True)
    ]
    found = score_views.leads(pd.DataFrame(rows), "axbench")
    assert list(found.columns) == ["fluency", "score"]
    assert found.loc[(_MODEL, "lora", "low")].tolist() == [0.0, 0.0]  # 0.5 ahead, then 0.5 behind


def test_a_window_is_half_of_ones_own_best() -> None:
    key = {"model": _MODEL, "task": "axbench/ocean", "form": "lora", "seed": 0}
    scores = {"split": [0.4, 0.5, 1.0, 0.2], "sft": [0.0] * 4}
    rows = [
        key | {"objective": name, "m_relative": 2.0**i, "score": score}
        for name, values in scores.items()
        for i, score in enumerate(values)
    ]
    found = score_views.windows(pd.DataFrame(rows), "axbench").loc[(_MODEL, "lora")]
    assert (found["split"], found["sft"]) == (2, "")


def test_every_objective_has_the_same_drawn_rates() -> None:
    shown = score_views.budget_view(_MODEL, "lora", "axbench")
    drawn = shown.iloc[1:]
    assert (drawn["sft"] == drawn["split"]).all() and (drawn["reps"] == drawn["split"]).all()
    assert shown["sft"].is_unique


def test_the_share_of_the_space_that_was_seen() -> None:
    rows = [("sft", 0, 9, 8 / 9), ("sft", 1, 9, 8 / 9), ("sft", 0, 8, 1.0), ("dpo", 0, 16, 0.5)]
    said = score_views.space_seen(pd.DataFrame(rows, columns=["objective", "trial", "space", "seen"]))
    assert said.endswith("per model, task family and form: dpo 8 of 16 (50%), sft 8 of 8 to 9 (94%).")


def test_rates_say_which_had_mirrored_pairs_where_that_was_searched(monkeypatch) -> None:
    head = {"model": _MODEL, "form": "lora", "task_family": "axbench", "seed": 1000, "lr": 0.1}
    kinds = {"sft": "none", "reps": "negated", "dpo": "drawn", "split": "negated"}
    rows = [head | {"trial": 0, "objective": name, "negative": kind} for name, kind in kinds.items()]
    monkeypatch.setattr(score_views, "read_table", lambda *_: pd.DataFrame(rows))
    shown = score_views.budget_view(_MODEL, "lora", "axbench", "tiny").iloc[0]
    assert shown.tolist() == ["0.1", "0.1, mirrored", "0.1, drawn", "0.1, mirrored"]


def test_the_search_with_its_start_and_its_best() -> None:
    key = {"model": _MODEL, "task_family": "axbench", "form": "lora", "objective": "split"}
    runs = [(0, 1000, np.nan), (1, 1000, 1.4), (2, 1000, 1.5), (1, 1001, 1.2), (2, 1001, 0.5)]
    search = pd.DataFrame([key | {"trial": i, "seed": seed, "score": score} for i, seed, score in runs])
    line = score_views.search_view(search, "axbench").iloc[0]
    assert np.isnan(line["start"]) and (line["runs"], line["best"]) == (5, 1.5)
    assert (line["final"], line["trial"]) == (1.3, 1)
    with pytest.raises(ValueError, match="no family 'ocean'"):
        score_views.search_view(search, "ocean")


def test_a_family_that_a_profile_has_not_is_named() -> None:
    smoke = get_profile("smoke")
    assert score_views.absent(smoke, "axbench") == ""
    assert "has no powerseeking: its tasks are psychopathy" in score_views.absent(smoke, "powerseeking")


def test_beside_answers_reads_the_score_nearest_to_the_operating_point() -> None:
    keys = {"model": "a", "task": "axbench/ocean", "form": "vector", "objective": "split", "seed": 0}
    curve = pd.DataFrame(
        {
            "m_relative": [-1.0, 0.0, 1.0, 2.0],
            "preference": [-1.0, 0.0, 1.0, 2.0],
            "utility": [0, 0, -0.4, -2],
        }
    ).assign(**keys, split="test", m=0.0)
    strengths = pd.DataFrame({"m_relative": [0.2, 0.9, 2.0], "score": [0.5, 1.5, 2.0]}).assign(**keys)
    other = curve.assign(split="train", preference=0.0)
    found = score_views.beside_answers(pd.concat([other, curve]), strengths).reset_index().to_dict("records")
    row = {"model": "a", "form": "vector", "family": "axbench", "cells": 1}
    assert found == [row | {"m": 1.0, "beyond": 0, "by_losses": 1.5, "best": 2.0}]
    row = score_views.beside_answers(curve, strengths.query("m_relative < 0.5")).iloc[0]
    assert row["beyond"] == 1 and np.isnan(row["by_losses"]) and np.isnan(row["best"])
    assert score_views.beside_answers(curve, strengths.assign(seed=1)).empty
