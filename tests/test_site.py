"""The site's data agree with the committed tables, and every committed figure is in its index."""

import numpy as np
import pandas as pd

from docs import dial_data, figure_index
from splitkit.curves.decay import curve, r2
from splitkit.storage.paths import DATA, ROOT

DIAL = dial_data.dial(DATA / "results")


def test_the_fitted_curves_have_the_recorded_r2_on_the_measured_points() -> None:
    found = [
        (r2(points[kind], curve(kind, np.array(points["m_relative"]), parameters)), parameters["r2"])
        for cell in DIAL["cells"]
        for points in [cell["splits"]["train"]]
        for kind, parameters in cell["fits"].items()
    ]
    assert len(found) > 1.8 * len(DIAL["cells"])
    ours, recorded = np.array(found).T
    # parameters and strengths are rounded to 4 and 5 digits
    assert np.abs(ours - recorded).max() < 0.01


def test_real_models_come_first_and_answers_are_the_tables() -> None:
    real = [model["real"] for model in DIAL["models"]]
    assert real == sorted(real, reverse=True)
    assert any(real) and not all(real)
    texts = pd.read_csv(DATA / "results" / "small" / "text_answers.csv", keep_default_na=False)
    for cell in DIAL["cells"]:
        strengths = [answer["m"] for answer in cell["answers"]]
        assert strengths == sorted(strengths)
        if cell["answers"] and cell["model"] in set(texts["model"]):
            assert strengths[0] == 0.0
            assert {answer["answer"] for answer in cell["answers"]} <= set(texts["text"])
    assert any(cell["answers"] for cell in DIAL["cells"])


def test_every_committed_figure_is_in_the_index() -> None:
    drawn = figure_index.figures(ROOT)
    shown = {file for figure in drawn for file in figure.files}
    # `make bench` draws this one
    assert {file.name for file in set((ROOT / "figures").rglob("*.png")) - shown} <= {"benchmarks.png"}
    for figure in drawn:
        assert figure.files, f"{figure.notebook} saves {figure.name}, which is not there"
        assert all(file.with_suffix(".svg").is_file() for file in figure.files)
        assert figure.caption
    assert sum(bool(figure.tables) for figure in drawn) > 0.8 * len(drawn)
