"""Figures hold the data they were given, refuse tables that lack it, and are written to equal bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from splitkit.plots import curves as plot_curves
from splitkit.plots.style import FORMS, OBJECTIVES, curve_look

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
                model="tiny-qwen2",
                task="psychopathy",
                form=form,
                objective=objective,
                seed=0,
                split="train",
            )
        )
    return pd.concat(parts, ignore_index=True)


def lines_of(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if len(line.get_xdata()) == len(GRID)]


def test_figure2_draws_the_mean_of_the_concepts(curves: pd.DataFrame) -> None:
    ocean, music = curves.assign(task="axbench/ocean"), curves.assign(task="axbench/music")
    music = music.assign(preference=3 * music["preference"])
    figure = plot_curves.figure2_curves(pd.concat([ocean, music, curves]), "tiny-qwen2")
    top, bottom, *twins = figure.axes
    assert [len(lines_of(axes)) for axes in (top, bottom)] == [2, 2]
    expected = curves.query("form == 'vector' and objective == 'diffmean'")["preference"].to_numpy()
    np.testing.assert_allclose(lines_of(top)[0].get_ydata(), 2 * expected)
    # the band is one standard deviation over the two concepts
    edge = top.collections[0].get_paths()[0].vertices[:, 1].max()
    assert edge == pytest.approx((2 * expected + np.sqrt(2) * np.abs(expected)).max())
    assert [line.get_linestyle() for axes in twins for line in axes.lines] == ["--"] * 4
    assert "means of 2 cells" in figure._suptitle.get_text()


def test_figure5_has_a_block_per_task_and_a_column_per_model(curves: pd.DataFrame) -> None:
    parts = [
        curves.assign(model=model, task=task)
        for model in ("tiny-gemma2", "tiny-qwen2")
        for task in ("psychopathy", "powerseeking")
    ]
    figure = plot_curves.figure5_curves(pd.concat(parts), ["tiny-gemma2", "tiny-qwen2"])
    assert [block._suptitle.get_text() for block in figure.subfigs] == [
        "(a) PowerSeeking, train pairs", "(b) Psychopathy, train pairs",
    ]  # fmt: skip
    for block in figure.subfigs:
        titles = [axes.get_title() for axes in block.axes if axes.get_title()]
        assert len(titles) == 4 and titles[0] == "tiny-gemma2: vector"
        assert sum(len(lines_of(axes)) for axes in block.axes) == 16


def test_curves_differ_without_colour() -> None:
    """Form, objective and curve can be told in grey: by marker, by its filling, by the line's dashes."""
    looks = [curve_look(form, objective) for form in FORMS for objective in OBJECTIVES]
    shown = {(look["marker"], look["markerfacecolor"] == "white") for look in looks}
    assert len(shown) == 2 * len(OBJECTIVES)


def test_figure1_sketches_or_shows_measured_curves(curves: pd.DataFrame) -> None:
    sketch = plot_curves.figure1_forms()
    assert [len(axes.lines) for axes in sketch.axes[1:]] == [4, 4]
    measured = plot_curves.figure1_forms(curves.query("objective == 'split'"))
    np.testing.assert_allclose(measured.axes[1].lines[0].get_xdata(), GRID)
    with pytest.raises(ValueError, match="twice"):
        plot_curves.figure1_forms(curves)
    with pytest.raises(ValueError, match="utility"):
        plot_curves.figure1_forms(curves.drop(columns="utility"))


def test_unknown_selections_list_what_there_is(curves: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"no task 'psycopathy'; it has \['psychopathy'\]"):
        plot_curves.figure2_curves(curves, "tiny-qwen2", "psycopathy")
    with pytest.raises(ValueError, match=r"lacks the columns \['model'\]"):
        plot_curves.figure2_curves(curves.drop(columns="model"), "tiny-qwen2", "psychopathy")


def test_equal_figures_are_written_to_equal_bytes(curves: pd.DataFrame, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        written = plot_curves.save(
            plot_curves.figure2_curves(curves, "tiny-qwen2", "psychopathy"), "curves", tmp_path / folder
        )
        assert [path.name for path in written] == ["curves.png", "curves.svg"]
    for name in ("curves.png", "curves.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_notebook_shows_a_figure_without_a_magic_command() -> None:
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(plot_curves.figure1_forms())
    assert shown["image/png"].startswith(b"\x89PNG")
