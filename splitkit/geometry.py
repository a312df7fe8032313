"""The geometry of a profile's cells: distances to the manifold, projections and angles, as tidy tables.

One seed per cell (the profile's first), every other strength of the grid, test pairs for what is measured and
training pairs for the axes. Natural texts are the world's own dialogues: questions of the train split
estimate the manifold, those of the validation split its unit.
"""

from collections.abc import Sequence
from itertools import islice
from random import Random

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from splitkit import corpus
from splitkit.activations import (
    SITES,
    Dialogue,
    corrupted,
    mean_change,
    natural_activations,
    steered_activations,
)
from splitkit.cells import CellResult, compute_cells, one_thread
from splitkit.committed import committed_tables
from splitkit.decay import mean_curve
from splitkit.directions import angle, gradients, probe, probe_accuracy
from splitkit.interventions import Intervention
from splitkit.manifold import Manifold, fit_manifold
from splitkit.models import MODELS, load_model, model_digest
from splitkit.pairs import load_pairs
from splitkit.profiles import Profile, get_profile
from splitkit.relation import CONTROLS, relation_table
from splitkit.sweeps import matching_strength, sweep

TABLES = ("manifold_distance", "manifold_projection", "manifold_cloud", "utility_angle", "manifold_relation")
N_NATURAL, N_HELD_OUT = 300, 100
"""Dialogues; an answer has about 30 tokens."""
N_PAIRS, N_TOKENS = 12, 200
"""Test pairs whose answers are steered, and tokens of them that are kept."""
N_AXES = 32
"""Training pairs behind the gradients and the mean dh."""
N_CONTROLS, N_CONTROL_PAIRS = 4, 16
"""Vectors of each kind of control, and test pairs behind their utility."""
CLOUD = (-1.0, 0.0, 1.0)
CLOUD_TOKENS = 80
"""Strengths (in matching strengths; the grid's nearest are taken) and tokens of the drawn cloud."""


class Surroundings:
    """What all cells of one model and task share: natural activations, manifolds, axes."""

    def __init__(self, model_name: str, task: str, n_pairs: int) -> None:
        self.name, self.task, self.layer = model_name, task, MODELS[model_name].layer
        self.model, self.tokenizer = load_model(model_name)
        texts = {"natural": _dialogues("train", N_NATURAL), "held_out": _dialogues("validation", N_HELD_OUT)}
        found = {kind: self._natural(rows) for kind, rows in texts.items()}
        broken = {kind: self._natural(corrupted(rows))["layer"] for kind, rows in texts.items()}
        self.natural = found["natural"]["layer"]
        self.manifolds: dict[str, Manifold] = {
            site: fit_manifold(found["natural"][site], found["held_out"][site]) for site in SITES
        }
        self.train = load_pairs(task, split="train")[:N_AXES]
        self.test = load_pairs(task, split="test")[: min(n_pairs, N_CONTROL_PAIRS)]
        self.axes = gradients(self.model, self.tokenizer, self.train, self.layer)
        w, threshold = probe(self.natural, broken["natural"])
        self.axes["probe"] = w
        self.accuracy = probe_accuracy(w, threshold, found["held_out"]["layer"], broken["held_out"])

    def _natural(self, dialogues: Sequence[Dialogue]) -> dict[str, np.ndarray]:
        return natural_activations(self.model, self.tokenizer, dialogues, self.layer)

    def projections(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """(x - natural mean) g / natural standard deviation along g, for the gradients of both log-odds."""
        found = {}
        for name in ("preference", "utility"):
            along = self.natural @ self.axes[name]
            found[f"{name}_axis"] = (x @ self.axes[name] - along.mean()) / along.std()
        return found

    def controls(self) -> list[Intervention]:
        """Vectors that were not learned: random directions, and random ones with natural covariance."""
        digest, made = model_digest(self.model), []
        covariance = np.cov(self.natural.astype(float), rowvar=False)
        for seed in range(N_CONTROLS):
            rng = np.random.default_rng(seed)
            size = len(covariance)
            drawn = (
                rng.standard_normal(size),
                rng.multivariate_normal(np.zeros(size), covariance, method="eigh"),
            )
            for objective, vector in zip(CONTROLS, drawn, strict=True):
                made.append(_vector(vector, objective, self.layer, digest, seed))
        return made


def geometry(
    profile: Profile | str = "embedded", jobs: int = 2, progress: bool = True
) -> dict[str, pd.DataFrame]:
    """The `TABLES` of a profile: the embedded profile's from the committed files, else from its cells.

    manifold_distance: per cell, strength and site the mean distance over tokens by each estimator, how far
    they moved from m = 0 (mean |h' - h| / mean |h|), the mean PrefOdds and UtilOdds of the test pairs;
    controls are vectors of objective "random" and "natural". manifold_projection: mean position on the
    preference and utility axes, in natural standard deviations. manifold_cloud: the same token by token for
    one cell per model and task, at three strengths. utility_angle: per cell the angle of its mean dh with the
    gradient of utility, a probe of valid text, and, to see what a direction that is used looks like, the
    gradient of preference. manifold_relation: see `splitkit.relation.relation_table`.
    """
    chosen = get_profile(profile) if isinstance(profile, str) else profile
    return committed_tables(TABLES, chosen, lambda: _tables(chosen, jobs, progress), tolerance=0.05, digits=4)


def _tables(profile: Profile, jobs: int, progress: bool) -> dict[str, pd.DataFrame]:
    every = [
        result for result in compute_cells(profile, jobs, progress) if result.cell.seed == profile.seeds[0]
    ]
    groups: dict[tuple[str, str], list[CellResult]] = {}
    for result in every:
        groups.setdefault((result.cell.model, result.cell.task), []).append(result)
    measured = Parallel(n_jobs=min(jobs, len(groups)))(
        delayed(measure)(results, profile) for results in groups.values()
    )
    tables = {name: pd.concat([part[name] for part in measured], ignore_index=True) for name in TABLES[:-1]}
    return tables | {TABLES[-1]: relation_table(tables["manifold_distance"])}


def measure(results: Sequence[CellResult], profile: Profile) -> dict[str, pd.DataFrame]:
    """The measured `TABLES`, all but the last, of the cells of one model and task."""
    with one_thread():
        return _measured(results, profile)


def _measured(results: Sequence[CellResult], profile: Profile) -> dict[str, pd.DataFrame]:
    first = results[0].cell
    around = Surroundings(first.model, first.task, profile.n_sweep)
    chosen = strengths(profile.grid)
    rows: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES[:-1]}
    drawn = _cell_to_draw(results)
    for result in results:
        iv, unit = result.intervention(), float(result.meta["matching_strength"])
        curve = mean_curve(result.sweep("test")).sort_values("m", ignore_index=True)
        curve = curve.assign(m_relative=list(profile.grid))[curve.index.isin(chosen)]
        key = {
            column: getattr(result.cell, column) for column in ("model", "task", "form", "objective", "seed")
        }
        _add_strengths(rows, key, around, iv, unit, curve, result is drawn)
        _add_angles(rows, key, around, iv, unit)
    for iv in around.controls():
        unit = matching_strength(around.model, around.tokenizer, iv, around.train)
        relative = [profile.grid[i] for i in chosen]
        table = sweep(around.model, around.tokenizer, iv, around.test, [unit * r for r in relative])
        curve = mean_curve(table).sort_values("m", ignore_index=True).assign(m_relative=relative)
        key = {"model": first.model, "task": first.task, "form": "vector"}
        key |= {"objective": iv.objective, "seed": iv.details["seed"]}
        _add_strengths(rows, key, around, iv, unit, curve, False)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in rows.items()}


