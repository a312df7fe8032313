"""The search: one budget for all, the paper's row first, ties to the earliest, every run kept."""

import hashlib
import json
from dataclasses import replace

import pandas as pd
import pytest

from splitkit.paper import official_settings
from splitkit.runs import search, search_space, trial_scores
from splitkit.runs.profiles import PROFILES, Cell
from splitkit.runs.results import read_table
from splitkit.storage import paths

TINY = PROFILES["tiny"]
MODEL = "tiny-gemma2"
NAN = float("nan")


@pytest.mark.parametrize("name", [name for name in search_space.PLANS if name in PROFILES])
def test_every_objective_has_one_budget(name: str) -> None:
    profile, plan = PROFILES[name], search_space.PLANS[name]
    for model, family in ((m, f) for m in profile.models for f in search_space.families(profile)):
        for form in search_space.FORMS:
            tried = {o: search_space.trials(profile, model, form, o, family) for o in search_space.OWN}
            rates = {tuple(row["lr"] for row in rows[1:]) for rows in tried.values()}
            sides = {tuple(row["negative"] for row in tried[o][1:]) for o in ("sft", "reps", "split")}
            assert len(rates) == len(sides) == 1, "the same rates and mirrored pairs for all"
            for objective, rows in tried.items():
                official = official_settings(model, form, objective, family)
                kept = {k: v for k, v in official.items() if k not in ("epochs", "batch_size")}
                assert kept.items() <= rows[0].items()
                assert len(rows) == plan.trials == len({json.dumps(row, sort_keys=True) for row in rows})
                every = search_space.space(profile, model, form, objective, family)
                assert all(row in every for row in rows)
                fixed = {"epochs", "batch_size", "dropout", "factor_min", "factor_max", "factor_step"}
                assert all({k: row[k] for k in fixed} == {k: rows[0][k] for k in fixed} for row in rows)
                assert {row["negative"] for row in rows} <= (
                    {"drawn"} if objective == "dpo" else {"negated", "none"}
                )


def test_the_first_trial_is_the_papers_row_with_or_without_mirrored_pairs() -> None:
    row = search_space.start(TINY, MODEL, "local_weight", "split", "axbench")
    assert (row["lr"], row["gamma"], row["theta"], row["lambda_n"]) == (0.04, 3.5, 0.6, 0.3)
    assert row["negative"] == "none" and "rank" not in row
    other = search_space.start(TINY, "tiny-qwen2", "lora", "sft", "psychopathy")
    assert (other["rank"], other["negative"]) == (4, "negated")
    assert search_space.start(TINY, "tiny-qwen2", "vector", "dpo", "axbench")["beta"] == 0.1


@pytest.mark.parametrize(("pairs", "epochs", "batch"), [(2, 32, 2), (4, 32, 4), (16, 16, 8), (64, 4, 8)])
def test_any_number_of_pairs_makes_equally_many_steps(pairs: int, epochs: int, batch: int) -> None:
    row = search_space.start(TINY, MODEL, "vector", "sft", "axbench", pairs)
    assert (row["epochs"], row["batch_size"]) == (epochs, batch) and epochs * pairs // batch == 32
    short = replace(TINY, overrides={"epochs": 3})
    assert search_space.start(short, MODEL, "vector", "sft", "axbench", pairs) == row | {"epochs": 3}


def test_the_space_is_what_there_is_to_draw_and_the_official_row() -> None:
    sizes = {o: len(search_space.space(TINY, MODEL, "lora", o, "axbench")) for o in search_space.OWN}
    # the rates of the official rows, 0.08 and 0.04, are none that is drawn
    assert sizes == {"sft": 4 * 2 + 1, "reps": 4 * 2 * 9 + 1, "dpo": 4 * 4 + 1, "split": 4 * 2 * 27 + 1}
    with pytest.raises(ValueError, match="no settings are searched for profile 'smoke'"):
        search_space.plan_of(PROFILES["smoke"])


def test_the_seeds_of_the_search_are_none_that_is_reported() -> None:
    for name in search_space.PLANS:
        if name in PROFILES:
            assert not set(search_space.SEEDS) & set(PROFILES[name].seeds)
    assert search_space.search_tasks(TINY, "psychopathy") == ("psychopathy",) * 3
    assert len(set(search_space.search_tasks(TINY, "axbench"))) == 3


def table(*scores: list[float]) -> pd.DataFrame:
    """A budget's runs: one list per trial, of its scores by seed."""
    key = dict(zip(search.KEYS, ("model", "axbench", "lora", "sft"), strict=True))
    rows = [
        key | {"trial": i, "seed": seed, "task": "t", "score": score}
        for i, of_trial in enumerate(scores)
        for seed, score in zip(search.SEEDS, of_trial, strict=False)
    ]
    return pd.DataFrame(rows).assign(m_relative=1.0, lr=lambda rows: rows["trial"] / 10)


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


