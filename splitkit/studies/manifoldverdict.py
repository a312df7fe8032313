"""The verdict on claim C9: utility falls because activations leave the manifold, not along dh."""

import pandas as pd

from splitkit.studies.frames import by_model_and_family
from splitkit.studies.verdicts import RULES, Verdict, graded, need
from splitkit.tasks import task_family

DISTANCES = ("subspace", "neighbours")
"""Two estimators that know nothing of each other; both have to agree."""
MOST, HALF = 0.8, 0.5


def judge_c9(relation: pd.DataFrame, angles: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and task family, by the weaker of two estimators at the steered layer.

    (a) Utility falls with distance, and the same way in all forms: one falling curve has R² = 0.8 or more,
    and the interval of the rank correlation lies below 0. (b) The manifold matters: that R² is no lower than
    the one of a curve of the length of the move alone. (c) dh is no closer to the utility gradient than
    random directions: its median |cos| over cells is not above what 95 % of isotropic ones stay below. All:
    holds; (a), with an R² of 0.5 at least: holds in part. Of a family with several tasks each number is the
    median over them, because a curve is asked to serve all forms of a task, not all tasks. The rank
    correlation does not grade, because ranks among strengths at which nothing is lost are noise. No
    correlation can show the "because" of the claim.

    Args:
        relation: `splitkit.studies.manifold.relation.relation_table`.
        angles: rows (model, task, direction, cosine, isotropic_95).

    Raises:
        ValueError: when a column is missing.
    """
    need(relation, "model", "task", "site", "estimator", "spearman_high", "r2_one_curve")
    need(angles, "model", "task", "direction", "cosine", "isotropic_95")
    utility, two = angles[angles["direction"] == "utility"], list(DISTANCES)
    verdicts = []
    for model, task, rows in by_model_and_family(relation[relation["site"] == "layer"]):
        numbers = rows.groupby("estimator")[["r2_one_curve", "spearman_high"]].agg(_middle)
        found = numbers.reindex([*two, "moved"])
        explained = found["r2_one_curve"]
        weakest = float(explained[two].min(skipna=False))
        falls = bool((found.loc[two, "spearman_high"] < 0).all())
        better = bool((explained[two] >= explained["moved"]).all())
        own = utility[(utility["model"] == model) & (utility["task"].map(task_family) == task)]
        orthogonal = len(own) > 0 and bool(own["cosine"].abs().median() <= own["isotropic_95"].median())
        verdict = graded(
            weakest, falls and weakest >= MOST and better and orthogonal, falls and weakest >= HALF
        )
        verdicts.append(Verdict("C9", model, task, verdict, weakest, "assumed, drawn in Fig. 3", RULES["C9"]))
    return verdicts


def _middle(values: pd.Series) -> float:
    """The median over tasks; NaN where one of them has no number."""
    return float(values.median(skipna=False))
