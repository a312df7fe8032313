"""Figures of trust in fits show the data they were given."""

import numpy as np
import pandas as pd
import pytest

from splitkit.plots import fits
from splitkit.studies.fits import fit_table
from splitkit.studies.rival_curves import CANDIDATES


def test_rivals_are_drawn_with_their_medians() -> None:
    rows = [
        {"curve": curve, "rival": rival, "parameters": 7, "interleaved": 0.01 * (i + 1), "outer": np.nan}
        for curve in ("preference", "utility")
        for rival in CANDIDATES
        for i in range(3)
    ]
    figure = fits.figure_rivals(pd.DataFrame(rows))
    first = figure.axes[0]
    points = [line for line in first.lines if len(line.get_xdata()) == 3]
    assert len(points) == len(CANDIDATES)
    np.testing.assert_allclose(points[0].get_xdata(), [0.01, 0.02, 0.03])
    medians = [bar.get_segments()[0][0][0] for bar in first.collections]
    assert medians == pytest.approx([0.02] * len(CANDIDATES))
    assert [text.get_text() for text in figure.axes[1].texts] == ["too few strengths"]
    with pytest.raises(ValueError, match="outer"):
        fits.figure_rivals(pd.DataFrame(rows).drop(columns="outer"))


def test_null_curves_are_drawn_beside_the_measured() -> None:
    null = pd.DataFrame({"shape": ["smooth random curve"] * 2 + ["line"], "curve": "preference"})
    null["r2"] = [0.9, 0.99, 1.0]
    measured = pd.DataFrame({"curve": ["preference"], "r2": [0.999]})
    figure = fits.figure_null(null, measured, {"preference": 0.95, "utility": 0.97})
    ours, smooth, bar = figure.axes[0].lines
    np.testing.assert_allclose(ours.get_xdata(), [0.001])
    np.testing.assert_allclose(smooth.get_xdata(), [0.01, 0.1])
    np.testing.assert_allclose(bar.get_xdata(), 0.05)


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    m = np.linspace(-4, 4, 13)
    kinds = [("vector", "diffmean"), ("vector", "split"), ("local_weight", "split")]
    parts = []
    for index, (form, objective) in enumerate(kinds):
        decay = 1 / (1 + m**2 / (2 + index))
        keys = {"model": "tiny-qwen2", "task": "axbench", "form": form, "objective": objective}
        curve = {"m_relative": m, "preference": (m + 0.2) * decay, "utility": 3 * decay - 2}
        parts.append(pd.DataFrame(curve).assign(**keys, seed="mean", split="train"))
    return pd.concat(parts, ignore_index=True)


def test_figure_fits_shows_points_lines_and_r2(curves: pd.DataFrame) -> None:
    figure = fits.figure_fits(curves, fit_table(curves), "tiny-qwen2", "axbench")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 3 and all("R² = 1.000, 1.000" in title for title in titles)


def test_figure_fits_without_utility(curves: pd.DataFrame) -> None:
    table = curves.assign(utility=np.nan)
    figure = fits.figure_fits(table, fit_table(table), "tiny-qwen2", "axbench")
    assert any("undefined" in axes.get_title() for axes in figure.axes)


def test_r2_beside_the_paper_shows_both_and_what_is_off_the_scale() -> None:
    rows = [
        ("psychopathy", "preference", 0.99, 0.97),
        ("psychopathy", "utility", -12.0, np.nan),
        ("axbench/ocean", "preference", 0.98, 0.96),
        ("axbench/music", "preference", 0.95, 0.96),
    ]
    table = pd.DataFrame(rows, columns=["task", "curve", "r2", "paper"])
    table = table.assign(model="tiny-qwen2", form="vector", objective="sft")
    left, right = fits.figure_r2_beside_paper(table).axes
    # the paper's number for AxBench once, ours for each concept, all on the family's line
    assert sorted(float(line.get_xdata()[0]) for line in left.lines) == [0.95, 0.96, 0.97, 0.98, 0.99]
    assert len({(line.get_marker(), float(line.get_ydata()[0])) for line in left.lines}) == 2
    assert [text.get_text() for text in right.texts] == ["-12.00"]


def test_a_cell_is_taken_apart_into_validity_and_what_it_multiplies() -> None:
    m = np.linspace(-4, 4, 9)
    cell = pd.DataFrame({"m_relative": m, "preference": m, "utility": -abs(m)})
    sides = {
        f"{name}_{side}": value
        for side in ("plus", "minus")
        for name, value in (("m", 0), ("L", 1), ("p", 1))
    }
    row = sides | {"breakdown_negative": -1.0, "breakdown_positive": 1.0}
    rows = [row | {"curve": "preference", "alpha": 2.0, "beta": 1.0, "b": 0.5}]
    rows += [row | {"curve": "utility", "beta_u": 3.0, "b_u": -4.0}]
    validity, preference, utility = fits.figure_validity(cell, pd.DataFrame(rows)).axes
    dense, decay = validity.lines[0].get_data()
    np.testing.assert_allclose(decay, 1 / (1 + np.square(dense)))
    fitted, without = (line.get_ydata() for line in preference.lines[1:])
    np.testing.assert_allclose(without, 2 * dense + 1.5)
    np.testing.assert_allclose(fitted - 0.5, (without - 0.5) * decay)
    np.testing.assert_allclose(utility.lines[1].get_ydata(), 3 * decay - 4)
    np.testing.assert_allclose(utility.lines[2].get_ydata(), -1.0)
