"""The operating point: the strength with the most preference among those that keep utility."""

from dataclasses import dataclass
from numbers import Real

import pandas as pd

from splitkit.curves.decay import mean_curve


@dataclass(frozen=True)
class OperatingPoint:
    """The chosen strength, the reason in words, and the table it was read from.

    m: in the unit of the sweep's column m; that of `sweep` is the factor of dh (Eq. 5), what `applied` takes.
    table: one row per m, ascending, with the columns of `mean_curve`: m; preference and utility, means over
    pairs (nats); preference_sem and utility_sem, their standard errors (nats); n_pairs and n_pairs_utility,
    numbers of pairs; share_undefined, the share of pairs without utility at that m (0 to 1); and allowed,
    whether mean utility is within the tolerance of that at m = 0.
    """

    m: float
    reason: str
    table: pd.DataFrame


def operating_point(sweep: pd.DataFrame, tolerance: float = 0.5) -> OperatingPoint:
    """m* = argmax over m of mean PrefOdds(m), subject to mean UtilOdds(m) >= UtilOdds(0) - tolerance.

    Of equal preferences the smallest |m| wins. Means are those of `mean_curve`: utility over the pairs for
    which Eq. 8 is defined at every m, their number being part of the reason.

    Args:
        sweep: one row per (m, pair), with columns m, pair, preference, utility; m = 0 among them.
        tolerance: how much mean utility may fall below that of the unsteered model, in nats.

    Raises:
        ValueError: when the sweep is no such table or has no m = 0, tolerance is negative or NaN, or utility
            is undefined for every pair (then losses summed over tokens, `reduction="sum"`, define it).
    """
    curve = mean_curve(sweep)
    if not isinstance(tolerance, Real) or not tolerance >= 0:
        raise ValueError(f"tolerance must be 0 or more nats, not {tolerance!r}.")
    base = curve.loc[curve["m"] == 0]
    if base.empty:
        raise ValueError("The sweep has no m = 0, the unsteered model that utility is compared with.")
    n_pairs, n_defined = int(curve["n_pairs"].iloc[0]), int(curve["n_pairs_utility"].iloc[0])
    if n_defined == 0:
        raise ValueError(
            f"Utility (Eq. 8) is undefined at some m for each of the {n_pairs} pairs, so nothing bounds the "
            'strength. Sweep losses summed over tokens (reduction="sum") instead, or harder answers.'
        )
    floor = float(base["utility"].iloc[0]) - tolerance
    curve["allowed"] = curve["utility"] >= floor
    allowed = curve[curve["allowed"]].assign(size=lambda rows: rows["m"].abs())
    best = allowed.sort_values(["preference", "size"], ascending=[False, True]).iloc[0]
    gain = best["preference"] - float(base["preference"].iloc[0])
    cost = float(base["utility"].iloc[0]) - best["utility"]
    within = f"mean utility within {tolerance:g} nats of the unsteered model"
    known = f"{n_defined} of {n_pairs} pairs have it"
    if len(allowed) == 1:
        reason = f"Only m = 0 of the {len(curve)} strengths on this grid keeps {within} ({known})."
        reason += " Try smaller |m|."
    elif best["m"] == 0:
        reason = (
            f"No strength raises mean preference above that of m = 0 among the {len(allowed)} of "
            f"{len(curve)} that keep {within} ({known})."
        )
    else:
        reason = (
            f"m = {best['m']:.4g} raises mean preference by {gain:.2f} nats, the most of the {len(allowed)} "
            f"of {len(curve)} strengths that keep {within} "
            f"(here it {'falls' if cost >= 0 else 'rises'} by {abs(cost):.2f}; {known})."
        )
        if best["m"] in (curve["m"].min(), curve["m"].max()):
            reason += " It is the edge of the grid: a wider one may find more."
    return OperatingPoint(float(best["m"]), reason, curve)
