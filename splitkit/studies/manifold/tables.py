"""The geometry of a profile's cells: distances to the manifold, projections and angles, as tidy tables.

Measured are cells of the profile's first seed at every other strength, on test pairs, along axes of training
pairs.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from splitkit.curves.decay import mean_curve
from splitkit.runs.cells import CellResult, own_threads
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import CONTROLS, Profile
from splitkit.studies.manifold.relation import relation_table
from splitkit.studies.mean_curves import swept_cells
from splitkit.tasks import task_family

# what steers models is imported where it is used: to read the committed tables takes none of it
if TYPE_CHECKING:
    from splitkit.steering.interventions import Intervention
    from splitkit.studies.manifold.reference import Nature, Reference

TABLES = ("manifold_distance", "manifold_projection", "manifold_cloud", "utility_angle", "manifold_relation")
N_TOKENS = 200
"""Number of tokens of the steered answers that are kept."""
CLOUD = (-1.0, 0.0, 1.0)
"""Strengths of the drawn cloud, in matching strengths; the grid's nearest are taken."""
CLOUD_TOKENS = 80
"""Number of tokens in the drawn cloud."""


@kept(*TABLES, tolerance=0.05, digits=4, of="first seed", pools=["manifold_distance"])
def geometry(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """The `TABLES` of a profile.

    manifold_distance: per cell, strength and site the mean distance over tokens by each estimator, moved
    (mean |h' - h| / mean |h|), the mean PrefOdds and UtilOdds of the test pairs; controls are vectors of
    objective "random" and "natural", their `seed` the number of the draw: all draws of a profile that has
    them as cells, else vectors of length 1 that are drawn here. manifold_projection: mean position
    on the preference and utility axes, in natural standard deviations. manifold_cloud: the same token by
    token for one cell per model and task, at three strengths. utility_angle: per cell the angle of its mean
    dh with the gradient of utility (no row where Eq. 8 is undefined for every pair), a probe of valid text,
    and the gradient of preference, a direction that is used. manifold_relation: see `relation_table`.
    """
    from splitkit.studies.manifold.reference import nature

    groups: dict[tuple[str, str], list[CellResult]] = {}
    for result in swept_cells(profile, jobs):
        if result.cell.seed == profile.seeds[0] or result.cell.objective in CONTROLS:
            groups.setdefault((result.cell.model, result.cell.task), []).append(result)
    models = list(dict.fromkeys(model for model, _ in groups))
    with Parallel(n_jobs=jobs) as work:
        natures = dict(zip(models, work(delayed(nature)(model, profile) for model in models), strict=True))
        tasks = [delayed(measure)(part, profile, natures[model]) for (model, _), part in groups.items()]
        measured = list(tqdm(work(tasks), total=len(tasks), desc="geometry"))
    tables = {name: pd.concat([part[name] for part in measured], ignore_index=True) for name in TABLES[:-1]}
    return tables | {TABLES[-1]: relation_table(tables["manifold_distance"])}


@own_threads()
def measure(results: Sequence[CellResult], profile: Profile, nature: "Nature") -> dict[str, pd.DataFrame]:
    """The measured `TABLES`, all but the last, of the cells of one model and task."""
    from splitkit.steering.model_state.digest import model_digest
    from splitkit.steering.sweeps import matching_strength
    from splitkit.studies.manifold.reference import N_CONTROLS, N_PAIRS, Reference

    first = results[0].cell
    around = Reference(first.model, first.task, profile, nature)
    chosen = strengths(profile.grid)
    relative = np.array([profile.grid[i] for i in chosen])
    rows: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES[:-1]}
    # a vector trained with split where there is one, else a vector, else the first
    drawn = max(results, key=lambda r: (r.cell.form == "vector", r.cell.objective == "split"))
    for result in results:
        iv, key = result.intervention(), result.cell.key
        curve = mean_curve(result.sweep("test")).sort_values("m", ignore_index=True).iloc[chosen]
        steered = around.tested_on.activations(iv, result.unit * relative, N_TOKENS)
        _add_strengths(rows, key, around, steered, relative, curve, result is drawn)
        _add_angles(rows, key, around, iv, result.unit)
    # a profile that has them as cells needs no others
    own = any(objective in CONTROLS for _, objective in profile.combinations)
    count = 0 if own else N_CONTROLS[task_family(first.task)]
    controls = nature.controls(around.layer, model_digest(around.model), count)
    # all of length 1, so one strength matches them all
    unit = matching_strength(around.model, around.tokenizer, controls[0], around.train) if controls else 0.0
    for iv in controls:
        steered, losses = around.controlled_on.activations_and_losses(
            iv, unit * relative, N_TOKENS, min(N_PAIRS, around.controlled_on.n_pairs)
        )
        key = {"model": first.model, "task": first.task, "form": "vector"}
        key |= {"objective": iv.objective, "seed": iv.details["seed"]}
        _add_strengths(rows, key, around, steered, relative, _curve(relative, losses), False)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in rows.items()}


