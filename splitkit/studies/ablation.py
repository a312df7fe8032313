"""Ablation: what each weight of SPLIT (Eq. 18-20) does to both curves, one at a time."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd

from splitkit.runs.cell_keys import hparams, settings
from splitkit.runs.cells import own_threads
from splitkit.runs.kept_tables import committed_tables
from splitkit.runs.profiles import Cell, Profile, strength_grid
from splitkit.storage import digests, paths
from splitkit.storage.files import check_writable, exclusive, write_whole
from splitkit.tasks import first_tasks

VALUES: dict[str, tuple[float, ...]] = {
    "lambda_n": (0.0, 0.25, 0.5, 1.0),
    "gamma": (0.0, 2.0, 5.0, 10.0),
    "theta": (0.0, 0.3, 1.0, 2.0),
}
"""What is tried of each weight; the value that a cell's own settings have is tried besides."""

FAMILIES: tuple[str, ...] = ("powerseeking", "axbench")
GRID: tuple[float, ...] = tuple(round(r, 6) for r in strength_grid(16.0, 13, 2 * math.acosh(8.0)))
"""In matching strengths; with this curvature 1 is one of them."""
N_PAIRS = 16
"""Test pairs behind a curve, where the profile sweeps as many."""

_ROW = ["model", "task", "weight", "value"]
_NOTICED = 0.05  # nats, or a share of the breakdown strength or of |dh|: less is called no change


def values_of(profile: Profile) -> Mapping[str, Sequence[float]]:
    """What is tried of each weight: all `VALUES`, but of a small profile the two ends of each."""
    return {name: tried[:: 3 if profile.small else 1] for name, tried in VALUES.items()}


def ablate(profile: Profile, jobs: int = 2) -> pd.DataFrame:
    """Both curves of the SPLIT vector for every value (`values_of`) of one weight, the other two as recorded.

    Trained with the profile's pairs and settings at its first seed, on its first tasks of `FAMILIES` or,
    where it has neither, on its first task; measured on the first test pairs over `GRID`. With the embedded
    profile the table is read from the committed file. A killed run goes on where it was.

    Returns:
        One row per (model, task, weight, value, m): recorded (is it the cell's own value), m, m_relative (in
        matching strengths), preference, utility (means over pairs; NaN where Eq. 8 is defined for none),
        n_pairs_utility, norm (of the trained dh), cosine (with the dh of the recorded value), m_trained
        (the mean steering factor of the training, in matching strengths).
    """
    return committed_tables(
        ["ablation"], profile, lambda: {"ablation": _table(profile, jobs)}, tolerance=0.05
    )["ablation"]


def ablated_cells(profile: Profile) -> list[Cell]:
    """The cells that are varied: the SPLIT vector of every model, at the first seed."""
    first = first_tasks(profile.tasks)
    tasks = [first[family] for family in FAMILIES if family in first] or list(profile.tasks[:1])
    return [
        Cell(model, task, "vector", "split", profile.seeds[0]) for model in profile.models for task in tasks
    ]


def trainings(cell: Cell, profile: Profile) -> int:
    """How many settings of a cell are trained: its own, and every value that is not its own."""
    from splitkit.steering.objectives import OBJECTIVES

    own = OBJECTIVES["split"].defaults | hparams(cell, profile)
    return 1 + sum(value != own[name] for name, tried in values_of(profile).items() for value in tried)


def variants(cell: Cell, profile: Profile) -> Iterator[tuple[str, float, bool, dict[str, Any]]]:
    """(weight, value, is it recorded, all settings of the training) of every variant of a cell."""
    from splitkit.steering.objectives import OBJECTIVES

    chosen = settings(cell, profile) | {
        "grid": list(GRID),
        "n_sweep": min(N_PAIRS, profile.size("sweep", cell.task)),
        "code_digest": digests.code_digest(digests.STEERED),
    }
    weights = {
        name: float(chosen["hparams"].get(name, default))
        for name, default in OBJECTIVES["split"].defaults.items()
    }
    for weight, tried in values_of(profile).items():
        for value in sorted({*map(float, tried), weights[weight]}):
            hparams = chosen["hparams"] | weights | {weight: value}
            yield weight, value, value == weights[weight], chosen | {"hparams": hparams}


def measure(cell: Cell, decides: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """Train and sweep one variant, or read it where that was done: dh, matching strength, m_trained, curve.

    Kept whole or not at all, under a digest of all that decides it.
    """
    text = json.dumps(decides, sort_keys=True)
    path = paths.CACHE / "ablation" / f"{cell.slug}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        with own_threads():
            write_whole(path, json.dumps(_measured(cell, decides, profile)) + "\n")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _measured(cell: Cell, decides: dict[str, Any], profile: Profile) -> dict[str, Any]:
    from splitkit.curves.decay import mean_curve
    from splitkit.runs import answers
    from splitkit.steering.sweeps import UNIT_PAIRS, matching_strength, sweep
    from splitkit.steering.training import train

    model, tokenizer = answers.load(profile, cell.model)
    pairs = answers.pairs(profile, cell.task, "train", model, tokenizer)[: decides["n_train"]]
    how = decides["hparams"] | {"shared": answers.shared_rows()}
    iv = train(model, tokenizer, pairs, cell.form, cell.objective, decides["layer"], cell.seed, **how)
    unit = matching_strength(model, tokenizer, iv, pairs[:UNIT_PAIRS])
    asked = answers.pairs(profile, cell.task, "test", model, tokenizer)[: decides["n_sweep"]]
    curve = mean_curve(sweep(model, tokenizer, iv, asked, m=[unit * r for r in decides["grid"]]))
    config = iv.details["config"]
    return {
        "dh": iv.parameters["vector"].tolist(),
        "m_trained": (config["factor_min"] + config["factor_max"]) / 2 / unit,
        "curve": curve[["m", "preference", "utility", "n_pairs_utility"]].to_dict("list"),
    }


def _table(profile: Profile, jobs: int) -> pd.DataFrame:
    work = [(cell, *variant) for cell in ablated_cells(profile) for variant in variants(cell, profile)]
    # the recorded setting is a variant of every weight and is trained once
    distinct = {json.dumps(decides, sort_keys=True): (cell, decides) for cell, *_, decides in work}
    check_writable(paths.CACHE)
    with exclusive(paths.CACHE / "ablation", f"ablation of profile {profile.name}"):
        run = joblib.Parallel(n_jobs=jobs, backend="loky", batch_size=1)
        results = run(joblib.delayed(measure)(*one, profile) for one in distinct.values())
    found = dict(zip(distinct, results, strict=True))
    own = {cell: found[json.dumps(decides, sort_keys=True)] for cell, _, _, own, decides in work if own}
    parts = []
    for cell, weight, value, recorded, decides in work:
        one = found[json.dumps(decides, sort_keys=True)]
        dh, other = np.array(one["dh"]), np.array(own[cell]["dh"])
        curve = pd.DataFrame(one["curve"])
        curve.insert(1, "m_relative", decides["grid"])
        head = {"model": cell.model, "task": cell.task, "weight": weight, "value": value}
        for position, (column, entry) in enumerate((head | {"recorded": recorded}).items()):
            curve.insert(position, column, entry)
        norm = float(np.linalg.norm(dh))
        cosine = float(dh @ other / (norm * np.linalg.norm(other)))
        parts.append(curve.assign(norm=norm, cosine=cosine, m_trained=one["m_trained"]))
    return pd.concat(parts, ignore_index=True)


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
    """What a weight does between the smallest and the largest value that all models and tasks have.

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
