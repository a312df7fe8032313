"""The contest of Eq. 15 and 17 with their rivals: fitted to the same curves, judged where none was fitted.

The forms differ in freedom, from 4 to 8 free parameters, which each table prints.
"""

import math
from typing import Any

import joblib
import numpy as np
import pandas as pd

from splitkit.committed import committed_tables
from splitkit.fits import KEYS
from splitkit.profiles import Profile
from splitkit.rivals import DEGREES, RIVALS, Points, fit_rival, parameters

CRITERIA = {"interleaved": "every other m", "outer": "outer quarter", "aic": "AIC", "bic": "BIC"}
_TABLE = "rivals"


def rival_table(curves: pd.DataFrame, jobs: int = 2) -> pd.DataFrame:
    """Every rival fitted to every curve of a table of mean curves, and judged four ways.

    Args:
        curves: one row per (model, task, form, objective, seed, split, m_relative), with preference, utility.

    Returns:
        One row per curve and rival: the keys, curve, rival, parameters, r2; aic and bic, n log(RSS / n) plus
        2 k or k log n, less the curve's lowest (points of one curve share their pairs, so read them as
        ranks); interleaved and outer, the root mean squared error at strengths that were left out (every
        other one, in turn; the outermost quarter) in units of the curve's standard deviation. NaN where too
        few strengths are left to fit.
    """
    groups = [
        (dict(zip(KEYS, key, strict=True)) | {"curve": curve}, part)
        for key, part in curves.groupby(KEYS, sort=False)
        for curve in DEGREES
        if part[curve].notna().all()
    ]
    work = joblib.Parallel(n_jobs=jobs)
    judged = work(
        joblib.delayed(judge_curve)(
            key["curve"], part["m_relative"].to_numpy(), part[key["curve"]].to_numpy()
        )
        for key, part in groups
    )
    return pd.DataFrame(
        [{**key, **row} for (key, _), rows in zip(groups, judged, strict=True) for row in rows]
    )


def rivalry(profile: Profile, curves: pd.DataFrame) -> pd.DataFrame:
    """`rival_table` of the training curves of a profile, from the committed file or computed."""
    return committed_tables(
        [_TABLE],
        profile,
        lambda: {_TABLE: rival_table(curves[curves["split"] == "train"])},
        tolerance=0.05,
        digits=4,
    )[_TABLE]


def standing(table: pd.DataFrame) -> pd.DataFrame:
    """How each rival stands: by curve and rival, the median of each criterion and in how many it is best.

    Columns: curve, rival, parameters, r2 (median), and for each of `CRITERIA` its median and
    `<criterion>_best`, the share of curves in which the rival has the lowest value.
    """
    cell = [*KEYS, "curve"]
    marked = table.copy()
    for name in CRITERIA:
        lowest = marked.groupby(cell)[name].transform("min")
        marked[f"{name}_best"] = (marked[name] == lowest).astype(float).where(marked[name].notna())
    columns = {"parameters": "first", "r2": "median"}
    for name in CRITERIA:
        columns |= {name: "median", f"{name}_best": "mean"}
    found = marked.groupby(["curve", "rival"], sort=False).agg(columns)
    return found.reset_index()


def conclusion(standing: pd.DataFrame) -> list[str]:
    """What a table of `standing` says, in sentences: one per curve and left-out test, then one per curve.

    The form of a curve is called special when it has the lowest median error on both tests and is the best
    of all in more than half of the curves on each.
    """
    said, judged = [], []
    for curve, equation in (("preference", "Eq. 15"), ("utility", "Eq. 17")):
        rows = standing[standing["curve"] == curve].set_index("rival")
        won = []
        for name in ("interleaved", "outer"):
            if "decay" not in rows.index or pd.isna(rows.loc["decay", name]):
                said.append(f"{curve}, {CRITERIA[name]}: {equation} cannot be judged, too few strengths.")
                continue
            best = str(rows[name].idxmin())
            share = float(rows.loc["decay", f"{name}_best"])
            won.append(best == "decay" and share > 0.5)
            lowest = "it has the lowest median error of the forms"
            if best != "decay":
                lowest = f"the lowest is {rows.loc[best, name]:.3f}, by the {RIVALS[best]}"
            said.append(
                f"{curve}, {CRITERIA[name]}: {equation} misses by {rows.loc['decay', name]:.3f} standard "
                f"deviations (median) and is the best form in {share:.0%} of the curves; {lowest}."
            )
        word = "special" if all(won) else "special on one of the tests only" if any(won) else "not special"
        judged.append(f"On these curves {equation} is {word if len(won) == 2 else 'undecided'}.")
    return said + judged


def judge_curve(curve: str, m: Points, y: Points) -> list[dict[str, Any]]:
    """One row per rival for one curve: rival, parameters, r2, aic, bic, interleaved, outer."""
    order = np.argsort(m)
    m, y = m[order], y[order]
    n, spread = len(m), float(y.std())
    position, edge = np.arange(n), max(1, round(n / 8))
    outer = (position < edge) | (position >= n - edge)
    # the ends stay, or every other m would be about extrapolation as well
    inner = (position > 0) & (position < n - 1)
    rows = []
    for rival in RIVALS:
        k = parameters(rival, curve)
        halves = [_left_out(rival, curve, m, y, inner & (position % 2 == odd)) for odd in (0, 1)]
        error = _left_out(rival, curve, m, y, np.zeros(n, dtype=bool)) / spread
        share = float(np.mean(error**2))
        # a fit to the last bit has no likelihood; below this nothing is told apart
        score = n * math.log(max(share, 1e-14))

        rows.append(
            {
                "rival": rival,
                "parameters": k,
                "r2": 1 - share,
                "aic": score + 2 * k,
                "bic": score + k * math.log(n),
                "interleaved": float(np.sqrt(np.mean(np.concatenate(halves) ** 2))) / spread,
                "outer": float(np.sqrt(np.mean(_left_out(rival, curve, m, y, outer) ** 2))) / spread,
            }
        )
    for name in ("aic", "bic"):
        lowest = np.nanmin([row[name] for row in rows])
        for row in rows:
            row[name] -= lowest
    return rows


def _left_out(rival: str, curve: str, m: Points, y: Points, out: np.ndarray) -> np.ndarray:
    """Errors at the strengths that were left out of the fit, or at all when none was; NaN if too few stay."""
    if (~out).sum() <= parameters(rival, curve):
        return np.full(max(1, int(out.sum())), np.nan)
    try:
        predict = fit_rival(rival, curve, m[~out], y[~out], m)
    except ValueError:
        return np.full(max(1, int(out.sum())), np.nan)
    judged = out if out.any() else ~out
    return y[judged] - predict(m[judged])