def strengths(grid: Sequence[float]) -> list[int]:
    """Indices of every other strength of a symmetric grid, counted from 0 outwards, both ends included."""
    middle = len(grid) // 2
    return sorted({0, len(grid) - 1, *range(middle % 2, len(grid), 2)})


def _add_strengths(
    rows: dict[str, list[pd.DataFrame]],
    key: dict[str, object],
    around: Surroundings,
    iv: Intervention,
    unit: float,
    curve: pd.DataFrame,
    draw: bool,
) -> None:
    """Distances and projections of one intervention at the strengths of `curve`."""
    relative = curve["m_relative"].to_numpy()
    steered = steered_activations(
        around.model, around.tokenizer, iv, around.test[:N_PAIRS], [unit * r for r in relative], N_TOKENS
    )
    for site in SITES:
        distances = around.manifolds[site].distances(steered[site])
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
        off = around.manifolds["layer"].distances(steered["layer"])["subspace"]
        for wanted in CLOUD:
            at = int(np.abs(relative - wanted).argmin())
            points = {name: values[at, picked] for name, values in projected.items()}
            frame = pd.DataFrame(
                {"m_relative": relative[at], "token": picked, **points, "distance": off[at, picked]}
            )
            rows["manifold_cloud"].append(_keyed(key, frame))


def _add_angles(
    rows: dict[str, list[pd.DataFrame]],
    key: dict[str, object],
    around: Surroundings,
    iv: Intervention,
    unit: float,
) -> None:
    change = mean_change(around.model, around.tokenizer, iv, around.train, unit)
    for direction, axis in around.axes.items():
        row = {"direction": direction, **angle(axis, change, around.natural)}
        row["probe_accuracy"] = around.accuracy if direction == "probe" else np.nan
        rows["utility_angle"].append(_keyed(key, pd.DataFrame([row])))


def _keyed(key: dict[str, object], frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([pd.DataFrame([key] * len(frame)), frame.reset_index(drop=True)], axis=1)


def _cell_to_draw(results: Sequence[CellResult]) -> CellResult:
    """The cell of the drawn cloud: a vector trained with split, else a vector, else the first."""
    return max(results, key=lambda r: (r.cell.form == "vector", r.cell.objective == "split"))


def _dialogues(split: str, count: int) -> list[Dialogue]:
    return list(islice(corpus.dialogues(Random(f"natural/{split}"), split), count))


def _vector(vector: np.ndarray, objective: str, layer: int, digest: str, seed: int) -> Intervention:
    import torch

    parameters = {"vector": torch.tensor(vector / np.linalg.norm(vector), dtype=torch.float32)}
    return Intervention("vector", objective, layer, parameters, digest, {"seed": seed})
