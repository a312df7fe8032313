"""The contest of Eq. 15 and 17 with their rivals: fitted to the same curves, judged where none was fitted.

The forms differ in freedom, from 4 to 8 free parameters, which each table prints.
"""

import math
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float

from splitkit.runs.kept_tables import committed_tables
from splitkit.runs.profiles import Profile
from splitkit.studies.fits import KEYS
from splitkit.studies.rivals import DEGREES, RIVALS, fit_rivals, parameters

CRITERIA = {"interleaved": "every other m", "outer": "outer quarter", "aic": "AIC", "bic": "BIC"}
TABLE = "rivals"
_TOGETHER = 16
"""Curves that one process fits side by side."""


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
    rows: list[dict[str, Any]] = []
    for curve in DEGREES:
        tasks = list(_alike(curves, curve))
        work = joblib.Parallel(n_jobs=jobs)
        judged = work(joblib.delayed(judge_curves)(curve, m, y) for _, m, y in tasks)
        for (keys, _, _), found in zip(tasks, judged, strict=True):
            rows += [
                {**key, "curve": curve, **row} for key, own in zip(keys, found, strict=True) for row in own
            ]
    return pd.DataFrame(rows)


def rivalry(profile: Profile, curves: pd.DataFrame, jobs: int = 2) -> pd.DataFrame:
    """`rival_table` of the training curves of a profile's first seed, from the committed file or computed."""
    first = curves[(curves["split"] == "train") & (curves["seed"] == profile.seeds[0])]
    return committed_tables(
        [TABLE],
        profile,
        lambda: {TABLE: rival_table(first, jobs)},
        tolerance=0.05,
        digits=4,
    )[TABLE]


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


def judge_curves(
    curve: str, m: Float[np.ndarray, " point"], y: Float[np.ndarray, "curve point"]
) -> list[list[dict[str, Any]]]:
    """For each curve (a row of y) one row per rival: rival, parameters, r2, aic, bic, interleaved, outer."""
    order = np.argsort(m)
    m, y = m[order], y[:, order]
    n, spread = len(m), y.std(axis=1)
    position, edge = np.arange(n), max(1, round(n / 8))
    outer = (position < edge) | (position >= n - edge)
    # the ends stay, or every other m would be about extrapolation as well
    inner = (position > 0) & (position < n - 1)
    judged: list[list[dict[str, Any]]] = [[] for _ in y]
    for rival in RIVALS:
        k = parameters(rival, curve)
        halves = [_left_out(rival, curve, m, y, inner & (position % 2 == odd)) for odd in (0, 1)]
        share = np.mean(_left_out(rival, curve, m, y, np.zeros(n, dtype=bool)) ** 2, axis=1) / spread**2
        interleaved = np.sqrt(np.mean(np.concatenate(halves, axis=1) ** 2, axis=1)) / spread
        beyond = np.sqrt(np.mean(_left_out(rival, curve, m, y, outer) ** 2, axis=1)) / spread
        for number, rows in enumerate(judged):
            # a fit to the last bit has no likelihood; below this nothing is told apart
            score = n * math.log(max(float(share[number]), 1e-14))
            rows.append(
                {
                    "rival": rival,
                    "parameters": k,
                    "r2": 1 - float(share[number]),
                    "aic": score + 2 * k,
                    "bic": score + k * math.log(n),
                    "interleaved": float(interleaved[number]),
                    "outer": float(beyond[number]),
                }
            )
    for rows in judged:
        for name in ("aic", "bic"):
            lowest = np.nanmin([row[name] for row in rows])
            for row in rows:
                row[name] -= lowest
    return judged


def _alike(curves: pd.DataFrame, curve: str) -> Iterator[tuple[list[dict[str, Any]], np.ndarray, np.ndarray]]:
    """Curves over one grid, at most `_TOGETHER` at a time: keys, m (point,) and y (curve, point)."""
    found: dict[tuple[float, ...], list[tuple[dict[str, Any], np.ndarray]]] = {}
    for key, part in curves.groupby(KEYS, sort=False):
        if part[curve].notna().all():
            row = dict(zip(KEYS, key, strict=True)), part[curve].to_numpy()
            found.setdefault(tuple(part["m_relative"]), []).append(row)
    for grid, members in found.items():
        for start in range(0, len(members), _TOGETHER):
            keys, y = zip(*members[start : start + _TOGETHER], strict=True)
            yield list(keys), np.array(grid), np.stack(y)


def _left_out(rival: str, curve: str, m: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Errors (curve, point) at the strengths that were left out of the fit, or at all when none was.

    NaN if too few stay.
    """
    judged = out if out.any() else ~out
    undefined = np.full((len(y), int(judged.sum())), np.nan)
    if (~out).sum() <= parameters(rival, curve):
        return undefined
    try:
        predict = fit_rivals(rival, curve, m[~out], y[:, ~out], m)
    except ValueError:
        return undefined
    return y[:, judged] - predict(m[judged])
