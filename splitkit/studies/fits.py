"""Tables of fits: Eq. 15 and 17 fitted to mean curves; those kept are of the training curves alone."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import joblib
import numpy as np
import pandas as pd

from splitkit.curves.decay import (
    COEFFICIENTS,
    Fit,
    fit_preference,
    fit_utility,
    preference_curve,
    r2,
    utility_curve,
)
from splitkit.curves.validity import Validity
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.runs.results import own_rows
from splitkit.studies.frames import CURVE, ODDS, family_curves, require
from splitkit.studies.mean_curves import mean_curves

_DECAY = [item.name for item in fields(Validity)]
_NUMBERS = ["r2", "agreement", "breakdown_positive", "breakdown_negative"]
_FITTERS = {"preference": fit_preference, "utility": fit_utility}


def fit_table(curves: pd.DataFrame) -> pd.DataFrame:
    """PrefOdds by Eq. 15 and UtilOdds by Eq. 17 for every cell and split of a table of mean curves.

    Returns:
        Two rows per cell and split: the six keys, curve ("preference" or "utility"), r2, agreement, flagged,
        at_bound (names, comma-separated), breakdown_positive, breakdown_negative, note, and the parameters,
        all with m in units of the matching strength. A utility that no pair has gives NaN, and a note.

    Raises:
        ValueError: when a column is missing, or a curve cannot be fitted (see `fit_preference`).
    """
    require(curves, *CURVE, "m_relative", *ODDS)
    rows: list[dict[str, Any]] = []
    for key, part in curves.groupby(CURVE, sort=False):
        for curve, fitter in _FITTERS.items():
            if part[curve].isna().all():
                row: dict[str, Any] = dict.fromkeys([*_NUMBERS, *COEFFICIENTS[curve], *_DECAY], math.nan)
                row |= {"flagged": False, "at_bound": "", "note": "no pair has Eq. 8 defined at every m"}
            else:
                row = _row(fitter(part["m_relative"], part[curve]))
            rows.append(dict(zip(CURVE, key, strict=True)) | {"curve": curve} | row)
    return pd.DataFrame(rows)


@kept("fits", tolerance=0.05, digits=4)
def cell_fits(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Eq. 15 and 17 fitted to the training curves of every cell; the columns of `fit_table`."""
    return {"fits": _fitted(own_rows(_training_curves(profile, jobs), profile), jobs)}


@kept("family_fits", tolerance=0.05, digits=4, of="tables", pools=["curves"])
def family_fits(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Eq. 15 and 17 fitted to the mean curves of the families; R² of a mean is not the mean of R²."""
    return {"family_fits": _fitted(family_curves(_training_curves(profile, jobs)), jobs)}


def _training_curves(profile: Profile, jobs: int) -> pd.DataFrame:
    curves = mean_curves(profile, jobs)["curves"]
    return curves[curves["split"] == "train"]


def _fitted(curves: pd.DataFrame, jobs: int) -> pd.DataFrame:
    work = joblib.Parallel(n_jobs=jobs)
    found = work(joblib.delayed(fit_table)(part) for _, part in curves.groupby(CURVE, sort=False))
    return pd.concat(found, ignore_index=True)


def fitted_curve(row: Mapping[Any, Any], m: np.ndarray) -> np.ndarray:
    """Eq. 15 or 17 with the parameters of one row of `fit_table`, at each m in its unit."""
    coefficients = {name: row[name] for name in COEFFICIENTS[row["curve"]]}
    curve = preference_curve if row["curve"] == "preference" else utility_curve
    return curve(m, **coefficients, validity=fitted_validity(row))


def fitted_validity(row: Mapping[Any, Any]) -> Validity:
    """D of Eq. 12 with the parameters of one row of `fit_table`."""
    return Validity(*[row[name] for name in _DECAY])


def r2_within(fits: pd.DataFrame, curves: pd.DataFrame, window: float) -> pd.DataFrame:
    """R² of fits over the whole grid (of `fit_table`), taken on the strengths |m_relative| <= window alone.

    Returns:
        One row per fit: the six keys, curve, window, strengths (how many are within), r2_within, which can be
        negative and is NaN where the fit has no R².

    Raises:
        ValueError: when no strength is within the window, or a fit has no curve.
    """
    points = {key: part for key, part in curves[curves["m_relative"].abs() <= window].groupby(CURVE)}
    rows = []
    for row in fits.to_dict("records"):
        if (key := tuple(row[name] for name in CURVE)) not in points:
            raise ValueError(f"no strength of {dict(zip(CURVE, key, strict=True))} is within {window}")
        part = points[key]
        predicted = fitted_curve(row, part["m_relative"].to_numpy())
        score = math.nan if math.isnan(row["r2"]) else r2(part[row["curve"]], predicted)
        found = {"window": window, "strengths": len(part), "r2_within": score}
        rows.append({**{name: row[name] for name in [*CURVE, "curve"]}, **found})
    return pd.DataFrame(rows)


def _row(fit: Fit) -> dict[str, Any]:
    breakdown = fit.breakdown()
    return {
        "r2": fit.r2,
        "agreement": fit.agreement,
        "flagged": fit.flagged,
        "at_bound": ", ".join(fit.at_bound),
        "breakdown_positive": breakdown.positive,
        "breakdown_negative": breakdown.negative,
        "note": breakdown.note,
        **fit.parameters,
    }
