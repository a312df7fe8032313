"""Null curves: shapes with no validity decay behind them, and the R² of Eq. 15 and 17 on them."""

import math
from collections.abc import Mapping

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import minimize

from splitkit.curves.decay import fit_preference, fit_utility
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import CONTROLS, Profile
from splitkit.studies.frames import CURVE, ODDS
from splitkit.studies.mean_curves import mean_curves

SMOOTH, NOISE = "smooth random curve", "white noise"
_LENGTH = 0.25
"""Length of the embedded profile's smooth random curves, as a share of the grid; tiers measure it."""


def _covariance(n: int, length: float) -> Float[np.ndarray, "point point"]:
    """e^-((s - t)^2 / (2 length^2)) of places s and t on a grid of n, counted evenly from 0 to 1."""
    place = np.linspace(0, 1, n)
    return np.exp(-0.5 * ((place[:, None] - place) / length) ** 2)


def measured_length(curves: Float[np.ndarray, "curve point"]) -> tuple[float, float]:
    """The length over which curves keep their course, as a share of the grid, and their noise.

    Maximum likelihood, over length and noise, of a Gaussian process with covariance scale^2
    (e^-((s - t)^2 / (2 length^2)) + noise [s = t]) over places on the grid; each curve has its own mean and
    scale, the best there are. ValueError for curves that are constant or undefined.
    """
    if not np.isfinite(curves).all() or (np.ptp(curves, axis=1) == 0).any():
        raise ValueError("a curve that is constant or undefined has no length over which it keeps its course")
    n = curves.shape[1]

    def loss(logs: np.ndarray) -> float:
        root = np.linalg.cholesky(_covariance(n, math.exp(logs[0])) + math.exp(logs[1]) * np.eye(n))
        white, one = np.linalg.solve(root, curves.T), np.linalg.solve(root, np.ones(n))
        rest = white - np.outer(one, one @ white / (one @ one))
        return float(n / 2 * np.log(np.mean(rest**2, axis=0)).mean() + np.log(np.diag(root)).sum())

    bounds = [(math.log(1 / n), 0.0), (math.log(1e-8), 0.0)]
    found = minimize(loss, [math.log(0.1), math.log(1e-3)], method="Nelder-Mead", bounds=bounds)
    length, noise = np.exp(found.x).tolist()
    return length, noise


def null_curves(
    grid: Float[np.ndarray, " point"], n_random: int, seed: int, length: float = _LENGTH
) -> list[tuple[str, Float[np.ndarray, " point"]]]:
    """Named curves over the grid (point,): a line, |m|, tanh, log cosh, and `n_random` of each random kind.

    A smooth random curve is a draw of a Gaussian process over places on the grid with covariance
    e^-((s - t)^2 / (2 length^2)), white noise has no course at all.
    """
    x = grid / np.abs(grid).max()
    covariance = _covariance(len(grid), length)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    random = np.random.default_rng(seed)
    named = [("line", x), ("|m|", np.abs(x)), ("tanh", np.tanh(3 * x)), ("log cosh", np.log(np.cosh(3 * x)))]
    named += [(SMOOTH, root @ random.standard_normal(len(grid))) for _ in range(n_random)]
    return named + [(NOISE, random.standard_normal(len(grid))) for _ in range(n_random)]


def null_table(
    grid: Float[np.ndarray, " point"],
    n_random: int = 50,
    seed: int = 0,
    jobs: int = 2,
    lengths: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """R² of Eq. 15 ("preference") and Eq. 17 ("utility") on null curves: shape, number, curve, r2.

    `lengths` are those of the smooth random curves of each kind, 0.25 for None.
    """
    fitters = {"preference": fit_preference, "utility": fit_utility}
    lengths = lengths or dict.fromkeys(fitters, _LENGTH)
    drawn = {curve: null_curves(grid, n_random, seed, lengths[curve]) for curve in fitters}
    keys = [
        (
            {"shape": drawn[curve][number][0], "number": number, "curve": curve},
            fitter,
            drawn[curve][number][1],
        )
        for number in range(len(drawn["preference"]))
        for curve, fitter in fitters.items()
    ]
    # R² comes of the first solver alone
    work = joblib.Parallel(n_jobs=jobs)
    fits = work(joblib.delayed(fitter)(grid, y, checked=False) for _, fitter, y in keys)
    return pd.DataFrame([{**key, "r2": fit.r2} for (key, _, _), fit in zip(keys, fits, strict=True)])


@kept("null_fits", tolerance=0.01, digits=4, of="itself")
def null_fits(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """`null_table` over the grid of a profile, seed 0."""
    # no more than there are measured curves to lay them beside
    n_random = min(50, len(profile.cells()))
    return {"null_fits": null_table(np.array(profile.grid), n_random, jobs=jobs)}


@kept("curve_lengths", "random_curves", tolerance=0.01, digits=4, of="tables")
def random_curves(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Random curves as long in their course as the measured ones, fitted by Eq. 15 and 17.

    curve_lengths: per kind of curve its length and noise (see `measured_length`) over all training curves of
    trained cells, n_curves. random_curves: `null_table` with these lengths, 100 of each random kind, seed 0.
    """
    curves = mean_curves(profile, jobs)["curves"]
    trained = curves[(curves["split"] == "train") & ~curves["objective"].isin(CONTROLS)]
    rows, lengths = [], {}
    for kind in ODDS:
        table = trained.pivot(index=CURVE, columns="m_relative", values=kind).dropna()
        lengths[kind], noise = measured_length(table.to_numpy())
        rows.append({"curve": kind, "length": lengths[kind], "noise": noise, "n_curves": len(table)})
    n_random = min(100, len(trained.groupby(CURVE)))
    found = null_table(np.array(profile.grid), n_random, jobs=jobs, lengths=lengths)
    return {"curve_lengths": pd.DataFrame(rows), "random_curves": found}
