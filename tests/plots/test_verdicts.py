"""Figures of verdicts from made-up ones."""

import pandas as pd
import pytest

from splitkit.plots.verdicts import figure_verdicts
from splitkit.studies.decisions.grading import undecided
from splitkit.studies.decisions.rules import RULES
from splitkit.studies.decisions.view import ClaimView


def test_every_verdict_is_a_row_beside_the_bars() -> None:
    rows = pd.concat(
        [undecided("C5", "tiny-qwen2", task, "").verdicts for task in ("axbench", "psychopathy")]
    )
    rows = pd.concat([rows, rows.assign(part="usable window")]).assign(tier="tiny")
    judged = {"ours": 0.8, "low": 0.7, "high": 0.9, "control": 0.4, "verdict": "holds"}
    rows.loc[rows["task"] == "axbench", list(judged)] = list(judged.values())
    view = ClaimView(RULES["C5"], rows.reset_index(drop=True), pd.DataFrame(), pd.DataFrame())
    figure = figure_verdicts(view)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[::-1] == [
        "tiny, tiny-qwen2, axbench",
        "tiny, tiny-qwen2, psychopathy (no number)",
        "tiny, tiny-qwen2, usable window",
        "tiny, tiny-qwen2, usable window (no number)",
    ]
    drawn = {line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"}
    assert drawn == {0.5, 0.25}
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["holds", "in part", "does not hold", "undecided", "directions"]
    with pytest.raises(ValueError, match="no tier has a verdict on C5"):
        figure_verdicts(ClaimView(RULES["C5"], rows.iloc[:0], rows, rows))
