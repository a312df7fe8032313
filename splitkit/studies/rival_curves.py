"""Rivals of Eq. 15 and 17: other curves, fitted to the same points and scored where none was fitted.

The curves have from 4 to 8 free parameters, which each table prints.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import brentq

from splitkit.curves.decay import COEFFICIENTS, fit_preference, fit_utility
from splitkit.curves.least_squares import coefficients, minimise_from, unexplained
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.runs.results import own_rows
from splitkit.studies.frames import CURVE
from splitkit.studies.mean_curves import mean_curves

CANDIDATES: dict[str, str] = {
    "decay": "Eq. 15 / 17",
    "polynomial": "polynomial",
    "cubic": "cubic",
    "logistic": "two logistics",
    "gaussian": "Gaussian decay",
    "log": "two-sided log",
    "kernel": "kernel smoother",
}
"""The curves that are fitted, by name, with their labels."""
CRITERIA = {"interleaved": "every other m", "outer": "outer quarter", "aic": "AIC", "bic": "BIC"}
"""Ways to compare the curves, with their labels; the lowest value is the best."""
DEGREES = {"preference": 8, "utility": 7}
"""Free parameters of Eq. 15 and 17: those they name, less one for continuity at m = 0."""

_TOGETHER = 16
"""Curves that one process fits side by side."""
_FINISHED = 12
"""Starts that are followed to the end; fewer leave two logistics in a poor minimum."""
_EDGE = 8.0
"""Distance from 0 to which the nonlinear parameters are searched."""

Points = Float[np.ndarray, " point"]
Curves = Float[np.ndarray, "curve point"]
PredictAll = Callable[[Points], Curves]
_Design = Callable[[np.ndarray, Points], tuple[np.ndarray, ...]]
"""A function of theta (..., parameter) and m in units of the largest that gives columns (..., point)."""


def rival_table(curves: pd.DataFrame, jobs: int = 2) -> pd.DataFrame:
    """Every rival fitted to every curve of a table of mean curves, and scored four ways.

    Returns:
        One row per curve and rival: the keys, curve, rival, parameters, r2; aic and bic, n log(RSS / n) plus
        2 k or k log n, less the curve's lowest (points of one curve share their pairs, so read them as
        ranks); interleaved and outer, the root mean squared error at strengths that were left out (every
        other one, in turn; the outermost quarter) in units of the curve's standard deviation. NaN where too
        few strengths are left to fit.
    """
    parts = []
    for curve in DEGREES:
        tasks = list(_alike(curves, curve))
        work = joblib.Parallel(n_jobs=jobs)
        scored = work(joblib.delayed(score_curves)(curve, m, y) for _, m, y in tasks)
        for (keys, _, _), found in zip(tasks, scored, strict=True):
            own = keys.loc[found.pop("number")].reset_index(drop=True)
            parts.append(pd.concat([own.assign(curve=curve), found], axis=1))
    return pd.concat(parts, ignore_index=True)


@kept("rivals", tolerance=0.05, digits=4, of="first seed")
def rivalry(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """`rival_table` of the training curves of a profile's first seed."""
    curves = own_rows(mean_curves(profile, jobs)["curves"], profile)
    first = curves[(curves["split"] == "train") & (curves["seed"] == profile.seeds[0])]
    return {"rivals": rival_table(first, jobs)}


def standing(table: pd.DataFrame) -> pd.DataFrame:
    """The standing of each rival: one row per curve and rival.

    Columns: curve, rival, parameters, r2 (median), and for each of `CRITERIA` its median and
    `<criterion>_best`, the share of curves in which the rival has the lowest value.
    """
    marked = table.copy()
    columns = {"parameters": "first", "r2": "median"}
    for name in CRITERIA:
        lowest = marked.groupby([*CURVE, "curve"])[name].transform("min")
        marked[f"{name}_best"] = (marked[name] == lowest).astype(float).where(marked[name].notna())
        columns |= {name: "median", f"{name}_best": "mean"}
    return marked.groupby(["curve", "rival"], sort=False).agg(columns).reset_index()


