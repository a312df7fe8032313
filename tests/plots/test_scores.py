"""Figures of scores show the data they were given."""

import numpy as np
import pandas as pd
import pytest

from splitkit.plots import scores
from splitkit.plots.style import OBJECTIVES


def strengths() -> pd.DataFrame:
    cells = [("axbench/ocean", 0), ("axbench/music", 0), ("axbench/ocean", 1), ("axbench/music", 1)]
    return pd.DataFrame(
        {"model": "a", "task": task, "form": "lora", "objective": "split", "seed": seed}
        | {"m_relative": m, "score": m + seed + (task == "axbench/ocean")}
        for task, seed in cells
        for m in (0.5, 1.0)
    )


def test_a_line_is_the_mean_and_its_band_the_seeds() -> None:
    unsteered = pd.DataFrame({"model": "a", "task": ["axbench/ocean", "axbench/music"], "score": [0.2, 0.4]})
    axes = scores.figure_strengths(strengths(), unsteered, "axbench").axes[0]
    grey, line = axes.lines
    np.testing.assert_allclose(grey.get_ydata(), 0.3)
    np.testing.assert_allclose(line.get_ydata(), [1.5, 2.0])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1.0, 2.5)
    with pytest.raises(ValueError, match="no task of powerseeking"):
        scores.figure_strengths(strengths(), unsteered, "powerseeking")
    with pytest.raises(ValueError, match="m_relative"):
        scores.figure_strengths(strengths().drop(columns="m_relative"), unsteered, "axbench")


def test_differences_are_drawn_where_they_are() -> None:
    row = {"model": "a", "metric": "x", "form": "lora", "low": 0.1, "high": 0.3, "difference": 0.2}
    rows = [row | {"rival": "sft", "outcome": "ceiling"}, row | {"rival": "dpo", "outcome": "tie"}]
    axes = scores.figure_differences(pd.DataFrame(rows), ["x"]).axes[0]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in points] == [0.2]
    assert points[0].get_markerfacecolor() == "white"
    assert axes.collections[0].get_segments()[0][:, 0].tolist() == [0.1, 0.3]
    with pytest.raises(ValueError, match="no comparison on"):
        scores.figure_differences(pd.DataFrame(rows), ["y"])


def test_gains_with_the_bar_of_the_rule() -> None:
    row = {"model": "a", "metric": "x", "form": "vector"}
    rows = [row | {"objective": name, "gain": gain} for name, gain in (("split", 2.0), ("dpo", 0.25))]
    axes = scores.figure_gains(pd.DataFrame(rows), 0.25).axes[0]
    bar = axes.patches[0]
    assert (bar.get_x(), bar.get_width()) == (-0.5, 1.0)
    drawn = {line.get_color(): line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1}
    assert drawn == {OBJECTIVES["split"].colour: 2.0, OBJECTIVES["dpo"].colour: 0.25}


def test_layers_with_the_used_one_filled() -> None:
    table = pd.DataFrame({"model": "a", "layer": [0, 1], "steered": [False, True], "score": [60.0, 90.0]})
    table = table.assign(low=50.0, high=95.0, unsteered=50.0)
    grey, line, used = scores.figure_layers(table).axes[0].lines
    assert set(grey.get_ydata()) == {50.0}
    assert line.get_ydata().tolist() == [60.0, 90.0]
    assert (used.get_xdata().tolist(), used.get_ydata().tolist()) == ([1], [90.0])
