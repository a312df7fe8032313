"""Ablation: the effect of each weight of SPLIT (Eq. 18-20) on both curves, one at a time."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from splitkit.curves.decay import mean_curve
from splitkit.runs.cell_keys import hparams
from splitkit.runs.cell_results import CellResult
from splitkit.runs.cells import compute
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Cell, Profile, strength_grid
from splitkit.tasks import first_tasks, task_family

VALUES: dict[str, tuple[float, ...]] = {
    "lambda_n": (0.0, 0.25, 0.5, 1.0),
    "gamma": (0.0, 2.0, 5.0, 10.0),
    "theta": (0.0, 0.3, 1.0, 2.0),
}
"""Values of each weight that are tried, besides the one in a cell's own settings."""
FAMILIES: tuple[str, ...] = ("powerseeking", "axbench")
GRID: tuple[float, ...] = tuple(round(r, 6) for r in strength_grid(16.0, 13, 2 * math.acosh(8.0)))
"""Strengths in matching strengths; with this curvature 1 is one of them."""
N_PAIRS = 16
"""Number of test pairs behind a curve, where the profile sweeps as many."""

_ROW = ["model", "task", "weight", "value"]
_NOTICED = 0.05
"""Smallest change that counts: nats, or a share of the breakdown strength or of |dh|."""
_WORDS = {
    "gained": "preference gained at m = 1",
    "lost": "utility lost at m = 1",
    "reached": "preference at the strength of training",
    "breakdown": "the breakdown strength",
    "norm": "|dh|",
}
_RATIOS = ("breakdown", "norm")


