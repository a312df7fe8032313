"""Summed losses: right against a sweep that sums itself, and a table that says what changes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import splitkit as sk
from splitkit.plots import curves as plot_curves
from splitkit.runs.profiles import Cell, get_profile, strength_grid
from splitkit.storage import paths
from splitkit.studies import loss_reduction

PROFILE = get_profile("embedded")
GRID = np.array(strength_grid(64.0, 13, 6.0))


def test_sums_are_those_of_a_sweep_that_sums() -> None:
    model, tokenizer = sk.load_model("tiny-qwen2")
    pairs = sk.load_pairs("powerseeking")[:4]
    vector = sk.train(model, tokenizer, pairs, form="vector", objective="diffmean")
    grid = [-3.0, 0.0, 3.0]
    means = sk.sweep(model, tokenizer, vector, pairs, m=grid)
    expected = sk.sweep(model, tokenizer, vector, pairs, m=grid, reduction="sum")
    lengths = loss_reduction.answer_lengths(PROFILE, "tiny-qwen2", "powerseeking", 4)
    found = loss_reduction.summed(means, lengths)
    assert list(found.columns) == list(expected.columns)
    np.testing.assert_allclose(found.to_numpy(), expected.to_numpy(), rtol=1e-5, atol=1e-5)
    # probabilities of whole answers: what the two leave is never nothing
    assert found["utility"].notna().all()
    with pytest.raises(ValueError, match="4 pairs, there are 3"):
        loss_reduction.summed(means, lengths[:, :3])


def made_sweep(split: str) -> pd.DataFrame:
    """Easy answers near m = 0, so that the mean leaves Eq. 8 undefined there for the second pair."""
    decay = 1 / (1 + GRID**2)
    rows = [
        pd.DataFrame({"m": GRID, "pair": pair, "loss_positive": base - decay * (1 + 0.1 * np.tanh(GRID))})
        for pair, base in ((0, 3.0), (1, 1.5))
    ]
    table = pd.concat(rows, ignore_index=True)
    table["loss_negative"] = table["loss_positive"] + 0.2 * np.tanh(table["m"]) + 0.1 * table["pair"]
    losses = table["loss_positive"].to_numpy(), table["loss_negative"].to_numpy()
    return table.assign(preference=sk.preference_log_odds(*losses), utility=sk.utility_log_odds(*losses))


def test_the_table_says_what_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [
        Cell("tiny-qwen2", "psychopathy", "vector", "split", 0),
        Cell("tiny-qwen2", "psychopathy", "vector", "split", 1),
        Cell("tiny-qwen2", "psychopathy", "vector", "sft", 0),
        Cell("tiny-qwen2", "axbench/music", "vector", "split", 0),
    ]
    monkeypatch.setattr(
        loss_reduction,
        "swept_cells",
        lambda *_: [SimpleNamespace(cell=one, sweep=made_sweep) for one in cells],
    )
    monkeypatch.setattr(loss_reduction, "answer_lengths", lambda *_, **__: np.array([[5, 8], [6, 12]]))
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    profile = replace(PROFILE, grid=tuple(GRID))
    tables = loss_reduction.reductions(profile, jobs=1)
    table = tables["reduction"].set_index("reduction")
    assert table.index.tolist() == ["mean", "sum"]
    undefined = made_sweep("train")["utility"].isna().mean()
    assert 0 < undefined < 0.5
    assert table["share_undefined"].tolist() == pytest.approx([undefined, 0.0], rel=1e-3)
    assert table["n_pairs_utility"].tolist() == [1, 2]
    assert table.loc["sum", "from_smaller_loss"] < 0.1 < table.loc["mean", "from_smaller_loss"]
    # two pairs are always on a line: the one with the longer negative answer prefers more
    assert table["length_correlation"].tolist() == pytest.approx([1.0, 1.0])
    curves = tables["reduction_curves"]
    assert len(curves) == 2 * len(GRID)
    figure = plot_curves.figure_reductions(curves, "tiny-qwen2")
    drawn = [line for axes in figure.axes for line in axes.lines if len(line.get_xdata()) == len(GRID)]
    assert sorted(line.get_linestyle() for line in drawn) == ["-", "-", "--", "--"]
    with pytest.raises(ValueError, match="tiny-gemma2"):
        plot_curves.figure_reductions(curves, "tiny-gemma2")


def test_a_profile_without_such_cells_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_reduction, "swept_cells", lambda *_: [])
    with pytest.raises(ValueError, match="smoke has no curves of split"):
        loss_reduction.reductions.__wrapped__(get_profile("smoke"), jobs=1)
