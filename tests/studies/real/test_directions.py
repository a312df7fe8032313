"""A direction beside controls: which rows are taken, and what is averaged."""

import pandas as pd
import pytest

from splitkit.studies.frames import CELL
from splitkit.studies.real import directions
from tests.studies.real.tables import curves


def test_fits_of_the_controls_are_a_range_beside_the_objectives() -> None:
    cells = curves()[CELL].drop_duplicates()
    fits = pd.concat([cells.assign(curve=name, r2=0.9) for name in ("preference", "utility")])
    fits.loc[fits["objective"] == "random", "r2"] = [0.3, 0.8] * 4
    found = directions.fits_beside_controls(fits, curves(), "diffmean").loc[("a", "utility")]
    assert found["R², diffmean"] == 0.9 and found["R², controls"] == "0.30 to 0.90 (3)"
    # two nats per token are lost on both sides: the unsteered strength alone is left
    assert found["usable strengths, diffmean"] == found["usable strengths, controls"] == 1


def test_answers_are_means_with_the_best_control_beside() -> None:
    rows = [
        ("vanilla", "vanilla", 0, "test", 0.5, 0.1),
        ("vector", "diffmean", 0, "test", 0.9, 0.2),
        ("vector", "random", 0, "test", 0.4, 0.1),
        ("vector", "random", 1, "test", 0.6, 0.3),
        ("vector", "random", 1, "validation", 1.0, 0.3),
        ("lora", "sft", 0, "test", 1.0, 0.3),
    ]
    table = pd.DataFrame(
        rows, columns=["form", "objective", "seed", "split", "correct_by_likelihood", "covered"]
    )
    table = table.assign(model="a", task="t", m_relative=0.1, correct=0.0, kl=0.0)
    found = directions.answers_beside_controls(table, "t", "diffmean")
    assert list(found.index.get_level_values(1)) == ["vanilla", "diffmean", "random"]
    random = found.loc[("a", "random")]
    assert random["right by likelihood (%)"] == pytest.approx(50) and random["highest (%)"] == 60
    assert random["n"] == 2 and random["covered"] == pytest.approx(0.2)
