"""Figures of trust in fits show the data they were given."""

import numpy as np
import pandas as pd
import pytest

from splitkit import fitpictures
from splitkit.rivals import RIVALS


def test_rivals_are_drawn_with_their_medians() -> None:
    rows = [
        {"curve": curve, "rival": rival, "parameters": 7, "interleaved": 0.01 * (i + 1), "outer": np.nan}
        for curve in ("preference", "utility")
        for rival in RIVALS
        for i in range(3)
    ]
    figure = fitpictures.figure_rivals(pd.DataFrame(rows))
    first = figure.axes[0]
    points = [line for line in first.lines if len(line.get_xdata()) == 3]
    assert len(points) == len(RIVALS)
    np.testing.assert_allclose(points[0].get_xdata(), [0.01, 0.02, 0.03])
    assert [bar.get_segments()[0][0][0] for bar in first.collections] == pytest.approx([0.02] * len(RIVALS))
    assert [text.get_text() for text in figure.axes[1].texts] == ["too few strengths"]
    with pytest.raises(ValueError, match="outer"):
        fitpictures.figure_rivals(pd.DataFrame(rows).drop(columns="outer"))


def test_null_curves_are_drawn_beside_the_measured() -> None:
    null = pd.DataFrame({"shape": ["smooth random curve"] * 2 + ["line"], "curve": "preference"})
    null["r2"] = [0.9, 0.99, 1.0]
    measured = pd.DataFrame({"curve": ["preference"], "r2": [0.999]})
    figure = fitpictures.figure_null(null, measured, {"preference": 0.95, "utility": 0.97})
    ours, smooth, bar = figure.axes[0].lines
    np.testing.assert_allclose(ours.get_xdata(), [0.001])
    np.testing.assert_allclose(smooth.get_xdata(), [0.01, 0.1])
    np.testing.assert_allclose(bar.get_xdata(), 0.05)
