"""Utility against the distance to the manifold: one curve for all forms, or one for each."""

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from splitkit.curves.decay import r2
from splitkit.runs.profiles import CONTROLS
from splitkit.studies.frames import CELL, require
from splitkit.studies.manifold.estimators import ESTIMATORS

BASELINES = ("moved", "strength")
"""Numbers that a distance has to beat: the length of the move from m = 0, and |m| in matching strengths."""
RESAMPLES = 1000
"""Resampled sets of cells behind an interval."""


def relation_table(distances: pd.DataFrame) -> pd.DataFrame:
    """Utility against distance, over all cells of a model and task, by each estimator at each site.

    Utility counts from each cell's own at m = 0. Besides the distances there are the two `BASELINES`, which
    know nothing of a manifold. The controls' rows count in r2_controls alone.

    Returns:
        One row per (model, task, site, estimator): n_cells, n_points, spearman with spearman_low and _high
        (95 %, resampling cells), r2_one_curve (one falling curve for all forms), r2_per_form (one for each),
        r2_controls (the one curve's prediction of the controls; NaN where there are none).

    Raises:
        ValueError: when a column is missing.
    """
    require(distances, *CELL, "m_relative", "site", "utility", "moved", *ESTIMATORS)
    table = distances.assign(strength=distances["m_relative"].abs(), change=utility_change(distances))
    table = table.dropna(subset=["change"])
    rows = []
    key = ["model", "task", "site"]
    for names, part in table.groupby(key, sort=False):
        control = part["objective"].isin(CONTROLS)
        cells, controls = part[~control], part[control]
        if cells.empty:
            continue
        cell = cells.groupby(CELL, sort=False).ngroup().to_numpy()
        change = cells["change"].to_numpy()
        for estimator in (*ESTIMATORS, *BASELINES):
            distance = cells[estimator].to_numpy()
            one, per_form = falling(distance, change), np.empty_like(change)
            for form in cells["form"].unique():
                own = (cells["form"] == form).to_numpy()
                per_form[own] = falling(distance[own], change[own])
            beyond = np.nan
            if len(controls):
                beyond = r2(controls["change"], falling_at(distance, change, controls[estimator]))
            ranks = rank_correlation(distance, change, cell)
            explained = (r2(change, one), r2(change, per_form), beyond)
            rows.append((*names, estimator, len(set(cell)), len(cells), *ranks, *explained))
    columns = [*key, "estimator", "n_cells", "n_points", "spearman", "spearman_low", "spearman_high"]
    return pd.DataFrame(rows, columns=[*columns, "r2_one_curve", "r2_per_form", "r2_controls"])


def rank_correlation(
    x: np.ndarray, y: np.ndarray, cell: np.ndarray, seed: int = 0
) -> tuple[float, float, float]:
    """Spearman's rank correlation, with the 2.5 % and 97.5 % quantiles over resampled cells.

    The points of one cell are one curve and stay together. x, y, cell: (point,).
    """
    rng = np.random.default_rng(seed)
    names, owner = np.unique(cell, return_inverse=True)
    chosen = rng.integers(len(names), size=(RESAMPLES, len(names)))
    counts = np.stack([np.bincount(row, minlength=len(names)) for row in chosen])
    weights = np.concatenate([np.ones((1, len(names))), counts])[:, owner]  # (1 + draw, point)
    rho = _weighted_pearson(_ranks(x, weights), _ranks(y, weights), weights)
    low, high = np.nanquantile(rho[1:], [0.025, 0.975])
    return float(rho[0]), float(low), float(high)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks (draw, point) of values (point,), each of which a draw has `weights` (draw, point) times."""
    levels, place = np.unique(values, return_inverse=True)
    many = np.zeros((len(levels), len(weights)))
    np.add.at(many, place, weights.T)
    below = np.cumsum(many, axis=0) - many
    return (below + (many + 1) / 2)[place].T


def _weighted_pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row; NaN where a row has one value only (sums of halves are exact)."""
    n = weights.sum(axis=1)

    def moment(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return n * (weights * a * b).sum(axis=1) - (weights * a).sum(axis=1) * (weights * b).sum(axis=1)

    spread = np.sqrt(moment(x, x) * moment(y, y))
    return moment(x, y) / np.where(spread > 0, spread, np.nan)


def falling(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The best curve of y against x, by least squares, that never rises (isotonic regression): (point,)."""
    _, place = np.unique(x, return_inverse=True)
    weights = np.bincount(place).astype(float)
    means = np.bincount(place, weights=y) / weights
    return np.asarray(isotonic_regression(means, weights=weights, increasing=False).x)[place]


def falling_at(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`falling` of y against x, read at other places: linear between the points, level beyond them."""
    levels, first = np.unique(x, return_index=True)
    return np.interp(at, levels, falling(x, y)[first])


def utility_change(distances: pd.DataFrame) -> pd.Series:
    """UtilOdds(m) - UtilOdds(0) (Eq. 8), cell by cell, in nats; NaN where the cell has none at m = 0."""
    start = distances.loc[distances["m_relative"] == 0].set_index([*CELL, "site"])["utility"]
    keys = pd.MultiIndex.from_frame(distances[[*CELL, "site"]])
    return distances["utility"] - start.reindex(keys).to_numpy()