def test_budgets_of_a_part_and_of_none() -> None:
    assert len(search.budgets(TINY)) == 2 * 3 * 3 * 4
    part = search.budgets(TINY, model=[MODEL], form=["lora"], task_family=None, objective=["split"])
    assert part == [(MODEL, family, "lora", "split") for family in search_space.families(TINY)]
    fewer = replace(TINY, combinations=(), answered=(("lora", "split"),))
    assert search.budgets(fewer, model=MODEL) == part, "none where the profile has no cells"
    with pytest.raises(ValueError, match="no form 'lore': local_weight, lora, vector"):
        search.budgets(TINY, form=["lore"])


@pytest.fixture
def ran(tmp_path, monkeypatch) -> list[Cell]:
    """Scores without training, below `tmp_path`; the cells that were run so far."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("splitkit.runs.results.provenance", lambda *_: {})
    monkeypatch.setattr("splitkit.runs.results.table_key", lambda *_: "")
    monkeypatch.setattr(
        trial_scores, "made_of", lambda cell, _: hashlib.sha256(repr(cell).encode()).hexdigest()
    )
    (tmp_path / "hparams").mkdir()
    runs: list[Cell] = []

    class Done:
        diverged = False

        def __init__(self, cell) -> None:
            runs.append(cell)
            chosen = dict(dict(cell.variant)["hparams"])
            self.best = (0.5, chosen["lr"] + chosen.get("gamma", 0) + cell.seed % 2)

    monkeypatch.setattr(trial_scores, "compute", lambda cells, *_: [Done(cell) for cell in cells])
    return runs


def test_parts_merge_and_nothing_is_run_twice(ran: list[Cell], tmp_path) -> None:
    small = replace(TINY, models=(MODEL,), tasks=("powerseeking",))
    part = search.budgets(small, form=["lora"], objective=["split", "sft"])
    found = search.search(small, part, jobs=1, progress=False)
    assert found.groupby("objective").size().to_dict() == {"sft": 12, "split": 12} and len(ran) == 24
    other = search.search(small, search.budgets(small, form=["lora"]), jobs=1, progress=False)
    assert len(ran) == 48, "the two other objectives alone"
    again = search.search(small, part, jobs=1, progress=False)
    assert len(ran) == 48 and again.equals(read_table("search", small)[list(again)])
    assert other.query("objective == 'sft'")["score"].tolist() == found["score"].tolist()[:12]
    chosen = pd.read_csv(tmp_path / "hparams" / "tiny.csv")
    assert list(chosen["objective"]) == ["dpo", "reps", "sft", "split"]
    assert chosen["lr"].max() == 0.1 and set(chosen["epochs"]) == {1}
    split = again.query("objective == 'split'")
    assert split["space"].eq(4 * 2 * 27 + 1).all() and split["seen"].round(3).eq(0.037).all()


def test_a_trial_is_done_once_and_a_diverged_one_has_no_score(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    calls = []

    def diverges(*_: object, **settings: object) -> None:
        calls.append(settings)
        raise FloatingPointError("loss is nan")

    monkeypatch.setattr("splitkit.steering.training.train", diverges)
    wanted = [(("tiny-qwen2", "axbench", "lora", "sft"), 1, 0)]
    first = search.run(TINY, wanted)
    monkeypatch.setattr(trial_scores, "compute", None)
    again = search.run(TINY, wanted, first)
    assert len(calls) == 1 and first.equals(again) and first["lr"][0] == calls[0]["lr"]
    assert first["score"].isna().all() and first["made_of"].str.len().eq(16).all()


def test_families_that_are_not_searched_take_the_settings_of_the_one_that_is() -> None:
    small = PROFILES["small"]
    wanted = search.budgets(small, model="Gemma-3-270M")
    assert {family for _, family, *_ in wanted} == {"psychopathy"} and len(wanted) == 12
    searched = search_space.start(small, "Gemma-3-270M", "lora", "split", "psychopathy") | {"lr": 0.01}
    row = pd.DataFrame([dict(zip(search.KEYS, wanted[0], strict=True)) | searched])
    found = search_space.with_other_families(small, row).set_index("task_family")
    assert found["epochs"].to_dict() == {"psychopathy": 1, "powerseeking": 1, "axbench": 2}
    assert (found["lr"] == 0.01).all()
    assert search_space.with_other_families(TINY, row).equals(row)


@pytest.mark.parametrize("name", ["embedded", *search_space.PLANS])
def test_the_recorded_settings_are_the_best_of_the_recorded_trials(name: str) -> None:
    if name not in PROFILES or (table := search.recorded(PROFILES[name])) is None:
        pytest.skip("nothing was searched yet")
    best, recorded = search.best(table), pd.read_csv(PROFILES[name].hparams)
    # what was not searched yet has rows of elsewhere
    of_search = search.merged(None, recorded.merge(best[search.KEYS]), search.KEYS, search.KEYS)
    pd.testing.assert_frame_equal(
        of_search, search.merged(None, best, search.KEYS, search.KEYS), check_dtype=False, check_like=True
    )
