"""Figures of one's own tables: what they draw and say, and what they refuse."""

import numpy as np
import pandas as pd
import pytest

from splitkit.plots.own_data import plot_layers, plot_projection, plot_sweep

M = np.linspace(-2, 2, 11)


def sweep(m: np.ndarray) -> pd.DataFrame:
    rows = [(x, pair, x / (1 + x * x) + 0.1 * pair, -x * x / (1 + x * x)) for x in m for pair in range(3)]
    return pd.DataFrame(rows, columns=["m", "pair", "preference", "utility"])


def test_a_sweep_is_drawn_with_fits_window_and_operating_point() -> None:
    figure = plot_sweep(sweep(M), unit=2.0)
    preference, utility, decay = figure.axes
    assert preference.get_title().startswith("preference log-odds, 3 pairs; Eq. 15, R² = 1.0")
    assert utility.get_title().startswith("utility log-odds, 3 pairs; Eq. 17, R² = ")
    assert preference.get_ylabel() == utility.get_ylabel() == "nats" and decay.get_ylabel() == "D"
    # utility is -1/2 at |m| = 1: 0.8 is the last strength within, in units of 2
    edges = preference.patches[0].get_extents().transformed(preference.transData.inverted())
    assert (edges.x0, edges.x1) == pytest.approx((-0.4, 0.4))
    assert "m = 0.8 (0.4 of the unit)" in figure.legends[0].get_texts()[4].get_text()
    assert figure.png()[:4] == b"\x89PNG"


def test_a_curve_that_cannot_be_fitted_says_why() -> None:
    figure = plot_sweep(sweep(M[M >= 0]))
    assert figure.axes[0].get_title() == "preference log-odds, 3 pairs"
    assert "Eq. 15 not fitted: Eq. 12 has a side" in figure.axes[2].texts[0].get_text()
    with pytest.raises(ValueError, match="unit is a matching strength"):
        plot_sweep(sweep(M), unit=-1.0)
    with pytest.raises(ValueError, match="no m = 0"):
        plot_sweep(sweep(M[M > 0]))


def test_a_scan_and_a_projection_are_drawn() -> None:
    rows = [(n, r, 0.5 + r * (n == 2), r * n, -2 * r * (n == 3)) for n in (1, 2, 3) for r in (0.0, 0.3, 0.7)]
    scan = pd.DataFrame(rows, columns=["layer", "m_relative", "accuracy", "preference", "utility"])
    figure = plot_layers(scan)
    assert [line.get_text() for line in figure.legends[0].get_texts()][:3] == ["0.3", "0.7", "best layer: 2"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["nats", "nats"] and figure.png()
    table = pd.DataFrame(
        [(m, i, word, i > 0, i + m) for m in (0.0, 1.0) for i, word in enumerate(["<bos>", " $a", "\n"])],
        columns=["m", "position", "token", "steered", "projection"],
    )
    (axes,) = plot_projection(table).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["<bos>", r"\$a", r"\n"]
    with pytest.raises(ValueError, match="lacks the columns"):
        plot_projection(table.drop(columns="token"))
    with pytest.raises(ValueError, match="room for 120"):
        plot_projection(pd.concat([table.assign(position=n) for n in range(130)]))
