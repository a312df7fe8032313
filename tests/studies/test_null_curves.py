"""Null curves: what Eq. 15 and 17 fit although no decay is behind it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from splitkit.runs.profiles import PROFILES, get_profile
from splitkit.studies import null_curves

GRID = 8 * np.sinh(np.linspace(-3, 3, 17)) / np.sinh(3)


def test_smooth_random_curves_have_their_covariance() -> None:
    curves = np.stack(
        [y for shape, y in null_curves.null_curves(GRID, 4000, 0) if shape == null_curves.SMOOTH]
    )
    place = np.linspace(0, 1, len(GRID))
    expected = np.exp(-0.5 * ((place[:, None] - place) / 0.25) ** 2)
    np.testing.assert_allclose(np.cov(curves.T), expected, atol=0.1)


def test_shapes_without_a_decay_are_fitted_and_noise_is_not() -> None:
    table = null_curves.null_table(GRID, n_random=1).set_index("shape")
    assert (table.loc[["line", "|m|", "tanh", "log cosh"], "r2"] > 0.99).all()
    assert (table.loc[null_curves.NOISE, "r2"] < 0.95).all()
    assert len(table) == 2 * (4 + 2)


def test_the_committed_table_has_the_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(null_curves, "null_table", lambda *a, **k: made.append((a[1], k)))
    null_curves.null_fits.__wrapped__(get_profile("smoke"), jobs=1)
    assert made == [(min(50, len(get_profile("smoke").cells())), {"jobs": 1})]


def test_the_length_of_random_curves_is_found_again() -> None:
    drawn = null_curves.null_curves(np.linspace(-1, 1, 33), 60, 0, length=0.12)
    smooth = np.stack([y for shape, y in drawn if shape == null_curves.SMOOTH])
    # of any offset and scale
    noisy = 3 + 5 * (smooth + 0.01 * np.random.default_rng(1).standard_normal(smooth.shape))
    length, noise = null_curves.measured_length(noisy)
    assert length == pytest.approx(0.12, rel=0.05) and noise == pytest.approx(1e-4, rel=0.5)
    with pytest.raises(ValueError, match="constant or undefined"):
        null_curves.measured_length(np.ones((2, 33)))


def test_random_curves_are_as_long_as_those_of_a_model_and_family(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.studies.decisions.tables import cell

    profile = replace(PROFILES["tiny"], grid=tuple(GRID))
    every = cell().iloc[::3].assign(m_relative=GRID).reset_index(drop=True)
    named = [("psychopathy", "sft", 0), ("axbench/ocean", "sft", 0), ("axbench/music", "reps", 1)]
    parts = [
        every.assign(task=task, objective=objective, seed=seed)
        for task, objective, seed in [*named, ("psychopathy", "random", 0)]
    ]
    table = pd.concat(parts, ignore_index=True)
    monkeypatch.setattr(null_curves, "mean_curves", lambda profile, jobs: {"curves": table})
    monkeypatch.setattr(null_curves, "measured_length", lambda curves: (0.1 * len(curves), 0.0))
    fitted = dict.fromkeys(("preference", "utility"), lambda m, y, checked: SimpleNamespace(r2=0.5))
    monkeypatch.setattr(null_curves, "_FITTERS", fitted)
    found = null_curves.random_curves.compute(profile, 1)
    lengths = found["curve_lengths"].set_index(["task", "curve"])
    assert lengths["n_curves"].to_dict() == {
        (task, curve): n
        for task, n in (("axbench", 2), ("psychopathy", 1))
        for curve in ("preference", "utility")
    }
    assert lengths.loc["axbench", "length"].tolist() == [0.2, 0.2]
    drawn = found["random_curves"]
    smooth = drawn[drawn["shape"] == null_curves.SMOOTH]
    assert smooth.groupby(["task", "curve"]).size().tolist() == [2, 2, 1, 1]
    assert set(drawn.loc[drawn["shape"] != null_curves.SMOOTH, "model"]) == {"any"}