def conclusion(standing: pd.DataFrame) -> list[str]:
    """Sentences on a table of `standing`: one per curve and left-out test, then one per curve.

    An equation is special when, on both tests, its median error is the lowest and it is the best of all in
    more than half of the curves.
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
                lowest = f"the lowest is {rows.loc[best, name]:.3f}, by the {CANDIDATES[best]}"
            said.append(
                f"{curve}, {CRITERIA[name]}: {equation} misses by {rows.loc['decay', name]:.3f} standard "
                f"deviations (median) and is the best form in {share:.0%} of the curves; {lowest}."
            )
        word = "special" if all(won) else "special on one of the tests only" if any(won) else "not special"
        judged.append(f"On these curves {equation} is {word if len(won) == 2 else 'undecided'}.")
    return said + judged


def score_curves(curve: str, m: Points, y: Curves) -> pd.DataFrame:
    """The scores of `rival_table` for each row of y: number (of the row), rival, parameters, r2 and so on."""
    order = np.argsort(m)
    m, y = m[order], y[:, order]
    n, spread = len(m), y.std(axis=1)
    position, edge = np.arange(n), max(1, round(n / 8))
    outer = (position < edge) | (position >= n - edge)
    # the ends stay, or every other m would be about extrapolation as well
    inner = (position > 0) & (position < n - 1)
    parts = []
    for rival in CANDIDATES:
        k, missed = parameters(rival, curve), partial(_left_out, rival, curve, m, y)
        halves = np.concatenate([missed(inner & (position % 2 == odd)) for odd in (0, 1)], axis=1)
        share = np.mean(missed(np.zeros(n, dtype=bool)) ** 2, axis=1) / spread**2
        # a fit to the last bit has no likelihood; below this nothing is told apart
        likelihood = n * np.log(np.maximum(share, 1e-14))
        scores = {
            "r2": 1 - share,
            "aic": likelihood + 2 * k,
            "bic": likelihood + k * math.log(n),
            "interleaved": np.sqrt(np.mean(halves**2, axis=1)) / spread,
            "outer": np.sqrt(np.mean(missed(outer) ** 2, axis=1)) / spread,
        }
        parts.append(pd.DataFrame({"number": range(len(y)), "rival": rival, "parameters": k, **scores}))
    table = pd.concat(parts).sort_values("number", kind="stable", ignore_index=True)
    table[["aic", "bic"]] -= table.groupby("number")[["aic", "bic"]].transform("min")
    return table


def _alike(curves: pd.DataFrame, curve: str) -> Iterator[tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
    """Yield curves over one grid, at most `_TOGETHER` at a time: keys, m (point,) and y (curve, point)."""
    found: dict[tuple[float, ...], list[tuple[Any, np.ndarray]]] = {}
    for key, part in curves.groupby(CURVE, sort=False):
        if part[curve].notna().all():
            found.setdefault(tuple(part["m_relative"]), []).append((key, part[curve].to_numpy()))
    for grid, members in found.items():
        for start in range(0, len(members), _TOGETHER):
            keys, y = zip(*members[start : start + _TOGETHER], strict=True)
            yield pd.DataFrame(keys, columns=CURVE), np.array(grid), np.stack(y)


def _left_out(rival: str, curve: str, m: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Errors (curve, point) at the strengths left out of a fit, or at all if none was; NaN if few stay."""
    judged = out if out.any() else ~out
    undefined = np.full((len(y), int(judged.sum())), np.nan)
    if (~out).sum() <= parameters(rival, curve):
        return undefined
    try:
        predict = fit_rivals(rival, curve, m[~out], y[:, ~out], m)
    except ValueError:
        return undefined
    return y[:, judged] - predict(m[judged])


def parameters(rival: str, curve: str) -> int:
    """Free parameters of a rival, 4 to 8; for the kernel smoother its effective degrees of freedom, trace S.

    KeyError lists the rivals there are.
    """
    if rival not in CANDIDATES:
        raise KeyError(f"no rival {rival!r}; there are {list(CANDIDATES)}")
    # Gaussian: two widths and D(0) beside the coefficients; two-sided log: b, m0, c+, c-, L+ and L-
    own = {"cubic": 4, "logistic": 7, "gaussian": len(COEFFICIENTS[curve]) + 3, "log": 6}
    return own.get(rival, DEGREES[curve])


def fit_rivals(rival: str, curve: str, m: Points, y: Curves, grid: Points) -> PredictAll:
    """Least-squares fits of a rival to every row of y (curve, point) at strengths m (point,): functions of m.

    "decay" is (alpha m + beta) D(m) + b (Eq. 15) or beta_u D(m) + b_u (Eq. 17), by the solver of `decay`
    alone, unchecked; "gaussian" has in place of D e^-((m - c±)^2 / w±), continuous at 0; "logistic" is a
    constant and two logistic steps; "log" never settles, b + s c± log(1 + |m - m0| / L±) with s the sign of
    m - m0 for preference and b - c± log(1 + (m - m0)^2 / L±) for utility, ± by the side of m0; "polynomial"
    has as many coefficients as the decay has free parameters; "kernel" is the Nadaraya-Watson smoother with a
    Gaussian kernel, whose width gives it that many degrees of freedom. Polynomials and kernel are over places
    on `grid`, not over m: where the grid is denser near 0 than far out, m would be a handicap to them.

    Raises:
        KeyError: for an unknown rival.
        ValueError: when there are not more points than free parameters.
    """
    free = parameters(rival, curve)
    if len(np.unique(m)) <= free:
        raise ValueError(f"{len(np.unique(m))} strengths do not determine {free} parameters.")
    if rival == "decay":
        fitter = fit_preference if curve == "preference" else fit_utility
        fits = [fitter(m, row, checked=False) for row in y]
        return lambda at: np.stack([fit.predict(at) for fit in fits])
    if rival in ("cubic", "polynomial", "kernel"):
        # a grid that is denser near 0 is even in places from 0 to 1

        def place(at: Points) -> Points:
            return np.interp(at, grid, np.linspace(0, 1, len(grid)))

        if rival == "kernel":
            return _kernel(place, m, y, free)
        polynomials = [np.polynomial.Chebyshev.fit(place(m), row, free - 1, domain=[0, 1]) for row in y]
        return lambda at: np.stack([polynomial(place(at)) for polynomial in polynomials])
    if rival == "logistic":
        design, starts = _logistic_design()
    else:
        design, starts = (_log_design if rival == "log" else _gaussian_design)(curve)
    return _projected_fits(design, starts, m, y, float(np.abs(grid).max()))


