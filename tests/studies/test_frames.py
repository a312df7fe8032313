"""Families: concepts and seeds pooled at equal relative strength, and nothing else mixed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splitkit.runs.profiles import get_profile
from splitkit.storage import paths
from splitkit.studies import fits, frames
from splitkit.studies.fits import fit_table

M = np.linspace(-4, 4, 11)


def cell(task: str, factor: float, seed: int = 0, utility: float = 1.0) -> pd.DataFrame:
    decay = 1 / (1 + M**2)
    curve = {"m_relative": M, "m": M * factor, "preference": factor * M * decay, "utility": utility * decay}
    keys = {"model": "tiny-qwen2", "task": task, "form": "lora", "objective": "sft", "seed": seed}
    return pd.DataFrame(curve).assign(**keys, split="train")


def test_a_familys_curve_is_the_mean_over_concepts_and_seeds() -> None:
    parts = [cell("axbench/ocean", 1.0), cell("axbench/music", 3.0), cell("psychopathy", 5.0)]
    parts += [cell("psychopathy", 7.0, seed=1), cell("powerseeking", 9.0)]
    table = frames.family_curves(pd.concat(parts)).set_index(["task", "m_relative"])
    assert set(table.index.get_level_values("task")) == {"axbench", "psychopathy", "powerseeking"}
    assert (table["seed"] == "mean").all()
    for task, factor, n in (("axbench", 2.0, 2), ("psychopathy", 6.0, 2), ("powerseeking", 9.0, 1)):
        own = table.loc[task]
        np.testing.assert_allclose(own["preference"], factor * M / (1 + M**2))
        assert (own["n_cells"] == n).all()
        # of two values, the standard deviation is their distance over the root of two
        expected = np.abs(2 * M / (1 + M**2)) / np.sqrt(2) if n == 2 else np.full(len(M), np.nan)
        np.testing.assert_allclose(own["preference_sd"], expected, atol=1e-12)
    assert fit_table(table.reset_index())["r2"].min() > 0.99


def test_a_cell_without_utility_is_left_out_of_its_mean_alone() -> None:
    parts = [cell("axbench/ocean", 1.0, utility=np.nan), cell("axbench/music", 3.0, utility=2.0)]
    table = frames.family_curves(pd.concat(parts))
    np.testing.assert_allclose(table["utility"], 2 / (1 + M**2))
    np.testing.assert_allclose(table["preference"], 2 * M / (1 + M**2))


def test_other_strengths_and_missing_columns_are_refused() -> None:
    other = cell("axbench/music", 1.0).assign(m_relative=M / 2)
    with pytest.raises(ValueError, match=r"axbench.*same relative strengths"):
        frames.family_curves(pd.concat([cell("axbench/ocean", 1.0), other]))
    with pytest.raises(ValueError, match="utility"):
        frames.family_curves(cell("psychopathy", 1.0).drop(columns="utility"))


def test_families_come_in_the_papers_order() -> None:
    tasks = pd.Series(["axbench/ocean", "other", "psychopathy", "axbench/music"])
    assert frames.families_of(tasks) == ["psychopathy", "axbench", "other"]
    table = pd.DataFrame({"model": ["b", "a", "a", "a"], "task": tasks})
    found = [(model, family, len(rows)) for model, family, rows in frames.by_model_and_family(table)]
    assert found == [("a", "axbench", 1), ("a", "other", 1), ("a", "psychopathy", 1), ("b", "axbench", 1)]


def test_fits_are_computed_once_and_of_training_curves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    train = pd.concat([cell("axbench/ocean", 1.0), cell("axbench/music", 3.0)], ignore_index=True)
    curves = pd.concat([train, train.assign(split="test")], ignore_index=True)
    profile = get_profile("embedded")
    monkeypatch.setattr(fits, "mean_curves", lambda *_: {"curves": curves})
    tables = fits.cell_fits(profile, jobs=1) | fits.family_fits(profile, jobs=1)
    assert tables["fits"]["task"].tolist() == ["axbench/ocean"] * 2 + ["axbench/music"] * 2
    assert tables["family_fits"][frames.CURVE].drop_duplicates().to_numpy().tolist() == [
        ["tiny-qwen2", "axbench", "lora", "sft", "mean", "train"]
    ]
    # a second time they are read, not computed: curves that could not be fitted do no harm
    monkeypatch.setattr(fits, "mean_curves", lambda *_: {"curves": curves.head(3)})
    assert fits.cell_fits(profile, jobs=1)["fits"].equals(tables["fits"])
