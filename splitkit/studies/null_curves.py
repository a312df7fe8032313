"""Null curves: shapes with no validity decay behind them, and the R² of Eq. 15 and 17 on them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import minimize

from splitkit.curves.decay import fit_preference, fit_utility
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import CONTROLS, Profile
from splitkit.studies.frames import CURVE, ODDS, by_model_and_family
from splitkit.studies.mean_curves import mean_curves

SMOOTH, NOISE = "smooth random curve", "white noise"
MOST = 100
"""Random curves of a kind at most: their share that passes then has a standard error of 5 points or less."""
_FITTERS = {"preference": fit_preference, "utility": fit_utility}
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
) -> pd.DataFrame:
    """R² of Eq. 15 ("preference") and Eq. 17 ("utility") on null curves: shape, number, curve, r2."""
    named = [
        ({"shape": shape, "number": number, "curve": curve}, y)
        for number, (shape, y) in enumerate(null_curves(grid, n_random, seed))
        for curve in _FITTERS
    ]
    return _fitted(named, grid, jobs)


def _fitted(
    named: Sequence[tuple[Mapping[str, object], Float[np.ndarray, " point"]]],
    grid: Float[np.ndarray, " point"],
    jobs: int,
) -> pd.DataFrame:
    """A row per curve: its keys, `curve` among them, and r2, which comes of the first solver alone."""
    work = joblib.Parallel(n_jobs=jobs)
    fits = work(joblib.delayed(_FITTERS[str(keys["curve"])])(grid, y, checked=False) for keys, y in named)
    return pd.DataFrame([{**keys, "r2": fit.r2} for (keys, _), fit in zip(named, fits, strict=True)])


@kept("null_fits", tolerance=0.01, digits=4, of="itself")
def null_fits(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """`null_table` over the grid of a profile, seed 0."""
    # no more than there are measured curves to lay them beside
    n_random = min(50, len(profile.cells()))
    return {"null_fits": null_table(np.array(profile.grid), n_random, jobs=jobs)}


@kept("curve_lengths", "random_curves", tolerance=0.01, digits=4, of="tables", pools=["curves"])
def random_curves(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Random curves as long in their course as the measured ones, fitted by Eq. 15 and 17.

    curve_lengths: per model, task family and kind of curve the length and noise (see `measured_length`) of
    the training curves of trained cells, n_curves; `task` is the family. random_curves: smooth ones with each
    of these lengths, as many as there were curves and `MOST` at most, seed 0: model, task, shape, number,
    curve, r2; beside them, of model and task "any", the shapes of `null_curves` that have no length.
    """
    grid, rows = np.array(profile.grid), []
    named: list[tuple[dict[str, Any], np.ndarray]] = []
    curves = mean_curves(profile, jobs)["curves"]
    trained = curves[(curves["split"] == "train") & ~curves["objective"].isin(CONTROLS)]
    for model, family, part in by_model_and_family(trained):
        for kind in ODDS:
            table = part.pivot(index=CURVE, columns="m_relative", values=kind).dropna().to_numpy()
            table = table[np.ptp(table, axis=1) > 0]
            keys = {"model": model, "task": family, "curve": kind}
            if not len(table):
                continue
            length, noise = measured_length(table)
            rows.append(keys | {"length": length, "noise": noise, "n_curves": len(table)})
            drawn = null_curves(grid, min(MOST, len(table)), 0, length)
            smooth = [y for shape, y in drawn if shape == SMOOTH]
            named += [(keys | {"shape": SMOOTH, "number": number}, y) for number, y in enumerate(smooth)]
    for number, (shape, y) in enumerate(null_curves(grid, min(MOST, len(named)), 0)):
        of_any: dict[str, Any] = {"model": "any", "task": "any", "shape": shape, "number": number}
        named += [(of_any | {"curve": kind}, y) for kind in ODDS if shape != SMOOTH]
    found = _fitted(named, grid, jobs)[["model", "task", "shape", "number", "curve", "r2"]]
    return {"curve_lengths": pd.DataFrame(rows), "random_curves": found}
