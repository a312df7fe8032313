"""One learned direction beside directions that learned nothing: fits and answers of released models."""

import pandas as pd

from splitkit.runs.profiles import CONTROLS
from splitkit.studies.fit_quality import usable_window
from splitkit.studies.frames import CELL, require
from splitkit.studies.real.text_scores import PROMPTED
from splitkit.studies.scores import VANILLA


def fits_beside_controls(fits: pd.DataFrame, curves: pd.DataFrame, objective: str) -> pd.DataFrame:
    """R² of Eq. 15 and 17 on training curves of vectors: those of an objective, and of the controls.

    `fits` is of `fits.cell_fits`, `curves` of `mean_curves.curves`.

    Returns:
        Indexed by model and curve: the objective's R² (the mean over its cells), the controls' as "lowest to
        highest (number)", and, of each, the mean number of usable strengths (`fit_quality.usable_window`).
    """
    require(fits, *CELL, "curve", "r2")
    vectors = fits[(fits["form"] == "vector") & fits["objective"].isin([objective, *CONTROLS])]
    train = curves[curves["split"] == "train"]
    usable = {key: len(usable_window(part)) for key, part in train.groupby(CELL)}
    vectors = vectors.assign(usable=[usable[key] for key in vectors[CELL].itertuples(index=False, name=None)])
    rows = []
    for (model, curve), part in vectors.groupby(["model", "curve"], sort=False):
        own, others = (part[part["objective"].isin(names)] for names in ([objective], CONTROLS))
        low, high = others["r2"].min(), others["r2"].max()
        rows.append({
            "model": model, "curve": curve, f"R², {objective}": round(own["r2"].mean(), 2),
            "R², controls": f"{low:.2f} to {high:.2f} ({len(others)})",
            f"usable strengths, {objective}": own["usable"].mean(),
            "usable strengths, controls": round(others["usable"].mean(), 1),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index(["model", "curve"])


def answers_beside_controls(scores: pd.DataFrame, task: str, objective: str) -> pd.DataFrame:
    """Test answers of a model: unsteered, under a persona prompt, by an objective's vectors, by the controls.

    `scores` is the table "text_scores". Rows by model and what steers; of the controls the mean and the
    highest. Columns: m (matching strengths), right by likelihood (%), covered (the probability of either
    word), right by text (%), KL on neutral text (nats per token).
    """
    require(scores, *CELL, "split", "m_relative", "correct_by_likelihood", "covered", "correct", "kl")
    test = scores[(scores["split"] == "test") & (scores["task"] == task)]
    test = test[test["form"].isin([VANILLA, PROMPTED, "vector"])]
    found = pd.DataFrame({
        "model": test["model"], "steered by": test["objective"], "m": test["m_relative"],
        "right by likelihood (%)": 100 * test["correct_by_likelihood"], "covered": test["covered"],
        "right by text (%)": 100 * test["correct"], "KL": test["kl"],
    })  # fmt: skip
    order = [VANILLA, PROMPTED, objective, *CONTROLS]
    groups = found[found["steered by"].isin(order)].groupby(["model", "steered by"], sort=False)
    means = groups.mean().assign(
        **{"highest (%)": groups["right by likelihood (%)"].max(), "n": groups.size()}
    )
    return means.loc[
        [(model, name) for model in found["model"].unique() for name in order if (model, name) in means.index]
    ]
