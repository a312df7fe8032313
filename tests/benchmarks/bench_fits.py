"""Fits: both curves of a cell and the bootstrap, beside searches over all parameters and single refits."""

import numpy as np
import pytest
from scipy.optimize import least_squares, minimize

from splitkit.curves.bootstrap import DRAWS, bootstrap_cell, pair_counts
from splitkit.curves.decay import fit_preference, fit_utility, preference_curve, utility_curve
from splitkit.curves.validity import Validity
from splitkit.runs.results import read_table
from tests.benchmarks.racing import Race, Way

CELL = {"task": "axbench/ocean", "form": "vector", "objective": "split", "seed": 0, "split": "train"}
STARTS = 24
REFITTED = 2
"""Draws that are fitted one by one, with the fitter's own starts."""
SIDES = np.array([0.2, 1.0, 1.0, -0.2, 1.0, 1.0])


@pytest.fixture
def curve(name: str) -> dict[str, np.ndarray]:
    """m (in units of its largest), preference and utility of a committed curve."""
    table = read_table("curves")
    rows = table[(table[["model", *CELL]] == [name, *CELL.values()]).all(axis=1)].sort_values("m_relative")
    assert len(rows) == 41
    values = {column: rows[column].to_numpy(float) for column in ("m_relative", "preference", "utility")}
    return {"m": values.pop("m_relative") / rows["m_relative"].max(), **values}


def searched(curve: dict[str, np.ndarray], constrained: bool) -> list[float]:
    """R^2 of both curves from `STARTS` seeded starts, no parameter solved for: SLSQP or least squares."""
    m, found = curve["m"], []
    for kind, count in (("preference", 3), ("utility", 2)):
        y = (curve[kind] - curve[kind].mean()) / curve[kind].std()
        function = preference_curve if kind == "preference" else utility_curve
        low = np.array([-10.0] * count + [-1, 1e-4, 0.05] * 2)
        high = np.array([10.0] * count + [1, 25.0, 20.0] * 2)
        random = np.random.default_rng(0)

        def residual(p, m=m, y=y, function=function, count=count):
            return function(m, *p[:count], validity=Validity(*p[count:])) - y

        def gap(p, count=count):
            return Validity(*p[count:]).gap

        best = np.inf
        for _ in range(STARTS):
            p = np.concatenate([random.uniform(-1, 1, count), SIDES * random.uniform(0.3, 3, 6)])
            p = np.clip(p, low, high)
            if constrained:
                answer = minimize(
                    lambda p: np.mean(residual(p) ** 2),
                    p,
                    method="SLSQP",
                    bounds=np.column_stack([low, high]),
                    constraints={"type": "eq", "fun": gap},
                    options={"maxiter": 150},
                ).x
            else:
                answer = least_squares(residual, p, bounds=(low, high)).x
            best = min(best, float(np.mean(residual(answer) ** 2)))
        found.append(1 - best)
    return found


def test_fits(race: Race, name: str, curve: dict[str, np.ndarray]) -> None:
    def ours():
        pair = (fit_preference(curve["m"], curve["preference"]), fit_utility(curve["m"], curve["utility"]))
        return [fit.r2 for fit in pair]

    # as good as a search that is not held to continuity at 0 cannot be asked for; as one that is, it can
    assert np.all(np.array(ours()) >= np.array(searched(curve, constrained=True)) - 0.002)
    race.run(
        ours,
        {
            "SLSQP over all parameters, 24 starts": Way(lambda: searched(curve, constrained=True)),
            "least squares over all, 24 starts": Way(lambda: searched(curve, constrained=False)),
        },
        benchmark="fits",
        model=name,
        case="both curves",
        target=("value", "<=", 0.3),
    )


def test_bootstrap(race: Race, name: str, curve: dict[str, np.ndarray]) -> None:
    sweeps = {split: _pairs_around(curve, seed) for seed, split in enumerate(("train", "test"))}

    def one_by_one():
        values = sweeps["train"].pivot(index="m", columns="pair").sort_index()
        counts = pair_counts("axbench/ocean", "train", 16, DRAWS)[:REFITTED] / 16
        for weights in counts:
            fit_preference(curve["m"], values["preference"].to_numpy() @ weights, checked=False)
            fit_utility(curve["m"], values["utility"].to_numpy() @ weights, checked=False)

    race.run(
        lambda: bootstrap_cell(sweeps, curve["m"], "axbench/ocean"),
        {"fitted one by one": Way(one_by_one, REFITTED / (2 * DRAWS))},
        benchmark="fits",
        model=name,
        case=f"bootstrap of {DRAWS}",
        target=("value", "<=", 5),
    )


def _pairs_around(curve: dict[str, np.ndarray], seed: int):
    """A sweep of 16 pairs whose curves are the cell's, each raised and scaled a little."""
    import pandas as pd

    random = np.random.default_rng(seed)
    parts = []
    for pair in range(16):
        scale, shift = 1 + 0.2 * random.standard_normal(), 0.2 * random.standard_normal()
        columns = {kind: scale * curve[kind] + shift for kind in ("preference", "utility")}
        parts.append(pd.DataFrame({"m": curve["m"], "pair": pair, **columns}))
    return pd.concat(parts, ignore_index=True)