@kept("ablation", tolerance=0.05, of="itself")
def ablate(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Both curves of the SPLIT vector for every value tried of one weight, the other two as recorded.

    Trained with the profile's pairs and settings, measured on the first test pairs over `GRID`.

    Returns:
        One row per (model, task, weight, value, m): recorded (is it the cell's own value), m, m_relative (in
        matching strengths), preference, utility (means over pairs; NaN where Eq. 8 is defined for none),
        n_pairs_utility, norm (of the trained dh), cosine (with the dh of the recorded value), m_trained
        (the mean steering factor of the training, in matching strengths).
    """
    work = [(cell, *variant) for cell in ablated_cells(profile) for variant in variants(cell, profile)]
    # the recorded value is tried of every weight: its cell is computed once
    results = compute([variant for *_, variant in work], ablation_profile(profile), jobs)
    found = {result.cell: (_dh(result), result) for result in results}
    parts = []
    for cell, weight, value, variant in work:
        (dh, result), (own, _) = found[variant], found[cell]
        curve = mean_curve(result.sweep("test"))[["m", "preference", "utility", "n_pairs_utility"]]
        curve.insert(1, "m_relative", list(GRID))
        head = {"model": cell.model, "task": cell.task, "weight": weight, "value": value}
        head["recorded"] = variant == cell
        norm = float(np.linalg.norm(dh))
        cosine = float(dh @ own / (norm * np.linalg.norm(own)))
        config = result.intervention().details["config"]
        m_trained = (config["factor_min"] + config["factor_max"]) / 2 / result.unit
        whole = curve.assign(**head, norm=norm, cosine=cosine, m_trained=m_trained)
        parts.append(whole[[*head, *curve, "norm", "cosine", "m_trained"]])
    return {"ablation": pd.concat(parts, ignore_index=True)}


def ablated_cells(profile: Profile) -> list[Cell]:
    """The cells that are varied: the SPLIT vector of every model at the first seed.

    Their tasks are the first ones of `FAMILIES` or, where the profile has neither, its first task.
    """
    first = first_tasks(profile.tasks)
    tasks = [first[family] for family in FAMILIES if family in first] or list(profile.tasks[:1])
    return [
        Cell(model, task, "vector", "split", profile.seeds[0]) for model in profile.models for task in tasks
    ]


def variants(cell: Cell, profile: Profile) -> Iterator[tuple[str, float, Cell]]:
    """Yield (weight, value, cell) for each value tried; the recorded value's cell is `cell` itself.

    A small profile tries the two ends of `VALUES` alone.
    """
    from splitkit.steering.objectives import OBJECTIVES

    own = OBJECTIVES["split"].defaults | hparams(cell, profile)
    for weight, tried in VALUES.items():
        for value in sorted({*tried[:: 3 if profile.small else 1], float(own[weight])}):
            yield weight, value, cell if value == own[weight] else replace(cell, variant=((weight, value),))


def ablation_profile(profile: Profile) -> Profile:
    """`profile` with curves of the SPLIT vector alone, over `GRID` and the first pairs."""
    swept = {task_family(task): min(N_PAIRS, profile.size("sweep", task)) for task in profile.tasks}
    own = (("vector", "split"),)
    return replace(profile, combinations=own, answered=(), grid=GRID, n_sweep=swept, curve_seeds={})


def _dh(result: CellResult) -> np.ndarray:
    """The vector that a cell trained, in float64, of shape (hidden,)."""
    return np.array(result.intervention().parameters["vector"].tolist())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Gain and price of a push of one size: one row per (model, task, weight, value) of `ablate`'s table.

    preference: at one matching strength; gained and lost: nats of preference gained and of utility lost from
    m = 0 to there; per_nat: gained / lost, NaN where nothing was lost; reached: preference at m_trained,
    between strengths of the grid a straight line; breakdown: the m > 0, in matching strengths, at which the
    D of Eq. 17 is one half, NaN where that is off the grid or utility is NaN; norm and cosine as they are.
    ValueError when a curve has no m_relative of 0 or of 1.
    """
    rows = []
    for key, curve in table.groupby(_ROW, sort=False):
        at = curve.set_index("m_relative")[["preference", "utility"]].sort_index()
        if missing := [m for m in (0.0, 1.0) if m not in at.index]:
            raise ValueError(f"the curve of {key} has no m_relative of {missing[0]:g}.")
        gained, down = at.loc[1.0] - at.loc[0.0]
        first = curve.iloc[0]
        rows.append(
            dict(zip(_ROW, key, strict=True))
            | {"recorded": bool(first["recorded"]), "preference": at.loc[1.0, "preference"]}
            | {"gained": gained, "lost": -down, "per_nat": gained / -down if down < 0 else math.nan}
            | {"reached": np.interp(first["m_trained"], at.index, at["preference"])}
            | {"breakdown": _breakdown(at["utility"]), "norm": first["norm"], "cosine": first["cosine"]}
        )
    return pd.DataFrame(rows)


def _breakdown(utility: "pd.Series[float]") -> float:
    from splitkit.curves.decay import fit_utility

    if utility.isna().any():
        return math.nan
    return fit_utility(utility.index, utility, checked=False).breakdown().positive


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """The effect of each weight between the smallest and the largest value that all models and tasks have.

    One row per (weight, quantity) with quantity one of gained, lost, reached, breakdown, norm: `low` and
    `high` (the two values), `cases` (where the quantity is defined), `rises` and `falls` (of these, where it
    changes by more than 0.05 nats or, for breakdown and norm, 5 %) and `median` of the change (of the ratio).
    """
    found = []
    for weight, part in rows.groupby("weight", sort=False):
        # a recorded value can be beyond those that every cell has
        everywhere = part.groupby("value").size().loc[lambda n: n == n.max()].index
        ends = everywhere.min(), everywhere.max()
        low, high = (part[part["value"] == end].set_index(["model", "task"]) for end in ends)
        for quantity in _WORDS:
            relative = quantity in _RATIOS
            change = high[quantity] / low[quantity] if relative else high[quantity] - low[quantity]
            size = np.log(change) if relative else change
            noticed = math.log1p(_NOTICED) if relative else _NOTICED
            found.append(
                {"weight": weight, "low": ends[0], "high": ends[1], "quantity": quantity}
                | {"rises": int((size > noticed).sum()), "falls": int((size < -noticed).sum())}
                | {"cases": int(size.notna().sum()), "median": change.median()}
            )
    return pd.DataFrame(found)


def sentences(effects: pd.DataFrame) -> list[str]:
    """The rows of `effects` in words, one sentence each."""
    lines = []
    for row in effects.to_dict("records"):
        size = f"times {row['median']:.2f}" if row["quantity"] in _RATIOS else f"{row['median']:+.2f} nats"
        counts = f"rises in {row['rises']} and falls in {row['falls']} of {row['cases']} cases"
        said = f"{counts} (median {size})" if row["cases"] else "is defined in no case"
        what = f"{row['weight']} from {row['low']:g} to {row['high']:g}: {_WORDS[row['quantity']]}"
        lines.append(f"{what} {said}")
    return lines
