"""Ablation: what each weight of SPLIT (Eq. 18-20) does to both curves, one at a time."""

import math
from collections.abc import Iterator, Mapping, Sequence
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
"""Test pairs behind a curve, where the profile sweeps as many."""

_ROW = ["model", "task", "weight", "value"]
_NOTICED = 0.05  # nats, or a share of the breakdown strength or of |dh|: less is called no change


def values_of(profile: Profile) -> Mapping[str, Sequence[float]]:
    """The values tried of each weight: all `VALUES`, but of a small profile the two ends of each."""
    return {name: tried[:: 3 if profile.small else 1] for name, tried in VALUES.items()}


@kept("ablation", tolerance=0.05, of="itself")
def ablate(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Both curves of the SPLIT vector for every value (`values_of`) of one weight, the other two as recorded.

    Trained with the profile's pairs and settings at its first seed, on its first tasks of `FAMILIES` or,
    where it has neither, on its first task; measured on the first test pairs over `GRID`. A killed
    run goes on where it was.

    Returns:
        One row per (model, task, weight, value, m): recorded (is it the cell's own value), m, m_relative (in
        matching strengths), preference, utility (means over pairs; NaN where Eq. 8 is defined for none),
        n_pairs_utility, norm (of the trained dh), cosine (with the dh of the recorded value), m_trained
        (the mean steering factor of the training, in matching strengths).
    """
    return {"ablation": _table(profile, jobs)}


def ablated_cells(profile: Profile) -> list[Cell]:
    """The cells that are varied: the SPLIT vector of every model, at the first seed."""
    first = first_tasks(profile.tasks)
    tasks = [first[family] for family in FAMILIES if family in first] or list(profile.tasks[:1])
    return [
        Cell(model, task, "vector", "split", profile.seeds[0]) for model in profile.models for task in tasks
    ]


def variants(cell: Cell, profile: Profile) -> Iterator[tuple[str, float, Cell]]:
    """(weight, value, cell) of everything that is tried; the recorded value's cell is `cell` itself."""
    from splitkit.steering.objectives import OBJECTIVES

    own = OBJECTIVES["split"].defaults | hparams(cell, profile)
    for weight, tried in values_of(profile).items():
        for value in sorted({*map(float, tried), float(own[weight])}):
            yield weight, value, cell if value == own[weight] else replace(cell, variant=((weight, value),))


def ablation_profile(profile: Profile) -> Profile:
    """`profile` with curves of the SPLIT vector alone, over `GRID` and the first pairs."""
    swept = {task_family(task): min(N_PAIRS, profile.size("sweep", task)) for task in profile.tasks}
    own = (("vector", "split"),)
    return replace(profile, combinations=own, answered=(), grid=GRID, n_sweep=swept, curve_seeds={})


def _table(profile: Profile, jobs: int) -> pd.DataFrame:
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
        for position, (column, entry) in enumerate((head | {"recorded": variant == cell}).items()):
            curve.insert(position, column, entry)
        norm = float(np.linalg.norm(dh))
        cosine = float(dh @ own / (norm * np.linalg.norm(own)))
        config = result.intervention().details["config"]
        m_trained = (config["factor_min"] + config["factor_max"]) / 2 / result.unit
        parts.append(curve.assign(norm=norm, cosine=cosine, m_trained=m_trained))
    return pd.concat(parts, ignore_index=True)


def _dh(result: CellResult) -> np.ndarray:
    """The vector that a cell trained, in float64, of shape (hidden,)."""
    return np.array(result.intervention().parameters["vector"].tolist())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row per (model, task, weight, value) of `ablate`'s table: what a push of one size buys and costs.

    preference: at one matching strength; gained and lost: nats of preference gained and of utility lost from
    m = 0 to there; per_nat: gained / lost, NaN where nothing was lost; reached: preference at m_trained,
    between strengths of the grid a straight line; breakdown: the m > 0, in matching strengths, at which the
    D of Eq. 17 is one half, NaN where that is off the grid or utility is NaN; norm and cosine as they are.

    Raises:
        ValueError: when a curve has no m_relative of 0 or of 1.
    """
    rows = []
    for key, curve in table.groupby(_ROW, sort=False):
        at = curve.set_index("m_relative")[["preference", "utility"]].sort_index()
        if missing := [m for m in (0.0, 1.0) if m not in at.index]:
            raise ValueError(f"the curve of {key} has no m_relative of {missing[0]:g}.")
        change = at.loc[1.0] - at.loc[0.0]
        lost = -change["utility"]
        rows.append(
            dict(zip(_ROW, key, strict=True))
            | {"recorded": bool(curve["recorded"].iloc[0])}
            | {"preference": at.loc[1.0, "preference"], "gained": change["preference"], "lost": lost}
            | {"per_nat": change["preference"] / lost if lost > 0 else math.nan}
            | {"reached": np.interp(curve["m_trained"].iloc[0], at.index, at["preference"])}
            | {"breakdown": _breakdown(at["utility"])}
            | curve.iloc[0][["norm", "cosine"]].to_dict()
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
    `high` (the two values), `rises` and `falls` (in how many of `cases`, those where it is defined, it
    changes by more than 0.05 nats or, for breakdown and norm, by more than 5 %) and `median` of the change
    (of the ratio).
    """
    found = []
    for weight, part in rows.groupby("weight", sort=False):
        # a recorded value can be beyond those that every cell has
        everywhere = part.groupby("value").size().loc[lambda n: n == n.max()].index
        ends = everywhere.min(), everywhere.max()
        low, high = (part[part["value"] == end].set_index(["model", "task"]) for end in ends)
        for quantity in ("gained", "lost", "reached", "breakdown", "norm"):
            relative = quantity in ("breakdown", "norm")
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
    words = {"gained": "preference gained at m = 1", "lost": "utility lost at m = 1", "norm": "|dh|"}
    words |= {"reached": "preference at the strength of training", "breakdown": "the breakdown strength"}
    lines = []
    for row in effects.to_dict("records"):
        ratio = row["quantity"] in ("breakdown", "norm")
        size = f"times {row['median']:.2f}" if ratio else f"{row['median']:+.2f} nats"
        counts = (
            f"rises in {row['rises']} and falls in {row['falls']} of {row['cases']} cases (median {size})"
        )
        if not row["cases"]:
            counts = "is defined in no case"
        lines.append(
            f"{row['weight']} from {row['low']:g} to {row['high']:g}: {words[row['quantity']]} {counts}"
        )
    return lines
