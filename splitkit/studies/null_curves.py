"""Null curves: shapes with no validity decay behind them, and the R² of Eq. 15 and 17 on them."""

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Float

from splitkit.curves.decay import fit_preference, fit_utility
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile

SMOOTH, NOISE = "smooth random curve", "white noise"
_LENGTH = 0.25
"""Length over which a smooth random curve keeps its course, as a share of the grid."""


def null_curves(
    grid: Float[np.ndarray, " point"], n_random: int, seed: int
) -> list[tuple[str, Float[np.ndarray, " point"]]]:
    """Named curves over the grid (point,): a line, |m|, tanh, log cosh, and `n_random` of each random kind.

    A smooth random curve is a draw of a Gaussian process over places on the grid with covariance
    e^-((s - t)^2 / (2 0.25^2)), white noise has no course at all.
    """
    x = grid / np.abs(grid).max()
    place = np.linspace(0, 1, len(grid))
    covariance = np.exp(-0.5 * ((place[:, None] - place) / _LENGTH) ** 2)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    random = np.random.default_rng(seed)
    named = [("line", x), ("|m|", np.abs(x)), ("tanh", np.tanh(3 * x)), ("log cosh", np.log(np.cosh(3 * x)))]
    named += [(SMOOTH, root @ random.standard_normal(len(grid))) for _ in range(n_random)]
    return named + [(NOISE, random.standard_normal(len(grid))) for _ in range(n_random)]


def null_table(
    grid: Float[np.ndarray, " point"], n_random: int = 50, seed: int = 0, jobs: int = 2
) -> pd.DataFrame:
    """R² of Eq. 15 ("preference") and Eq. 17 ("utility") on null curves: shape, number, curve, r2."""
    fitters = {"preference": fit_preference, "utility": fit_utility}
    keys = [
        ({"shape": shape, "number": number, "curve": curve}, fitter, y)
        for number, (shape, y) in enumerate(null_curves(grid, n_random, seed))
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
