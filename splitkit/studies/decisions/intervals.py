"""Intervals and exact tests over units: shares, means, medians, differences of two sides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import norm, permutation_test, t

from splitkit.runs.profiles import CONTROLS
from splitkit.studies.decisions.rules import FEWEST_CONCEPTS
from splitkit.studies.frames import family_column

DRAWS = 2000
"""Bootstrap draws, all of seed 0."""
ARRANGEMENTS = 200_000
"""Most arrangements that a test goes through (10 runs against 10 have 184,756); of more it takes a sample."""
NAN = math.nan


@dataclass(frozen=True)
class Estimate:
    """A number over units with its 95 % interval; NaN where it cannot be told."""

    value: float = NAN
    low: float = NAN
    high: float = NAN
    units: int = 0


def trained(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table of cells that are not controls."""
    return table[~table["objective"].isin(CONTROLS)]


def clusters(cells: pd.DataFrame) -> pd.Series:
    """The cluster of each row: its concept where its family has at least `FEWEST_CONCEPTS`, else its cell."""
    concepts = cells["task"].groupby(family_column(cells)).transform("nunique")
    own = cells["task"] + "/" + cells["form"] + "/" + cells["objective"] + "/" + cells["seed"].astype(str)
    return cells["task"].where(concepts >= FEWEST_CONCEPTS, own)


def unit_name(cells: pd.DataFrame) -> str:
    """What repeats in the cells of one family: "concept" where `clusters` are concepts, else "cell"."""
    return "concept" if cells["task"].nunique() >= FEWEST_CONCEPTS else "cell"


def share(passed: pd.Series, cluster: pd.Series, stratum: pd.Series | None = None) -> Estimate:
    """p and Wilson's interval with n_eff = p (1 - p) / var(p), at least the clusters and at most the rows.

    var(p) is that of a cluster sample (Korn and Graubard 1998); of strata p is the plain mean. Where all rows
    agree there is no variance to see, and n_eff is the number of rows.
    """
    n, units = len(passed), cluster.nunique()
    if not n:
        return Estimate()
    strata = pd.Series("", passed.index) if stratum is None else stratum
    means, variances = [], []
    for _, own in passed.astype(float).groupby(strata):
        sums = (own - own.mean()).groupby(cluster[own.index]).sum()
        means.append(own.mean())
        variances.append((sums**2).sum() / len(own) ** 2 * len(sums) / max(1, len(sums) - 1))
    p, variance = float(np.mean(means)), float(np.sum(variances)) / len(means) ** 2
    effective = float(np.clip(p * (1 - p) / variance, units, n)) if variance > 0 else float(n)
    low, high = wilson(p, effective)
    return Estimate(p, low, high, units)


def wilson(p: float, n: float) -> tuple[float, float]:
    """(p + z²/2n -+ z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n) with z = 1.96: n need not be whole."""
    z = float(norm.ppf(0.975))
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
    # the ends of 0 and 1 are exact, but for the last digit
    return (0.0 if p == 0 else low), (1.0 if p == 1 else high)


def excess(ours: Estimate, theirs: Estimate) -> Estimate:
    """ours - theirs, two independent shares, with Newcombe's interval from theirs and ours (method 10)."""
    difference = ours.value - theirs.value
    low = difference - math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    high = difference + math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Estimate(difference, low, high, min(ours.units, theirs.units))


def drawn(n: int, seed: int = 0) -> Int[np.ndarray, "draw unit"]:
    """Numbers of n units, drawn anew `DRAWS` times with replacement."""
    return np.random.default_rng(seed).integers(n, size=(DRAWS, n))


