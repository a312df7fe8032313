"""One validity decay for both curves: in the theory D is the same function in Eq. 15 and in Eq. 17."""

import math
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from splitkit.curves.decay import check_points, fit_preference, fit_utility, r2
from splitkit.curves.least_squares import coefficients, minimise_from, unexplained
from splitkit.curves.solvers import candidates, decay, free_of, theta_of, validity_of
from splitkit.curves.validity import Breakdown, Validity
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.runs.results import own_rows
from splitkit.studies.frames import CURVE, ODDS
from splitkit.studies.mean_curves import mean_curves

SHARED = 5
"""Free parameters of D, six less one for continuity at m = 0, which one D for both curves saves."""
_FINISHED = 12


@dataclass(frozen=True)
class JointFit:
    """Both curves of a cell under one D, beside the fits of each with a D of its own; R² is by curve.

    `aic` and `bic` are joint less separate, with errors of each curve's own variance: below 0 one D is
    enough. They are an indication: the fit is of least squares, and the points of a curve share their pairs.
    """

    validity: Validity
    r2: dict[str, float]
    r2_separate: dict[str, float]
    aic: float
    bic: float
    breakdown: Breakdown


def fit_joint(m: ArrayLike, preference: ArrayLike, utility: ArrayLike) -> JointFit:
    """Eq. 15 and 17 with one D: (alpha m + beta) D(m) + b for PrefOdds, beta_u D(m) + b_u for UtilOdds.

    Least squares of both curves together, each in units of its own standard deviation, with D continuous at
    m = 0: Levenberg-Marquardt over D from many starts, those of the separate fits among them, the
    coefficients solved exactly. m (point,) has at least nine distinct strengths of both signs.

    Raises:
        ValueError: as `fit_preference` and `fit_utility` do, and when a curve is constant.
    """
    m = np.asarray(m, dtype=float)
    curves = dict(zip(ODDS, (np.asarray(y, dtype=float) for y in (preference, utility)), strict=True))
    for kind, y in curves.items():
        check_points(kind, m, y)
        if np.ptp(y) == 0:
            raise ValueError(f"the {kind} curve is constant: it says nothing about D.")
    separate = {
        "preference": fit_preference(m, curves["preference"], checked=False),
        "utility": fit_utility(m, curves["utility"], checked=False),
    }
    unit = float(np.abs(m).max())
    x = m / unit
    z = {kind: (y - y.mean()) / y.std() for kind, y in curves.items()}
    found: list[tuple[float, np.ndarray]] = []
    own = [free_of(fit.validity.scaled(1 / unit)) for fit in separate.values()]
    for branch in (1.0, -1.0):
        starts = [candidates(branch, seed=2)[0], *(free[None] for free, its in own if its == branch)]

        def residual(free: np.ndarray, rows: np.ndarray, branch: float = branch) -> np.ndarray:
            theta = theta_of(free, branch)
            columns = _columns(x, decay(theta, x))
            excess = np.maximum(np.abs(theta[..., [0, 3]]) - 1, 0)
            rests = (unexplained(z[kind], *columns[kind]) / math.sqrt(len(x)) for kind in ODDS)
            return np.concatenate([*rests, excess], axis=-1)

        free, cost = minimise_from(residual, np.concatenate(starts), 1, _FINISHED)
        found.append((float(cost[0]), theta_of(free[0], branch)))
    validity = validity_of(min(found, key=lambda one: one[0])[1]).scaled(unit)
    columns = _columns(m, validity(m))
    joint = {
        kind: r2(y, np.stack([*columns[kind], np.ones_like(m)], axis=1) @ coefficients(y, *columns[kind]))
        for kind, y in curves.items()
    }
    alone = {kind: fit.r2 for kind, fit in separate.items()}
    # a fit to the last bit has no likelihood; below this nothing is told apart
    ratio = sum(math.log(max(1 - joint[kind], 1e-14) / max(1 - alone[kind], 1e-14)) for kind in ODDS)
    aic, bic = (len(m) * ratio - price * SHARED for price in (2, math.log(2 * len(m))))
    return JointFit(validity, joint, alone, aic, bic, validity.breakdown(float(m.min()), float(m.max())))


def _columns(m: np.ndarray, validity: np.ndarray) -> dict[str, tuple[np.ndarray, ...]]:
    """The columns that the coefficients of each curve multiply."""
    return {"preference": (m * validity, validity), "utility": (validity,)}


def joint_table(curves: pd.DataFrame, jobs: int = 2) -> pd.DataFrame:
    """`fit_joint` of every cell and split of a table of mean curves (see `mean_curves.curves`).

    Returns:
        One row per cell and split: the six keys, r2_preference_joint, r2_utility_joint, r2_preference and
        r2_utility (each curve with a D of its own), aic and bic (joint less separate),
        breakdown_positive_joint and breakdown_negative_joint (where D = 1/2, in matching strengths; NaN
        outside the grid), note. A utility that no pair has at every m gives NaN and says so in `note`.
    """
    groups = list(curves.groupby(CURVE, sort=False))
    rows = joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(_row)(*(part[name].to_numpy() for name in ("m_relative", *ODDS))) for _, part in groups
    )
    return pd.DataFrame(
        [dict(zip(CURVE, key, strict=True)) | row for (key, _), row in zip(groups, rows, strict=True)]
    )


@kept("joint_fits", tolerance=0.05, digits=4)
def joint_fits(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """`joint_table` of the curves of a profile."""
    return {"joint_fits": joint_table(own_rows(mean_curves(profile, jobs)["curves"], profile), jobs)}


def _row(m: np.ndarray, preference: np.ndarray, utility: np.ndarray) -> dict[str, Any]:
    names = [f"r2_{kind}{end}" for end in ("_joint", "") for kind in ODDS]
    names += ["aic", "bic", "breakdown_positive_joint", "breakdown_negative_joint"]
    if np.isnan(utility).all():
        return dict.fromkeys(names, math.nan) | {"note": "no pair has Eq. 8 defined at every m"}
    fit = fit_joint(m, preference, utility)
    values = [*fit.r2.values(), *fit.r2_separate.values(), fit.aic, fit.bic]
    values += [fit.breakdown.positive, fit.breakdown.negative]
    return dict(zip(names, values, strict=True)) | {"note": fit.breakdown.note}
