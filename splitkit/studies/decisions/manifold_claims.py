"""C9: does utility fall because activations leave their manifold? Three tests, each of which can fail.

The tables, `task` a task, and `unit` whatever was drawn anew, of any type:

* `form_left_out`: model, task, estimator ("subspace", "neighbours"), form_left_out, unit (a cell of that
  form, "split/3" say), r2_distance, r2_length: R² of this cell's utility, predicted from its distance to the
  manifold and from the length of its move by one falling curve each, fitted to the cells of the other forms.
  Both predictors see the same strengths.
* `manifold_moves`: model, task, unit (a prompt, or a draw of one), kind ("natural": towards a natural
  activation of another prompt; "random": in a random direction), push, utility, preference: the mean
  log-odds of the answers after a move of that length. Both kinds have the same units and pushes.
* `angles`: model, task, form, objective, seed, direction ("utility"), cosine (of dh and the gradient),
  isotropic_95 (the |cos| that 95 % of random directions stay below). Other directions are not read.
"""

from typing import Any

import numpy as np
import pandas as pd

from splitkit.studies.decisions.grading import Found, Judged, Values, decide, tested, together
from splitkit.studies.decisions.intervals import NAN, Estimate, clusters, mean, median, trained
from splitkit.studies.decisions.rules import FEWEST_CONCEPTS, FEWEST_TESTED
from splitkit.studies.frames import CELL, by_model_and_family, family_column, require

ESTIMATORS = ("subspace", "neighbours")
"""The two rulers: they know nothing of each other, and both have to agree."""
KINDS = ("natural", "random")


def decide_c9(form_left_out: pd.DataFrame, manifold_moves: pd.DataFrame, angles: pd.DataFrame) -> Judged:
    """One verdict per model and family that any of the three tables has; see `rules` for the grades.

    The interval of the number goes from the supported tests to those that are not against. ValueError for a
    missing column, or moves whose two kinds were not made with the same units and pushes.
    """
    require(form_left_out, "model", "task", "estimator", "form_left_out", "unit", "r2_distance", "r2_length")
    require(manifold_moves, "model", "task", "unit", "kind", "push", "utility")
    require(angles, "model", *CELL[1:], "direction", "cosine", "isotropic_95")
    own_angles = trained(angles[angles["direction"] == "utility"])
    tables = (form_left_out, manifold_moves, own_angles)
    groups = pd.concat([table[["model", "task"]] for table in tables]).drop_duplicates()

    def judged(model: str, task: str) -> Judged:
        own = [t[(t["model"] == model) & (family_column(t) == task)] for t in tables]

        def find(values: Values) -> Found:
            rows = [*_left_out(own[0], values), _moved(own[1], values), _turned(own[2])]
            rulers = {row["reading"] for row in rows[: len(ESTIMATORS)]}
            readings = [
                rulers.pop() if len(rulers) == 1 else "neither",
                *(row["reading"] for row in rows[2:]),
            ]
            for_it, against = (readings.count(word) for word in ("supports", "against"))
            units = max(row["n_units"] for row in rows)
            ours = Estimate(for_it, for_it, len(readings) - against, units)
            grade = _grade(readings)
            return Found(ours, grade, frozenset([grade]), sum(row["n_units"] > 0 for row in rows), rows)

        parts = zip((1, 2, 3), own, ("cell", "move", "cell"), strict=True)
        unit = "; ".join(f"({n}) {'concept' if _by_concept(t) else name}" for n, t, name in parts)
        return decide("C9", model, task, find, unit=unit, paper="assumed, drawn in Fig. 3")

    return together(judged(model, task) for model, task, _ in by_model_and_family(groups))


def _grade(readings: list[str]) -> str:
    if readings.count("supports") == len(readings):
        return "holds"
    if "against" not in readings:
        return "in part" if "supports" in readings[:2] else "undecided"
    return "undecided" if "supports" in readings else "does not hold"


def _reading(found: Estimate, smallest: float) -> str:
    """What an interval says that leaves out 0 around a number of at least that size, for enough units."""
    if found.units < FEWEST_TESTED:
        return "neither"
    if found.low > 0 and found.value >= smallest:
        return "supports"
    return "against" if found.high < 0 and found.value <= -smallest else "neither"


def _by_concept(rows: pd.DataFrame) -> bool:
    return bool(rows["task"].nunique() >= FEWEST_CONCEPTS)


def _left_out(rows: pd.DataFrame, values: Values) -> list[dict[str, Any]]:
    """R² by distance less R² by length over the cells of forms left out, a row per ruler."""
    tests = []
    for estimator in ESTIMATORS:
        own = rows[rows["estimator"] == estimator]
        names = ["task"] if _by_concept(own) else ["task", "form_left_out", "unit"]
        found = median(own["r2_distance"] - own["r2_length"], own[names].astype(str).agg("/".join, axis=1))
        name = f"form left out: R² by distance less R² by length, {estimator}"
        tests.append(tested(name, found, _reading(found, values["r2_gain"])))
    return tests


def _moved(rows: pd.DataFrame, values: Values) -> dict[str, Any]:
    """Utility after natural moves less utility after random ones, mean over pushes up to `reach`."""
    near = rows[(rows["push"] > 0) & (rows["push"] <= values["reach"])]
    key = ["task", "unit", "push"]
    natural, random = (near[near["kind"] == kind].set_index(key)["utility"] for kind in KINDS)
    if len(alone := natural.index.symmetric_difference(random.index)):
        raise ValueError(f"a move (task, unit, push) of one kind alone, of {KINDS}: {alone[0]}")
    by = "task" if _by_concept(near) else ["task", "unit"]
    found = mean((natural - random).dropna().groupby(by).mean().to_numpy(dtype=float))
    return tested("equal moves: utility, natural less random", found, _reading(found, values["nats"]))


def _turned(rows: pd.DataFrame) -> dict[str, Any]:
    """What 95 % of random directions stay below, less |cos| of dh and the utility gradient."""
    room = rows["isotropic_95"] - rows["cosine"].abs()
    found = median(room, clusters(rows)) if len(rows) else Estimate(NAN, NAN, NAN, 0)
    return tested("angle: random |cos| (95 %) less |cos| of dh", found, _reading(found, np.nextafter(0, 1)))