def ends(draws: Float[np.ndarray, " draw"]) -> tuple[float, float]:
    """2.5 and 97.5 % of the draws that are defined; NaN when more than half are not."""
    defined = draws[~np.isnan(draws)]
    if len(defined) < len(draws) / 2:
        return NAN, NAN
    # of the draws themselves: between a finite and an infinite one there is nothing
    low, high = np.quantile(defined, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def medians(values: pd.Series, unit: pd.Series, units: Sequence[object]) -> Float[np.ndarray, " 1+draw"]:
    """Median of the rows of the units, each once, then of each of `DRAWS` draws of them.

    NaN where a draw has no row.
    """
    place = {name: number for number, name in enumerate(units)}
    order = np.argsort(values.to_numpy(dtype=float))
    owner = np.array([place[name] for name in unit], dtype=int)[order]
    counts = np.stack([np.bincount(row, minlength=len(units)) for row in drawn(len(units))])
    below = np.concatenate([np.ones_like(counts[:1]), counts])[:, owner].cumsum(axis=1)
    if not len(values):
        return np.full(1 + DRAWS, NAN)
    n = below[:, -1]
    # the lower and the upper of the two rows in the middle, one row where n is odd
    middle = [(below > ((n - one) // 2)[:, None]).argmax(axis=1) for one in (1, 0)]
    found = values.to_numpy(dtype=float)[order][np.stack(middle)].mean(axis=0)
    return np.where(n > 0, found, NAN)


def median(values: pd.Series, cluster: pd.Series) -> Estimate:
    """Median over rows, with a bootstrap of the clusters."""
    known = values.dropna()
    units = list(dict.fromkeys(cluster[known.index]))
    if not units:
        return Estimate()
    found = medians(known, cluster[known.index], units)
    return Estimate(float(found[0]), *ends(found[1:]), len(units))


def mean(values: Float[np.ndarray, " unit"]) -> Estimate:
    """Mean over units with Student's interval; that of one unit is not known."""
    n = len(values)
    if not n:
        return Estimate()
    half = float(t.ppf(0.975, n - 1)) * values.std(ddof=1) / math.sqrt(n) if n > 1 else NAN
    value = float(values.mean())
    return Estimate(value, value - half, value + half, n)


def difference(
    ours: Float[np.ndarray, " unit"], theirs: Float[np.ndarray, " unit"], paired: bool
) -> tuple[Estimate, float]:
    """Mean of ours less mean of theirs, its interval (Student's paired, else Welch's), and an exact p.

    Exact is a permutation test of the mean: of signs where paired, of sides where not. A single number on
    their side is no sample and stands fixed: it is paired with each of ours. p is NaN for fewer than 2 units.
    """
    if paired or len(theirs) == 1:
        own = ours - theirs
        return mean(own), _p_of_signs(own)
    value, sides = float(ours.mean() - theirs.mean()), (ours, theirs)
    if min(len(ours), len(theirs)) < 2:
        return Estimate(value, NAN, NAN, min(len(ours), len(theirs))), NAN
    parts = np.array([side.var(ddof=1) / len(side) for side in sides])
    freedom = parts.sum() ** 2 / (parts**2 / [len(side) - 1 for side in sides]).sum() if parts.any() else 1.0
    half = float(t.ppf(0.975, freedom)) * math.sqrt(parts.sum())
    found = Estimate(value, value - half, value + half, min(len(ours), len(theirs)))
    return found, _p_of_sides(ours, theirs)


def _p_of_signs(values: np.ndarray) -> float:
    if len(values) < 2:
        return NAN
    found = permutation_test(
        (values,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=ARRANGEMENTS,
        rng=0,
    )
    return float(found.pvalue)


def _p_of_sides(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Twice the share of arrangements whose difference of means is at least as far on the nearer side."""
    both, n = np.concatenate([ours, theirs]), len(ours)
    if math.comb(len(both), n) <= ARRANGEMENTS:
        # scipy goes through them one by one: 13 s for 10 against 10
        sums = both[_sides(len(both), n)].sum(axis=1)
    else:
        random = np.random.default_rng(0)
        drawn = random.permuted(np.tile(both, (ARRANGEMENTS, 1)), axis=1)[:, :n].sum(axis=1)
        sums = np.append(drawn, ours.sum())
    slack = 1e-9 * max(1.0, np.abs(both).sum())
    above, below = (sums >= ours.sum() - slack).mean(), (sums <= ours.sum() + slack).mean()
    return float(min(1.0, 2 * min(above, below)))


@cache
def _sides(n: int, chosen: int) -> np.ndarray:
    return np.array(list(combinations(range(n), chosen)))


def holm(p: Sequence[float]) -> list[float]:
    """max over i <= k of (n - i + 1) p_(i), at most 1: p corrected for the number of comparisons.

    Comparisons whose p is NaN are not counted, and stay NaN.
    """
    values = np.asarray(p, dtype=float)
    order = [i for i in np.argsort(values) if not math.isnan(values[i])]
    corrected, largest = np.full(len(values), NAN), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * values[i]))
        corrected[i] = largest
    return [float(value) for value in corrected]
