"""The looks of figures: one for each registered name, no colour twice, and a default for what is new."""

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from splitkit.plots.curves import figure2_curves
from splitkit.plots.fits import figure_fits
from splitkit.plots.style import CONTROLS, CURVES, FORMS, MODELS, OBJECTIVES, Looks
from splitkit.runs import profiles
from splitkit.steering import forms, objectives
from splitkit.studies.fits import fit_table

SETS = {"forms": FORMS, "objectives": OBJECTIVES, "curves": CURVES, "models": MODELS}
M = np.linspace(-4, 4, 13)


def test_every_registered_name_has_a_look() -> None:
    assert set(forms.FORMS) == set(FORMS)
    assert {*objectives.OBJECTIVES, *objectives.CLOSED, "vanilla"} == set(OBJECTIVES)
    assert objectives.CONTROLS == profiles.CONTROLS == tuple(CONTROLS)


def test_no_colour_stands_for_two_things() -> None:
    colours = [look.colour for looks in SETS.values() for name, look in looks.items() if name not in CONTROLS]
    assert len(colours) == len(set(colours))
    # further apart than the two closest of today, in red, green and blue
    nearest = min(np.linalg.norm(np.subtract(to_rgb(a), to_rgb(b))) for a, b in combinations(colours, 2))
    assert nearest > 0.1


@pytest.mark.parametrize("looks", SETS.values(), ids=SETS)
def test_without_colour_markers_tell_looks_apart(looks: Looks) -> None:
    assert len({look.marker for look in looks.values()}) == len(looks)


def test_a_form_and_an_objective_without_a_look_are_drawn() -> None:
    decay = 1 / (1 + M**2 / 3)
    curve = {"m_relative": M, "preference": (M + 0.2) * decay, "utility": 3 * decay - 2}
    keys = {"model": "m", "task": "psychopathy", "seed": 0, "split": "train"}
    names = [("vector", "split"), ("toy_form", "split"), ("lora", "toy")]
    curves = pd.concat(pd.DataFrame(curve).assign(**keys, form=f, objective=o) for f, o in names)
    figure = figure2_curves(curves, "m", "psychopathy")
    assert [len(axes.lines) for axes in figure.axes[2:]] == [1, 2]
    assert [axes.get_title() for axes in figure.axes[:2]] == [
        "vector", "LoRA and local weight and toy form",
    ]  # fmt: skip
    assert "toy" in [text.get_text() for text in figure.legends[0].get_texts()]
    table = curves.assign(seed="mean")
    titles = [axes.get_title() for axes in figure_fits(table, fit_table(table), "m", "psychopathy").axes]
    assert any(re.match("toy form, SPLIT", title) for title in titles)
