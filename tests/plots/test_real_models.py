"""Figures of released models: one bold line, thin controls, nats per token from the unsteered model."""

import numpy as np
import pandas as pd
import pytest

from splitkit.plots import real_models as plots
from splitkit.plots.style import OBJECTIVES
from tests.studies.real.tables import curves


def test_a_direction_is_bold_and_controls_are_thin_and_grey() -> None:
    figure = plots.figure_directions(curves(), ["a", "b"], "psychopathy", "diffmean")
    above, _, below, _ = figure.axes
    bold = [line for line in above.lines if line.get_linewidth() > 2]
    thin = [line for line in above.lines if line.get_color() == OBJECTIVES["random"].colour]
    assert len(bold) == 1 and len(thin) == 3
    # sums over two tokens
    assert bold[0].get_ydata() == pytest.approx(np.array([-1.0, 0.0, 1.0]))
    assert min(below.lines[0].get_ydata()) == pytest.approx(-2.0)
    with pytest.raises(ValueError, match="no model 'c'"):
        plots.figure_directions(curves(), ["c"], "psychopathy", "diffmean")


def test_the_steered_layer_is_black_and_lost_strengths_are_crossed() -> None:
    rows = [(layer, m, 0.5 + layer * m / 10, -3 * m) for layer in (1, 2) for m in (0.0, 0.2, 0.7)]
    scan = pd.DataFrame(rows, columns=["layer", "m_relative", "accuracy", "utility"]).assign(model="a")
    (axes,) = plots.figure_layers(scan, {"a": 2}).axes
    black = [line for line in axes.lines if line.get_color() == "black"]
    assert list(black[0].get_ydata()) == pytest.approx([50, 54, 64]) and list(black[1].get_xdata()) == [0.7]
    assert "layer 2" in axes.get_title()
