"""The mean curves of every cell of a profile."""

from itertools import islice

import joblib
import pandas as pd

from splitkit.curves.shapes import linear_by_centre as linear_by_centre
from splitkit.curves.shapes import shape_table
from splitkit.runs.cells import CellResult, compute_cells
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile, get_profile
from splitkit.runs.results import read_table, write_table

TOLERANCE = 0.05
"""Largest deviation of another machine's curves from the committed ones, in nats over max(1, |value|)."""
TOKENS = ("tokens_positive", "tokens_negative")
"""Columns of a sweep whose losses are sums over so many tokens (see `Profile.reduction`)."""


def swept_cells(profile: Profile, jobs: int = 2) -> list[CellResult]:
    """The finished cells of a profile that have curves."""
    return [result for result in compute_cells(profile, jobs) if "curves" in result.folders]


@kept("curves", tolerance=TOLERANCE)
def mean_curves(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Mean curves of every cell of a profile, see `curves`."""
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")
    parts = work(
        joblib.delayed(curve_of)(result, split, profile)
        for result in swept_cells(profile, jobs)
        for split in ("train", "test")
    )
    # many small tables take several times the memory of one that holds their rows
    together = [pd.concat(some) for some in iter(lambda: list(islice(parts, 64)), [])]
    return {"curves": pd.concat(together, ignore_index=True)}


def curve_of(result: CellResult, split: str, profile: Profile) -> pd.DataFrame:
    """The mean curve of one cell and split of a profile, its part of `mean_curves`."""
    from splitkit.curves.decay import mean_curve

    sweep = result.sweep(split)
    curve = mean_curve(sweep).sort_values("m", ignore_index=True)
    curve["tokens"] = sweep[list(TOKENS)].to_numpy().mean() if TOKENS[0] in sweep else 1.0
    if profile.name == "embedded":
        # its record was made before the push was measured
        curve = curve.drop(columns=["push", "tokens"], errors="ignore")
    curve.insert(1, "m_relative", list(profile.grid))
    key = {**result.cell.key, "split": split}
    return curve.assign(**key)[[*key, *curve]]


def curves(profile: Profile | str = "embedded", jobs: int = 2) -> pd.DataFrame:
    """The mean curves of a profile: the embedded profile's from the committed table, else from its cells.

    Returns:
        One row per cell, split and strength: model, task, form, objective, seed, split ("train", "test"), m
        (Eq. 5), m_relative (m in the cell's matching strengths), preference (Eq. 7) and utility (Eq. 8),
        means over pairs of what losses in nats per token give; their standard errors preference_sem and
        utility_sem; n_pairs, n_pairs_utility, share_undefined (see `decay.mean_curve`); push, how far the
        stream is moved in units of its own length (see `sweeps.sweep`), the median over pairs; tokens,
        what the log-odds are summed over: the mean length of an answer, or 1 where losses are means.

    Raises:
        KeyError: for an unknown profile, with those there are; else what `cells.compute_cells` raises.
    """
    return mean_curves(get_profile(profile) if isinstance(profile, str) else profile, jobs)["curves"]


def kept_shapes(curves: pd.DataFrame, profile: Profile, split: str) -> pd.DataFrame:
    """`shapes.shape_table` of the curves of one split, kept as the profile's `shapes.csv`."""
    write_table(shape_table(curves, split=split), "shapes", profile, tolerance=0.05)
    return read_table("shapes", profile)