def _curve(m: np.ndarray, losses: np.ndarray) -> pd.DataFrame:
    """The mean curve of losses (strength, answer): of all positive answers, then of all negative ones."""
    from splitkit.curves.log_odds import preference_log_odds, utility_log_odds

    two = np.split(losses, 2, axis=1)
    odds = {"preference": preference_log_odds(*two).ravel(), "utility": utility_log_odds(*two).ravel()}
    n = two[0].shape[1]
    return mean_curve(pd.DataFrame({"m": m.repeat(n), "pair": np.tile(np.arange(n), len(m)), **odds}))


def strengths(grid: Sequence[float]) -> list[int]:
    """Indices of every other strength of a symmetric grid, counted from 0 outwards, and of both ends."""
    middle = len(grid) // 2
    return sorted({0, len(grid) - 1, *range(middle % 2, len(grid), 2)})


def _add_strengths(
    rows: dict[str, list[pd.DataFrame]],
    key: dict[str, object],
    around: "Reference",
    steered: dict[str, np.ndarray],
    relative: np.ndarray,
    curve: pd.DataFrame,
    draw: bool,
) -> None:
    """Add distances and projections of activations under one intervention, at the strengths of `curve`."""
    from splitkit.studies.manifold.activations import SITES

    for site in SITES:
        distances = around.nature.manifolds[site].distances(steered[site])
        means = {name: values.mean(axis=1) for name, values in distances.items()}
        frame = pd.DataFrame({"m_relative": relative, "site": site, **means})
        still = steered[site][int(np.flatnonzero(relative == 0)[0])]
        lengths = np.linalg.norm(steered[site] - still, axis=-1).mean(axis=1)
        frame["moved"] = lengths / np.linalg.norm(still, axis=-1).mean()
        frame["preference"], frame["utility"] = curve["preference"].to_numpy(), curve["utility"].to_numpy()
        rows["manifold_distance"].append(_keyed(key, frame))
    projected = around.projections(steered["layer"])
    means = {name: values.mean(axis=1) for name, values in projected.items()}
    rows["manifold_projection"].append(_keyed(key, pd.DataFrame({"m_relative": relative, **means})))
    if draw:
        picked = np.linspace(0, steered["layer"].shape[1] - 1, CLOUD_TOKENS).round().astype(int)
        off = around.nature.manifolds["layer"].distances(steered["layer"])["subspace"]
        for wanted in CLOUD:
            at = int(np.abs(relative - wanted).argmin())
            points = {name: values[at, picked] for name, values in projected.items()}
            points = {"m_relative": relative[at], "token": picked, **points, "distance": off[at, picked]}
            rows["manifold_cloud"].append(_keyed(key, pd.DataFrame(points)))


def _add_angles(
    rows: dict[str, list[pd.DataFrame]],
    key: dict[str, object],
    around: "Reference",
    iv: "Intervention",
    unit: float,
) -> None:
    from splitkit.studies.manifold.activations import mean_change
    from splitkit.studies.manifold.directions import angle

    change = mean_change(around.trained_on, iv, unit)
    for direction, axis in around.axes.items():
        if np.isnan(axis).any():  # utility is undefined for every pair
            continue
        row = {"direction": direction, **angle(axis, change, around.random)}
        row["probe_accuracy"] = around.nature.accuracy if direction == "probe" else np.nan
        rows["utility_angle"].append(_keyed(key, pd.DataFrame([row])))


def _keyed(key: dict[str, object], frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame([key] * len(frame)), frame.reset_index(drop=True)], axis=1)