def _kernel(place: Callable[[Points], Points], m: Points, y: Curves, degrees: int) -> PredictAll:
    places = place(m)

    def weights(at: Points, width: float) -> np.ndarray:
        exponent = -0.5 * ((at[:, None] - places) / width) ** 2
        kernel = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        return kernel / kernel.sum(axis=1, keepdims=True)

    def excess(log_width: float) -> float:
        return float(np.trace(weights(places, math.exp(log_width)))) - degrees

    width = math.exp(brentq(excess, math.log(1e-3), math.log(10.0)))
    return lambda at: y @ weights(place(at), width).T


def _logistic_design() -> tuple[_Design, np.ndarray]:
    """Steps at theta[0], theta[1] of log widths theta[2], theta[3], on m in units of the largest."""

    def design(theta: np.ndarray, x: Points) -> tuple[np.ndarray, ...]:
        steps = np.tanh((x - theta[..., :2, None]) / (2 * np.exp(theta[..., 2:, None])))
        return steps[..., 0, :], steps[..., 1, :]

    places = [(-p, q) for p, q in product((0.05, 0.2, 0.5), repeat=2)] + [(-0.02, 0.3), (0.02, -0.3)]
    widths = product(np.log([0.03, 0.15]), repeat=2)
    return design, np.array([[*place, *width] for place, width in product(places, widths)])


def _gaussian_design(curve: str) -> tuple[_Design, np.ndarray]:
    """D = e^-(m / w+ - h)^2 for m >= 0 and e^-(m / w- - s h)^2 for m < 0, s = 1 or -1: equal at 0.

    theta = (log w+, log w-, h, s); s is of the start, since nothing changes with its size.
    """

    def design(theta: np.ndarray, x: Points) -> tuple[np.ndarray, ...]:
        right, left, h, s = np.moveaxis(theta[..., None], -2, 0)
        branch = np.where(s >= 0, 1.0, -1.0)
        side = x >= 0
        root = x * np.exp(-np.where(side, right, left)) - np.where(side, 1.0, branch) * h
        decay = np.exp(-(root**2))
        return (x * decay, decay) if curve == "preference" else (decay,)

    scales = np.log([0.05, 0.2, 0.7])
    return design, np.array(list(product(scales, scales, (-0.7, 0.1, 0.7), (1.0, -1.0))))


def _log_design(curve: str) -> tuple[_Design, np.ndarray]:
    """Sides of a logarithm that meet at theta[0], of log widths theta[1] (right) and theta[2] (left).

    For utility L± is the square of a width, so that both curves are searched over the same widths.
    """
    power = 1 if curve == "preference" else 2

    def design(theta: np.ndarray, x: Points) -> tuple[np.ndarray, ...]:
        centre, right, left = np.moveaxis(theta[..., None], -2, 0)
        away = x - centre
        return tuple(
            np.log1p((np.maximum(sign * away, 0) * np.exp(-width)) ** power)
            for sign, width in ((1, right), (-1, left))
        )

    widths = np.log([0.02, 0.1, 0.5])
    return design, np.array(list(product((-0.3, -0.05, 0.0, 0.05, 0.3), widths, widths)))


def _projected_fits(design: _Design, starts: np.ndarray, m: Points, y: Curves, unit: float) -> PredictAll:
    """Levenberg-Marquardt over theta from the best starts of each curve, the coefficients solved exactly."""
    x, spread = m / unit, y.std(axis=1, keepdims=True)
    z = y / np.where(spread > 0, spread, 1.0)

    def residual(theta: np.ndarray, rows: np.ndarray) -> np.ndarray:
        bounded = np.clip(theta, -_EDGE, _EDGE)
        rest = unexplained(z[rows, None], *design(bounded, x))
        return np.concatenate([rest, theta - bounded], axis=-1)

    theta, _ = minimise_from(residual, starts, len(y), _FINISHED)
    best = np.clip(theta, -_EDGE, _EDGE)
    solved = coefficients(y, *design(best, x))

    def predict(at: Points) -> Curves:
        columns = (*design(best, at / unit), 1.0)
        return np.asarray(sum(solved[:, [i]] * column for i, column in enumerate(columns)))

    return predict
