"""Curves and fits of losses summed over an answer's tokens (Eq. 28), beside those of their means."""

from typing import Any

import joblib
import numpy as np
import pandas as pd
from jaxtyping import Int

from splitkit.curves.decay import mean_curve
from splitkit.curves.shapes import shape_table
from splitkit.runs.cells import CellResult
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.studies.fits import fit_table
from splitkit.studies.frames import CELL
from splitkit.studies.mean_curves import swept_cells
from splitkit.tasks import first_tasks

OBJECTIVE = "split"
"""The one objective that is compared, in all forms, on a task of each family, at the first seed."""
_LOSSES = ["loss_positive", "loss_negative"]


def answer_lengths(profile: Profile, model: str, task: str, n_pairs: int) -> Int[np.ndarray, "side pair"]:
    """Tokens of the positive and of the negative training answers, with the end-of-answer token."""
    from splitkit.runs import answers
    from splitkit.steering.tokenization import encode_pairs

    loaded = answers.load(profile, model)
    encoded = encode_pairs(*loaded, answers.pairs(profile, task, "train", *loaded)[:n_pairs])
    return np.array([[one.answer_length for one in side] for side in encoded])


def summed(sweep: pd.DataFrame, lengths: Int[np.ndarray, "side pair"]) -> pd.DataFrame:
    """The sweep with L = tokens x mean loss per token (Eq. 28), in nats, and Eq. 7 and 8 of those losses.

    ValueError when the sweep's pairs are not as many as the lengths (2, pair).
    """
    from splitkit.curves.log_odds import preference_log_odds, utility_log_odds

    if set(sweep["pair"]) != set(range(lengths.shape[1])):
        raise ValueError(
            f"the sweep has {sweep['pair'].nunique()} pairs, there are {lengths.shape[1]} lengths"
        )
    losses = {
        name: sweep[name].to_numpy() * own[sweep["pair"]] for name, own in zip(_LOSSES, lengths, strict=True)
    }
    odds = {
        "preference": preference_log_odds(*losses.values()),
        "utility": utility_log_odds(*losses.values()),
    }
    return sweep.assign(**losses, **odds)


@kept("reduction", "reduction_curves", tolerance=0.05, digits=4, of="first seed")
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
    tasks, seed = first_tasks(profile.tasks).values(), profile.seeds[0]
    work = joblib.Parallel(n_jobs=jobs)
    measured = work(
        joblib.delayed(_both)(one, profile)
        for one in swept_cells(profile, jobs)
        if one.cell.task in tasks and one.cell.objective == OBJECTIVE and one.cell.seed == seed
    )
    if not measured:
        raise ValueError(f"profile {profile.name} has no curves of {OBJECTIVE} at seed {seed}")
    rows, curves = ([one for part in parts for one in part] for parts in zip(*measured, strict=True))
    return {"reduction": pd.DataFrame(rows), "reduction_curves": pd.concat(curves, ignore_index=True)}


def _both(result: CellResult, profile: Profile) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """The rows of "reduction" and the parts of "reduction_curves" of one cell, by each reduction."""
    rows, curves = [], []
    cell, sweep = result.cell, result.sweep("train")
    if "tokens_positive" in sweep:
        first = sweep[np.isclose(sweep["m"], 0)].sort_values("pair")
        lengths = first[["tokens_positive", "tokens_negative"]].to_numpy().T
        sweep = summed(sweep, 1.0 / lengths)
    else:
        lengths = answer_lengths(profile, cell.model, cell.task, sweep["pair"].nunique())
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
        columns = [*CELL, "reduction", "m_relative", "preference", "utility"]
        curves.append(curve.assign(reduction=reduction)[columns])
    return rows, curves


def _from_smaller_loss(sweep: pd.DataFrame, moved: float) -> float:
    smaller = sweep[_LOSSES].min(axis=1)
    return float((sweep["utility"] + smaller).abs().mean()) / moved if moved > 0 else float("nan")


def _length_correlation(sweep: pd.DataFrame, lengths: np.ndarray) -> float:
    unsteered = sweep[np.isclose(sweep["m"], 0)].sort_values("pair")["preference"].to_numpy()
    longer = lengths[1] - lengths[0]
    if np.ptp(longer) == 0 or np.ptp(unsteered) == 0:
        return float("nan")
    return float(np.corrcoef(unsteered, longer)[0, 1])
