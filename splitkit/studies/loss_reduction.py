"""Losses summed over an answer's tokens beside their means (Eq. 28): what changes in curves and fits."""

from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Int

from splitkit.curves.decay import mean_curve
from splitkit.curves.shapes import shape_table
from splitkit.runs.cells import CellResult
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile, get_profile
from splitkit.studies.fits import fit_table
from splitkit.studies.frames import CELL
from splitkit.studies.mean_curves import swept_cells
from splitkit.tasks import first_tasks

TABLES = ("reduction", "reduction_curves")
OBJECTIVE = "split"
"""Shown for one objective in all forms, a task of each family, and each profile's first seed."""
_SIDES = ("positive", "negative")


def answer_lengths(
    model: str, task: str, n_pairs: int, split: str = "train", profile: Profile | None = None
) -> Int[np.ndarray, "side pair"]:
    """Tokens of the positive and of the negative answers, (2, pair), the end-of-answer token counted."""
    from splitkit.runs import answers
    from splitkit.steering.tokenization import encode_pairs

    profile = get_profile("embedded") if profile is None else profile
    loaded = answers.load(profile, model)
    encoded = encode_pairs(*loaded, answers.pairs(profile, task, split, *loaded)[:n_pairs])
    return np.array([[one.answer_length for one in side] for side in encoded])


def summed(sweep: pd.DataFrame, lengths: Int[np.ndarray, "side pair"]) -> pd.DataFrame:
    """The sweep with L = tokens x mean loss per token (Eq. 28), and Eq. 7 and 8 of those losses.

    Args:
        sweep: one row per (m, pair), with losses in nats per token.
        lengths: (2, pair) tokens of the positive and of the negative answers.

    Returns:
        The same rows and columns, losses in nats.

    Raises:
        ValueError: when the sweep's pairs are not as many as the lengths.
    """
    from splitkit.curves.log_odds import preference_log_odds, utility_log_odds

    if set(sweep["pair"]) != set(range(lengths.shape[1])):
        raise ValueError(
            f"the sweep has {sweep['pair'].nunique()} pairs, there are {lengths.shape[1]} lengths"
        )
    losses = [
        sweep[f"loss_{side}"].to_numpy() * own[sweep["pair"]]
        for side, own in zip(_SIDES, lengths, strict=True)
    ]
    names = (*(f"loss_{side}" for side in _SIDES), "preference", "utility")
    values = (*losses, preference_log_odds(*losses), utility_log_odds(*losses))
    return sweep.assign(**dict(zip(names, values, strict=True)))


@kept(*TABLES, tolerance=0.05, digits=4, of="first seed")
def reductions(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Mean and sum beside each other on a part of a profile's cells.

    Returns:
        "reduction", a row per cell and reduction: the cell's keys, reduction, share_undefined (of all pairs
        and strengths), n_pairs_utility, r2_preference, r2_utility, the columns of `shapes.shape_table`, and

        * from_smaller_loss: mean of |UtilOdds + min(L_p, L_n)| over pairs and strengths, as a share of the
          range of the mean curve: near 0 where utility is minus the smaller loss;
        * length_correlation: of PrefOdds at m = 0 with the negative answer's tokens less the positive's, over
          pairs; NaN where all differ by the same.

        "reduction_curves", a row per cell, reduction and m_relative with preference and utility.
    """
    chosen = _chosen(swept_cells(profile, jobs), profile)
    if not chosen:
        raise ValueError(f"profile {profile.name} has no curves of {OBJECTIVE} at seed {profile.seeds[0]}")
    work = joblib.Parallel(n_jobs=jobs)
    measured = work(joblib.delayed(_both)(result, profile) for result in chosen)
    rows, curves = ([one for part in parts for one in part] for parts in zip(*measured, strict=True))
    return dict(zip(TABLES, (pd.DataFrame(rows), pd.concat(curves, ignore_index=True)), strict=True))


def _both(result: CellResult, profile: Profile) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """The rows of "reduction" and the parts of "reduction_curves" of one cell, by each reduction."""
    rows, curves = [], []
    cell, sweep = result.cell, result.sweep("train")
    lengths = answer_lengths(cell.model, cell.task, sweep["pair"].nunique(), profile=profile)
    for reduction, own in (("mean", sweep), ("sum", summed(sweep, lengths))):
        curve = mean_curve(own).assign(**cell.key, split="train", m_relative=list(profile.grid))
        fits = fit_table(curve).set_index("curve")["r2"]
        shape = shape_table(curve).iloc[0].to_dict()
        rows.append(
            {name: shape.pop(name) for name in CELL}
            | {"reduction": reduction, "share_undefined": float(own["utility"].isna().mean())}
            | {"n_pairs_utility": int(curve["n_pairs_utility"].iloc[0])}
            | {f"r2_{name}": fits[name] for name in ("preference", "utility")}
            | {"from_smaller_loss": _from_smaller_loss(own, shape["utility_range"])}
            | {"length_correlation": _length_correlation(own, lengths)}
            | shape
        )
        kept = curve[[*CELL, "m_relative", "preference", "utility"]]
        kept.insert(len(CELL), "reduction", reduction)
        curves.append(kept)
    return rows, curves


def _chosen(cells: Sequence[CellResult], profile: Profile) -> list[CellResult]:
    tasks = first_tasks(profile.tasks).values()
    return [
        one
        for one in cells
        if one.cell.task in tasks and one.cell.objective == OBJECTIVE and one.cell.seed == profile.seeds[0]
    ]


def _from_smaller_loss(sweep: pd.DataFrame, moved: float) -> float:
    smaller = sweep[["loss_positive", "loss_negative"]].min(axis=1)
    return float((sweep["utility"] + smaller).abs().mean()) / moved if moved > 0 else float("nan")


def _length_correlation(sweep: pd.DataFrame, lengths: np.ndarray) -> float:
    unsteered = sweep[np.isclose(sweep["m"], 0)].sort_values("pair")["preference"].to_numpy()
    longer = lengths[1] - lengths[0]
    if np.ptp(longer) == 0 or np.ptp(unsteered) == 0:
        return float("nan")
    return float(np.corrcoef(unsteered, longer)[0, 1])
