"""Bootstrap over pairs: against resampling by hand, on sweeps whose pairs differ by known amounts."""

import math

import numpy as np
import pandas as pd
import pytest

from splitkit.curves.bootstrap import Estimate, bootstrap_cell, interval_rows, pair_counts
from splitkit.curves.decay import fit_preference, preference_curve, utility_curve
from splitkit.curves.validity import Validity

M = 8 * np.sinh(np.linspace(-3, 3, 17)) / np.sinh(3)
CURVE = Validity(1.2, 6.0, 1.3, -1.2, 6.0, 1.3)


def sweep(seed: int, n_pairs: int = 12, unit: float = 2.0) -> pd.DataFrame:
    """Pairs that differ in slope and height, and by a little noise at each m; m in another unit."""
    random = np.random.default_rng(seed)
    parts = []
    for pair in range(n_pairs):
        slope, height = 1 + 0.4 * random.standard_normal(), 0.3 * random.standard_normal()
        noise = 0.05 * random.standard_normal((2, len(M)))
        columns = {
            "m": unit * M,
            "pair": pair,
            "preference": preference_curve(M, slope, 0.2, height, CURVE) + noise[0],
            "utility": utility_curve(M, 2 * slope, height, CURVE) + noise[1],
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def test_draws_are_those_of_resampled_pairs() -> None:
    sweeps = {"train": sweep(0), "test": sweep(1)}
    estimates = bootstrap_cell(sweeps, M, "psychopathy", draws=40)
    values = {
        split: table.pivot(index="m", columns="pair", values="preference").to_numpy()
        for split, table in sweeps.items()
    }
    for draw in (0, 7):
        drawn = {}
        for split in values:
            picked = np.repeat(np.arange(12), pair_counts("psychopathy", split, 12, 40)[draw])
            assert len(picked) == 12
            drawn[split] = values[split][:, picked].mean(axis=1)
        fit = fit_preference(M, drawn["train"])
        assert estimates["train", "preference", "r2"].draws[draw] == pytest.approx(fit.r2, abs=1e-4)
        transferred = fit.score(M, drawn["test"])
        assert estimates["transfer", "preference", "r2"].draws[draw] == pytest.approx(transferred, abs=1e-3)
    full = fit_preference(M, values["train"].mean(axis=1))
    assert estimates["train", "preference", "r2"].value == full.r2
    assert estimates["train", "preference", "alpha"].value == full.parameters["alpha"]
    assert estimates["train", "preference", "breakdown_positive"].value == full.breakdown().positive
    low, high = estimates["train", "preference", "alpha"].interval()
    # slopes vary by 0.4 from pair to pair: their mean over 12 by about 0.12
    assert 0.2 < high - low < 0.8 and low < full.parameters["alpha"] < high


def test_the_same_pairs_are_drawn_for_all_cells_of_a_task_and_others_for_another() -> None:
    counts = pair_counts("psychopathy", "train", 12)
    assert (counts == pair_counts("psychopathy", "train", 12)).all() and (counts.sum(axis=1) == 12).all()
    assert not (counts == pair_counts("psychopathy", "test", 12)).all()
    assert not (counts == pair_counts("powerseeking", "train", 12)).all()


def test_utility_is_about_the_pairs_that_have_it_everywhere() -> None:
    partly, never = sweep(0), sweep(1)
    partly.loc[(partly["pair"] < 8) & (partly["m"] > 3), "utility"] = math.nan
    never["utility"] = math.nan
    estimates = bootstrap_cell({"train": partly, "test": never}, M, "psychopathy", draws=40)
    defined = partly[partly["pair"] >= 8].groupby("m")["utility"].mean()
    assert estimates["train", "utility", "r2"].value > 0.9
    assert estimates["train", "utility", "b_u"].value == pytest.approx(defined.iloc[0], abs=0.5)
    assert math.isnan(estimates["test", "utility", "r2"].value)
    assert "Eq. 8" in estimates["test", "utility", "r2"].flag
    assert math.isnan(estimates["transfer", "utility", "r2"].interval()[0])


def test_a_breakdown_beyond_the_grid_is_infinite_and_named() -> None:
    wide = sweep(0)
    wide = wide[wide["m"].abs() < 2 * 2.0]
    near = M[np.abs(M) < 2.0]
    estimates = bootstrap_cell({"train": wide, "test": wide}, near, "psychopathy", draws=20)
    rows = pd.DataFrame(interval_rows(estimates)).set_index(["split", "curve", "quantity"])
    row = rows.loc[("train", "utility", "breakdown_positive")]
    assert row["value"] == math.inf and row["high"] == math.inf and row["flag"] == "outside the grid"
    assert row["share_finite"] < 1
    with pytest.raises(ValueError, match="9 strengths|strengths, not"):
        bootstrap_cell({"train": wide, "test": wide}, M, "psychopathy", draws=20)


def test_an_interval_is_of_the_defined_draws_when_most_are() -> None:
    draws = np.array([*range(1, 101), math.inf], dtype=float)
    assert Estimate(50.0, draws).interval() == (3.0, 99.0)
    mostly = np.where(np.arange(101) < 60, math.nan, draws)
    assert math.isnan(Estimate(50.0, mostly).interval()[0])
