"""Utility of a form, predicted from the other forms: by distance to the manifold, and by length of the move.

For C9's first test. A manifold behind the loss of utility lets all forms pay by distance, so that a form
nobody has looked at can be predicted. Two numbers predict alike: distance, and the length of the move alone.

**The curve** of either is isotonic regression, the best one that never rises; between points it is linear,
beyond them level. Not Eq. 17's decay: the claim says that utility falls with distance, not by which law;
Eq. 12 has two sides, and a distance has one; and neither predictor gets a shape that suits it better.
Nothing is tuned, and this was settled before a number was seen.

**Where.** In the residual stream that leaves the steered layer, where all forms act and moves have a length.
Both predictors see the same strengths, all of `manifold_distance`. What is predicted is the loss since m = 0.
"""

import pandas as pd

from splitkit.curves.decay import r2
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.studies.decisions.intervals import trained
from splitkit.studies.decisions.manifold_claims import ESTIMATORS
from splitkit.studies.frames import CELL, require
from splitkit.studies.manifold.relation import falling_at, utility_change
from splitkit.studies.manifold.tables import geometry

LENGTH = "moved"
"""The column of the length of the move: mean |h' - h| / mean |h|."""
COLUMNS = ["model", "task", "estimator", "form_left_out", "unit", "r2_distance", "r2_length"]


@kept("form_left_out", tolerance=0.05, digits=4, of="tables", pools=["manifold_distance"])
def form_left_out(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """`left_out_table` of a profile's table `manifold_distance`."""
    return {"form_left_out": left_out_table(geometry(profile, jobs)["manifold_distance"])}


def left_out_table(distances: pd.DataFrame) -> pd.DataFrame:
    """R² of each trained cell's utility, predicted by one falling curve of the other forms' trained cells.

    Args:
        distances: as the table `manifold_distance` of `tables.geometry`.

    Returns:
        One row per (model, task, estimator, cell): form_left_out and unit ("split/0": objective and seed)
        name the cell; r2_distance, r2_length (NaN where utility does not change). Cells without utility, and
        those of a model and task with one form alone, have no row.

    Raises:
        ValueError: when a column is missing.
    """
    require(distances, *CELL, "m_relative", "site", "utility", LENGTH, *ESTIMATORS)
    cells = trained(distances[distances["site"] == "layer"])
    cells = cells.assign(change=utility_change(cells)).dropna(subset=["change"])
    rows, predictors = [], (*ESTIMATORS, LENGTH)
    for (model, task), part in cells.groupby(["model", "task"], sort=False):
        for form, own in part.groupby("form", sort=False):
            others = part[part["form"] != form]
            if others.empty:
                continue
            change, guess = others["change"].to_numpy(), own.copy()
            for name in predictors:
                guess[name] = falling_at(others[name].to_numpy(), change, own[name].to_numpy())
            for (objective, seed), cell in guess.groupby(["objective", "seed"], sort=False):
                found = {name: r2(cell["change"], cell[name]) for name in predictors}
                rows += [
                    (model, task, ruler, form, f"{objective}/{seed}", found[ruler], found[LENGTH])
                    for ruler in ESTIMATORS
                ]
    return pd.DataFrame(rows, columns=COLUMNS)
