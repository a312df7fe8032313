"""Tables 2, 6 and 7: the paper's columns, its averages, and what is missing left empty."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splitkit import paper
from splitkit.curves.validity import Validity
from splitkit.runs.kept_tables import make_tables
from splitkit.runs.profiles import get_profile
from splitkit.storage import paths
from splitkit.studies import fit_quality
from splitkit.studies.fits import fitted_curve


def draws(r2: dict[str, float], split: str = "transfer") -> pd.DataFrame:
    """Both curves of one kind; draw i is its value + i / 100."""
    rows = [
        {"task": task, "seed": seed, "curve": curve, "value": value, "draws": value + np.arange(200) / 100}
        for task, value in r2.items()
        for seed in (0, 1)
        for curve in ("preference", "utility")
    ]
    cell = {"model": "tiny-gemma2", "form": "lora", "objective": "sft", "split": split}
    return pd.DataFrame(rows).assign(**cell)


def test_averages_are_the_papers() -> None:
    # Table 7, gemma, lora, sft: 0.92, 0.99, -0.56 and their average 0.45
    r2 = {"psychopathy": 0.92, "powerseeking": 0.99, "axbench/ocean": -1.0, "axbench/music": -0.12}
    table = fit_quality.paper_table(draws(r2), 7)
    theirs = paper.table(7)
    names = [name for name in table.columns if not name.endswith(("_low", "_high"))]
    assert names == list(theirs.columns) and len(table.columns) == 3 + 3 * 8
    printed = theirs.query("model == 'gemma-2-9b-it' and form == 'lora' and objective == 'sft'").iloc[0]
    for name in ("pref_psychopathy", "pref_powerseeking", "pref_axbench", "pref_avg"):
        assert round(table[name].iloc[0], 2) == printed[name]
    assert table["pref_avg_low"].iloc[0] == pytest.approx(0.45 + 0.04)
    assert table["pref_avg_high"].iloc[0] == pytest.approx(0.45 + 1.94)


def test_a_task_that_was_not_measured_is_empty_and_so_is_the_average() -> None:
    r2 = {"psychopathy": 0.92, "axbench/ocean": math.nan, "axbench/music": 0.5}
    table = fit_quality.paper_table(draws(r2, "train"), 2)
    row = table.iloc[0]
    assert math.isnan(row["pref_powerseeking"]) and math.isnan(row["pref_avg"])
    assert row["util_axbench"] == 0.5
    shown = fit_quality.beside_paper(table, 2, "preference")
    assert list(shown.columns) == ["psychopathy", "axbench"]
    assert shown.index.tolist() == [("tiny-gemma2", "lora", "sft")]
    assert shown["psychopathy"].iloc[0] == "0.92 [0.96, 2.86] (0.92)"
    split = fit_quality.beside_paper(
        table.assign(objective="split", pref_psychopathy_low=-80.55), 2, "preference"
    )
    assert split["psychopathy"].tolist() == ["0.92 [-81, 2.86]"]
    assert split.index[0][2] == "split *"
    with pytest.raises(KeyError, match="preference"):
        fit_quality.beside_paper(table, 2, "pref")
    with pytest.raises(KeyError, match=r"\[2, 6, 7\]"):
        fit_quality.paper_table(draws(r2), 3)


def test_any_number_of_draws_does() -> None:
    few = draws({"psychopathy": 0.9}, "train")
    few["draws"] = [drawn[:10] for drawn in few["draws"]]
    row = fit_quality.paper_table(few, 2).iloc[0]
    assert row["pref_psychopathy"] == 0.9 and math.isnan(row["pref_axbench"]) and math.isnan(row["pref_avg"])


def test_an_interval_is_about_the_same_cells_in_every_draw() -> None:
    table = draws({"axbench/ocean": 0.5, "axbench/music": 0.9}, "train")
    gap = np.arange(200) / 100
    gap[:80] = np.nan
    ocean = table["task"] == "axbench/ocean"
    table.loc[ocean, "draws"] = pd.Series([0.5 + gap] * int(ocean.sum()), index=table.index[ocean])
    row = fit_quality.paper_table(table, 2).iloc[0]
    assert row["pref_axbench"] == pytest.approx(0.7)
    # of the draws from the 80th on, in which both concepts are defined; music's own go further down
    assert row["pref_axbench_low"] == pytest.approx(0.7 + 0.82, abs=0.02)
    gap[:101] = np.nan
    table.loc[ocean, "draws"] = pd.Series([0.5 + gap] * int(ocean.sum()), index=table.index[ocean])
    row = fit_quality.paper_table(table, 2).iloc[0]
    assert math.isnan(row["pref_axbench_low"]) and row["pref_axbench"] == pytest.approx(0.7)


def test_a_run_with_fewer_seeds_keeps_the_means_over_all_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    profile = get_profile("embedded")
    names = ["fit_intervals", *(paper.TABLES[number] for number in fit_quality.KINDS)]
    for of, value in ((profile, 0.5), (profile.first_seeds(1), 0.9)):
        made = pd.DataFrame({"seed": sorted({cell.seed for cell in of.cells()}), "value": value})
        monkeypatch.setattr(fit_quality.fit_quality, "compute", lambda *_, t=made: dict.fromkeys(names, t))
        assert make_tables([fit_quality.fit_quality], of, 1) == []
    found = fit_quality.fit_quality(profile)
    assert found["fit_intervals"]["value"].tolist() == [0.9, 0.5, 0.5]
    assert all(found[name]["value"].tolist() == [0.5] * 3 for name in names[1:])


def test_r2_rows_are_what_the_verdicts_judge() -> None:
    rows = {"model": "a", "task": "b", "form": "c", "objective": "d", "seed": 0, "split": "test"}
    rows |= {"curve": "utility", "value": 0.9, "low": 0.8, "high": 1.0, "share_finite": 1.0, "flag": ""}
    table = pd.DataFrame([rows | {"quantity": "r2"}, rows | {"quantity": "alpha"}])
    assert fit_quality.r2_rows(table)[["r2", "low", "high"]].to_numpy().tolist() == [[0.9, 0.8, 1.0]]


def test_a_transfer_right_up_to_scale_is_told_from_a_wrong_one() -> None:
    m = np.linspace(-4, 4, 17)
    fit = {"alpha": 1.0, "beta": 0.2, "b": 0.1} | asdict(Validity(1.0, 4.0, 1.0, -1.0, 4.0, 1.0))
    cell = {"model": "a", "task": "b", "form": "c", "objective": "d", "seed": 0}
    rows = [cell | {"split": "train", "quantity": name, "value": value} for name, value in fit.items()]
    rows.append(cell | {"split": "transfer", "quantity": "r2", "value": -9.0})
    intervals = pd.DataFrame(rows).assign(curve="preference", low=0.0, high=0.0)
    predicted = fitted_curve(fit | {"curve": "preference"}, m)
    for y, expected in ((3 * predicted - 5, 1.0), (np.where(m > 0, 1.0, -1.0) * m**2, None)):
        curves = pd.DataFrame({"m_relative": m, "preference": y, "split": "test"}).assign(**cell)
        found = fit_quality.transfer_shape(intervals, curves)
        assert found["r2"].tolist() == [-9.0]
        by_hand = np.corrcoef(predicted, y)[0, 1] ** 2 if expected is None else expected
        assert found["correlation_squared"].iloc[0] == pytest.approx(by_hand)


def test_usable_fits_are_judged_where_utility_is_near_its_best() -> None:
    m = np.linspace(-4, 4, 17)
    fit = {"beta_u": 3.0, "b_u": 0.0} | asdict(Validity(1.0, 4.0, 1.0, -1.0, 4.0, 1.0))
    cell = {"model": "a", "task": "b", "form": "c", "objective": "random", "seed": 2}
    parts = [
        {"split": split, "quantity": name, "value": v}
        for split in ("train", "test")
        for name, v in fit.items()
    ]
    parts += [{"split": split, "quantity": "r2", "value": 0.5} for split in ("train", "test", "transfer")]
    intervals = pd.DataFrame(parts).assign(curve="utility", **cell)
    train = fitted_curve(fit | {"curve": "utility"}, m)
    test = np.where(np.abs(m) <= 1, train, -9.0)
    both = [
        pd.DataFrame({"m_relative": m, "utility": y, "split": s})
        for s, y in (("train", train), ("test", test))
    ]
    found = fit_quality.within_usable(intervals, pd.concat(both).assign(**cell), nats=1.0).set_index("split")
    assert found.loc["test", "strengths"] == (np.abs(m) <= 1).sum() < found.loc["train", "strengths"] < 17
    np.testing.assert_allclose(found["r2"], 1.0)
    # sums over four tokens: a quarter of the nats, for the same window
    summed = fit_quality.within_usable(intervals, pd.concat(both).assign(tokens=4.0, **cell), nats=0.25)
    assert summed.set_index("split")["strengths"].equals(found["strengths"])
    undefined = pd.concat(both).assign(utility=math.nan, **cell)
    none = fit_quality.within_usable(intervals, undefined)
    assert none["r2"].isna().all() and (none["strengths"] == 0).all()
