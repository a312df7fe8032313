"""Figures hold the data they were given, refuse tables that lack it, and are written to equal bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splitkit import figures
from splitkit.fits import fit_table

GRID = np.linspace(-4, 4, 13)


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    kinds = [("vector", "diffmean"), ("vector", "split"), ("lora", "split"), ("local_weight", "split")]
    parts = []
    for index, (form, objective) in enumerate(kinds):
        decay = 1 / (1 + GRID**2 / (2 + index))
        parts.append(
            pd.DataFrame(
                {"m_relative": GRID, "preference": (GRID + 0.2) * decay, "utility": 3 * decay - 2}
            ).assign(
                model="embedded-qwen2",
                task="psychopathy",
                form=form,
                objective=objective,
                seed=0,
                split="train",
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_figure2_draws_every_curve(curves: pd.DataFrame) -> None:
    figure = figures.figure2_curves(curves, "embedded-qwen2", ["psychopathy"])
    top, bottom, *twins = figure.axes
    drawn = [line for line in top.lines if len(line.get_xdata()) == len(GRID)]
    assert len(drawn) == 2 and len([line for line in bottom.lines if len(line.get_xdata()) == len(GRID)]) == 2
    expected = curves.query("form == 'vector' and objective == 'diffmean'")["preference"]
    np.testing.assert_allclose(drawn[0].get_ydata(), expected)
    assert [line.get_linestyle() for axes in twins for line in axes.lines] == ["--"] * 4


def test_figure_fits_shows_points_lines_and_r2(curves: pd.DataFrame) -> None:
    figure = figures.figure_fits(curves, fit_table(curves), "embedded-qwen2", "psychopathy")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 4 and all("R² = 1.000, 1.000" in title for title in titles)


def test_figure_fits_without_utility(curves: pd.DataFrame) -> None:
    table = curves.assign(utility=np.nan)
    figure = figures.figure_fits(table, fit_table(table), "embedded-qwen2", "psychopathy")
    assert any("undefined" in axes.get_title() for axes in figure.axes)


def test_r2_beside_the_paper_shows_both_and_what_is_off_the_scale() -> None:
    rows = [
        ("psychopathy", "preference", 0.99, 0.97),
        ("psychopathy", "utility", -12.0, np.nan),
        ("axbench/ocean", "preference", 0.98, 0.96),
        ("axbench/music", "preference", 0.95, 0.96),
    ]
    table = pd.DataFrame(rows, columns=["task", "curve", "r2", "paper"])
    table = table.assign(model="embedded-qwen2", form="vector", objective="sft")
    left, right = figures.figure_r2_beside_paper(table).axes
    # the paper's number for AxBench once, ours for each concept
    assert sorted(float(line.get_xdata()[0]) for line in left.lines) == [0.95, 0.96, 0.97, 0.98, 0.99]
    assert [text.get_text() for text in right.texts] == ["-12.00"]


def test_figure1_sketches_or_shows_measured_curves(curves: pd.DataFrame) -> None:
    sketch = figures.figure1_forms()
    assert [len(axes.lines) for axes in sketch.axes[1:]] == [4, 4]
    measured = figures.figure1_forms(curves.query("objective == 'split'"))
    np.testing.assert_allclose(measured.axes[1].lines[0].get_xdata(), GRID)
    with pytest.raises(ValueError, match="twice"):
        figures.figure1_forms(curves)
    with pytest.raises(ValueError, match="utility"):
        figures.figure1_forms(curves.drop(columns="utility"))


def test_unknown_selections_list_what_there_is(curves: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"no task 'psycopathy'; it has \['psychopathy'\]"):
        figures.figure2_curves(curves, "embedded-qwen2", ["psycopathy"])
    with pytest.raises(ValueError, match="lacks the column 'model'"):
        figures.figure2_curves(curves.drop(columns="model"), "embedded-qwen2", ["psychopathy"])


def test_equal_figures_are_written_to_equal_bytes(curves: pd.DataFrame, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        written = figures.save(
            figures.figure2_curves(curves, "embedded-qwen2", ["psychopathy"]), "curves", tmp_path / folder
        )
        assert [path.name for path in written] == ["curves.png", "curves.svg"]
    for name in ("curves.png", "curves.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_notebook_shows_a_figure_without_a_magic_command() -> None:
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(figures.figure1_forms())
    assert shown["image/png"].startswith(b"\x89PNG")
