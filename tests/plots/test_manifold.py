import pandas as pd
import pytest

from splitkit.plots.manifold import figure3_manifold, figure_angles, figure_distances, figure_relation
from splitkit.studies.manifold.estimators import ESTIMATORS
from splitkit.studies.manifold.relation import relation_table

KEY = {"model": "m", "task": "t", "seed": 0}
KINDS = [
    ("vector", "split"),
    ("lora", "sft"),
    ("local_weight", "reps"),
    ("vector", "random"),
    ("vector", "natural"),
]


@pytest.fixture
def distances() -> pd.DataFrame:
    rows = [
        {**KEY, "form": form, "objective": objective, "site": site, "m_relative": m, "utility": -abs(m)}
        | {**dict.fromkeys(ESTIMATORS, 1 + abs(m)), "moved": abs(m)}
        for form, objective in KINDS
        for site in ("layer", "end")
        for m in (-5.0, -1.0, 0.0, 1.0, 5.0)
    ]
    return pd.DataFrame(rows)


def test_figure_3_has_the_three_points_and_both_curves(distances: pd.DataFrame) -> None:
    of_cell = {**KEY, "form": "vector", "objective": "split"}
    positions = [
        {**of_cell, "m_relative": m, "preference_axis": m, "utility_axis": 0.1 * m} for m in (-1.0, 0.0, 1.0)
    ]
    projections = pd.DataFrame(positions)
    cloud = pd.concat([projections.assign(token=n, distance=1.0 + n) for n in range(4)])
    figure = figure3_manifold(cloud, projections, distances, "m", "t")
    off, _, gain, decay = figure.axes[:4]
    assert [text.get_text() for text in off.texts if text.get_text()] == [
        "P₂ (m = -1.0)",
        "P (m = 0)",
        "P₁ (m = +1.0)",
    ]
    assert [line.get_linestyle() for line in gain.get_lines()] == ["-", "--"]
    # strengths beyond what is drawn are left out
    assert max(decay.get_lines()[0].get_xdata()) == 1.0
    with pytest.raises(ValueError, match=r"no task 'u'; it has \['t'\]"):
        figure3_manifold(cloud, projections, distances, "m", "u")


def test_distances_have_a_panel_per_site_and_estimator(distances: pd.DataFrame) -> None:
    figure = figure_distances(distances, "m", "t")
    assert len(figure.axes) == 6
    # a line per cell and control, and the natural distance
    assert all(len(axes.get_lines()) == len(KINDS) + 1 for axes in figure.axes)


def test_relation_shows_distances_beside_their_rivals(distances: pd.DataFrame) -> None:
    figure = figure_relation(distances, relation_table(distances), "m", ["t"])
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.splitlines()[0] for title in titles] == [
        "subspace, both parts",
        "nearest neighbours",
        "length of the move",
        "|m|",
    ]
    assert all("R² 1.00, per form 1.00" in title for title in titles)
    with pytest.raises(ValueError, match=r"no model 'n'; it has \['m'\]"):
        figure_relation(distances, relation_table(distances), "n", ["t"])


def test_angles_have_a_panel_per_model() -> None:
    rows = [
        {
            "model": model,
            "form": form,
            "direction": direction,
            "cosine": -0.3,
            "isotropic_95": 0.17,
            "natural_95": 0.2,
        }
        for model in ("a", "b")
        for form in ("vector", "lora", "local_weight")
        for direction in ("utility", "probe", "preference")
    ]
    figure = figure_angles(pd.DataFrame(rows))
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    marks = [line for line in figure.axes[0].get_lines() if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in marks] == [[0.3]] * 3
