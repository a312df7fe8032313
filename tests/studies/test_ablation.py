"""The ablation: one weight at a time, kept whole and read again, and summaries of made curves by hand."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splitkit.plots.objectives import descent, figure_ablation, figure_asks
from splitkit.runs.cell_keys import hparams
from splitkit.runs.kept_tables import make_tables
from splitkit.runs.profiles import Profile, get_profile
from splitkit.steering import training
from splitkit.steering.objectives import OBJECTIVES
from splitkit.storage import paths
from splitkit.studies import ablation

TINY = Profile(
    name="tiny",
    models=("tiny-qwen2",),
    tasks=("psychopathy", "axbench/ocean"),
    combinations=(("vector", "split"),),
    grid=(-1.0, 0.0, 1.0),
    n_train=8,
    n_sweep=3,
    answered=(),
    overrides={"epochs": 1, "lambda_n": 0.5},
)


def made(weight: str, value: float, slope: float, cost: float, recorded: bool = False) -> pd.DataFrame:
    """Curves that are known: preference slope m, utility 2 - cost m^2 / (1 + m^2)."""
    m = np.array(ablation.GRID)
    return pd.DataFrame(
        {"model": "a", "task": "t", "weight": weight, "value": value, "recorded": recorded, "m_relative": m}
        | {"m": 3 * m, "preference": slope * m, "utility": 2 - cost * m**2 / (1 + m**2), "n_pairs_utility": 3}
        | {"norm": 1 + value, "cosine": 1.0, "m_trained": 0.5}
    )


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [made("gamma", 0.0, 0.5, 4.0), made("gamma", 5.0, 1.5, 6.0, True), made("theta", 0.5, 1.5, 0.0)]
    return pd.concat(rows, ignore_index=True)


def test_one_matching_strength_is_on_the_grid() -> None:
    assert len(ablation.GRID) == 13 and {0.0, 1.0, 16.0} < set(ablation.GRID)


def test_tasks_are_the_profiles() -> None:
    assert {cell.task for cell in ablation.ablated_cells(get_profile("embedded"))} == {
        "powerseeking",
        "axbench/ocean",
    }
    assert [cell.task for cell in ablation.ablated_cells(TINY)] == ["axbench/ocean"]


def test_a_variant_differs_in_one_weight_and_the_recorded_value_is_among_them() -> None:
    cell = ablation.ablated_cells(TINY)[0]
    every = list(ablation.variants(cell, TINY))
    base = OBJECTIVES["split"].defaults | hparams(cell, TINY)
    assert base["lambda_n"] == 0.5
    for weight, value, variant in every:
        assert OBJECTIVES["split"].defaults | hparams(variant, TINY) == base | {weight: value}
        assert (variant == cell) == (value == base[weight])
    assert {weight for weight, _, variant in every if variant == cell} == set(ablation.VALUES)


def test_computed_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLITKIT_RESULTS", raising=False)
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(ablation, "VALUES", {"lambda_n": (0.0,)})
    first = ablation.ablate(TINY, jobs=1)["ablation"]
    assert first.groupby("value").size().to_dict() == {0.0: 13, 0.5: 13}
    own = first[first["recorded"]]
    assert own["value"].eq(0.5).all() and own["cosine"].eq(1.0).all()
    assert own["m_relative"].tolist() == pytest.approx(ablation.GRID, rel=1e-5)
    kept = sorted((tmp_path / "trained").glob("*_vector_*"))
    assert len(kept) == 2
    for stage in ("trained", "curves"):
        shutil.rmtree(next((tmp_path / stage).glob("*lambda_n-0.0*")))
    shutil.rmtree(TINY.results)
    trained = []
    real = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: trained.append(k) or real(*a, **k))
    assert make_tables([ablation.ablate], TINY, 1) == []
    pd.testing.assert_frame_equal(ablation.ablate(TINY, jobs=1)["ablation"], first)
    assert len(trained) == 1, "what was kept is not trained again"
    assert sorted((tmp_path / "trained").glob("*_vector_*")) == kept


def test_summary_by_hand(table: pd.DataFrame) -> None:
    low, high, free = ablation.summary(table).to_dict("records")
    assert [low["gained"], low["lost"], low["per_nat"]] == pytest.approx([0.5, 2.0, 0.25])
    assert [high["gained"], high["lost"], high["per_nat"]] == pytest.approx([1.5, 3.0, 0.5])
    assert high["reached"] == pytest.approx(0.75) and high["recorded"] and not low["recorded"]
    # D = 1 / (1 + m^2) is one half at 1
    assert low["breakdown"] == pytest.approx(1.0, rel=0.01)
    # nothing is lost: what a nat buys is undefined, and so is a breakdown of a constant
    assert free["lost"] == 0 and math.isnan(free["per_nat"]) and math.isnan(free["breakdown"])
    with pytest.raises(ValueError, match="no m_relative of 1"):
        ablation.summary(table[table["m_relative"] < 1])


def test_effects_count_what_every_cell_has(table: pd.DataFrame) -> None:
    other = table.assign(task="u", preference=-table["preference"])
    beyond = made("gamma", 50.0, 9.0, 1.0).assign(task="u")
    both = ablation.effects(ablation.summary(pd.concat([table, other, beyond])))
    gained = both.query("weight == 'gamma' and quantity == 'gained'").iloc[0]
    assert [gained["low"], gained["high"], gained["rises"], gained["falls"]] == [0.0, 5.0, 1, 1]
    lost = both.query("weight == 'gamma' and quantity == 'lost'").iloc[0]
    assert [lost["rises"], lost["cases"], lost["median"]] == pytest.approx([2, 2, 1.0])
    words = ablation.sentences(both)
    assert words[0].startswith("gamma from 0 to 5: preference gained at m = 1 rises in 1 and falls in 1 of 2")
    assert any("theta" in line and "is defined in no case" in line for line in words)


def test_descent_of_split_by_hand() -> None:
    positive, negative = np.array([1.0, 1.0]), np.array([1.2, 3.0])
    weights = {"lambda_p": 1.0, "lambda_n": 0.5, "gamma": 4.0, "theta": 0.5}
    loss, right, up = descent("split", positive, negative, (2.0, 2.0), 10, weights)
    assert loss.tolist() == pytest.approx([1.0 + 0.6 + 4 * 0.3, 2.5])
    assert right.tolist() == [-5.0, -1.0] and up.tolist() == [3.5, -0.5]
    assert descent("sft", positive, negative, (2.0, 2.0), 10)[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("objective", ["reps", "dpo"])
def test_descent_is_the_slope_of_the_loss(objective: str) -> None:
    x, y, step = np.array([[1.3]]), np.array([[1.7]]), 1e-6
    _, right, up = descent(objective, x, y, (2.0, 1.9), 12)
    for found, dx, dy in ((right, step, 0.0), (up, 0.0, step)):
        ends = [descent(objective, x + s * dx, y + s * dy, (2.0, 1.9), 12)[0] for s in (1, -1)]
        assert found == pytest.approx(-(ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_pictures(table: pd.DataFrame) -> None:
    figure = figure_ablation(table, "a", "t")
    assert len(figure.axes) == 4
    assert [len(axes.get_lines()) for axes in figure.axes] == [2, 1, 2, 1]
    with pytest.raises(ValueError, match=r"no task 'x'; it has \['t'\]"):
        figure_ablation(table, "a", "x")
    asks = figure_asks((1.8, 1.6), 20, {"split": {"theta": 1.0}})
    assert [axes.get_title() for axes in asks.axes] == ["SFT", "RePS", "DPO (BiPO)", "SPLIT"]
