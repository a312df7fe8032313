"""Curves of preference and utility against the strength m, and their fits (Eq. 12, 15 and 17)."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from splitkit.curves.solvers import BRANCHES, NAMES, STARTS, solve_constrained, solve_parametrised
from splitkit.curves.validity import Breakdown, Validity

COEFFICIENTS = {"preference": ("alpha", "beta", "b"), "utility": ("beta_u", "b_u")}
TOLERANCE = 0.002
"""Difference in R^2 between the two solvers beyond which a fit is flagged."""


def preference_curve(
    m: np.ndarray | float, alpha: float, beta: float, b: float, validity: Validity
) -> np.ndarray:
    """PrefOdds(m) = (alpha m + beta) D(m) + b (Eq. 15); m of any shape, the result in b's unit."""
    return (alpha * np.asarray(m, dtype=float) + beta) * validity(m) + b


def utility_curve(m: np.ndarray | float, beta_u: float, b_u: float, validity: Validity) -> np.ndarray:
    """UtilOdds(m) = beta_u D(m) + b_u (Eq. 17); m of any shape, the result in b_u's unit."""
    return beta_u * validity(m) + b_u


def curve(kind: str, m: ArrayLike, parameters: Mapping[str, Any]) -> np.ndarray:
    """Eq. 15 ("preference") or 17 ("utility") at each m, with its parameters and those of Eq. 12 by name.

    Parameters are numbers, or arrays (draw, 1) for a curve per draw.
    """
    equation = preference_curve if kind == "preference" else utility_curve
    coefficients = {name: parameters[name] for name in COEFFICIENTS[kind]}
    validity = Validity(*(parameters[name] for name in NAMES))
    return equation(np.asarray(m, dtype=float), **coefficients, validity=validity)


def r2(y: ArrayLike, predicted: ArrayLike) -> float:
    """R^2 = 1 - sum (y - yhat)^2 / sum (y - mean y)^2: 1 is perfect, below 0 is worse than the mean.

    NaN when y is constant, where R^2 is undefined.

    Raises:
        ValueError: when the shapes differ, or when y or the prediction has NaN or infinite values.
    """
    y, predicted = np.asarray(y, dtype=float), np.asarray(predicted, dtype=float)
    if y.shape != predicted.shape:
        raise ValueError(f"y {y.shape} and its prediction {predicted.shape} must have one shape.")
    _require_finite(y, "y")
    _require_finite(predicted, "the prediction")
    if _is_constant(y):
        return math.nan
    return float(1 - np.sum((y - predicted) ** 2) / np.sum((y - y.mean()) ** 2))


@dataclass(frozen=True)
class Fit:
    """A fitted curve.

    `kind` says which: "preference" (Eq. 15) or "utility" (Eq. 17). `parameters` are those of that equation
    and of Eq. 12 (alpha, beta, b or beta_u, b_u; m_plus, L_plus, p_plus, m_minus, L_minus, p_minus) in units
    of the m and y that were given. `agreement` is R^2 of the independent second solver minus R^2; `flagged`
    is True where it is beyond 0.002 either way. `at_bound` names decay parameters that ended at the edge of
    what is searched, and so are not determined by the data: usually D is then nearly flat, or nearly a bell
    e^-(m^2), over the grid. `starts` is the number of starting points of the first solver. `lowest` and
    `highest` are the ends of the fitted grid, in the unit of m: no breakdown is told beyond them. `note` says
    why r2 is NaN where it is.
    """

    kind: Literal["preference", "utility"]
    parameters: dict[str, float]
    r2: float
    agreement: float
    flagged: bool
    at_bound: list[str]
    starts: int
    lowest: float
    highest: float
    note: str = ""

    @property
    def validity(self) -> Validity:
        """D of Eq. 12 with the fitted parameters."""
        return Validity(*(self.parameters[name] for name in NAMES))

    def predict(self, m: ArrayLike) -> np.ndarray:
        """The fitted curve at each m, of m's shape."""
        return curve(self.kind, m, self.parameters)

    def score(self, m: ArrayLike, y: ArrayLike) -> float:
        """R^2 of this curve on other data, as for transfer from train to test; it can be negative."""
        return r2(y, self.predict(m))

    def breakdown(self) -> Breakdown:
        """The m on each side where D(m) = 1/2; NaN where that is outside the grid of the fit."""
        if self.note:
            return Breakdown(math.nan, math.nan, self.note)
        return self.validity.breakdown(self.lowest, self.highest)


def fit_preference(m: ArrayLike, y: ArrayLike, *, checked: bool = True) -> Fit:
    """PrefOdds(m) = (alpha m + beta) D(m) + b (Eq. 15), fitted by least squares.

    SLSQP with D continuous at m = 0 (appendix E) from several seeded starts, checked by a second solver. m
    and y are scaled within, so any unit of m does.

    Args:
        m: (point,) strengths of both signs, at least nine distinct ones.
        y: (point,) preference log-odds (Eq. 7) in nats or nats per token; several per m are allowed.
        checked: run the second solver; without it `agreement` is NaN and nothing is flagged.

    Raises:
        ValueError: for NaN in m or y, m on one side of 0, or fewer distinct m than parameters.
    """
    return _fit("preference", m, y, checked)


def fit_utility(m: ArrayLike, y: ArrayLike, *, checked: bool = True) -> Fit:
    """UtilOdds(m) = beta_u D(m) + b_u (Eq. 17), fitted by least squares like `fit_preference`.

    Args:
        m: (point,) strengths of both signs, at least eight distinct ones.
        y: (point,) utility log-odds (Eq. 8) in nats; several per m are allowed.
        checked: as in `fit_preference`.

    Raises:
        ValueError: for NaN in m or y, m on one side of 0, or fewer distinct m than parameters.
    """
    return _fit("utility", m, y, checked)


def mean_curve(sweep: pd.DataFrame) -> pd.DataFrame:
    """Mean over pairs of PrefOdds (Eq. 7) and UtilOdds (Eq. 8) at each m of a sweep.

    Preference is averaged over all pairs. Utility is averaged over the pairs for which Eq. 8 is defined at
    *every* m, so that each point of the curve is about the same pairs; where no such pair is left it is NaN,
    with no substitute.

    Args:
        sweep: one row per (m, pair), with columns m, pair, preference, utility, and push where it is known.

    Returns:
        One row per m, ascending: m, preference, utility, preference_sem, utility_sem (standard errors over
        pairs), n_pairs, n_pairs_utility, share_undefined (of the pairs, at that m); push, the median over
        pairs, where the sweep has it.

    Raises:
        ValueError: for what is no table, when a column is missing, a (m, pair) occurs twice or not at all, or
            a preference is NaN.
    """
    if not isinstance(sweep, pd.DataFrame):
        raise ValueError(
            "sweep must be a DataFrame with the columns m, pair, preference, utility, "
            f"not a {type(sweep).__name__}."
        )
    needed = {"m", "pair", "preference", "utility"}
    if missing := sorted(needed - set(sweep.columns)):
        raise ValueError(f"The sweep lacks the column(s) {missing}; it has {sorted(sweep.columns)}.")
    if sweep.empty or sweep.duplicated(["m", "pair"]).any():
        raise ValueError("The sweep is empty or holds a (m, pair) twice: give that of one cell and split.")
    preference = sweep.pivot(index="m", columns="pair", values="preference").sort_index()
    utility = sweep.pivot(index="m", columns="pair", values="utility").sort_index()
    if len(sweep) != preference.size:
        raise ValueError(
            f"{preference.size - len(sweep)} of {preference.size} (m, pair) are not in the sweep."
        )
    if preference.isna().any(axis=None):
        raise ValueError("Preference (Eq. 7) is NaN somewhere in the sweep: losses were not finite.")
    defined = utility.dropna(axis="columns")
    moved = {"push": sweep.groupby("m")["push"].median()} if "push" in sweep else {}
    return pd.DataFrame(
        {
            "preference": preference.mean(axis="columns"),
            "utility": defined.mean(axis="columns"),
            "preference_sem": preference.sem(axis="columns"),
            "utility_sem": defined.sem(axis="columns"),
            "n_pairs": preference.shape[1],
            "n_pairs_utility": defined.shape[1],
            "share_undefined": utility.isna().mean(axis="columns"),
            **moved,
        }
    ).reset_index()


def _fit(kind: Literal["preference", "utility"], m: ArrayLike, y: ArrayLike, checked: bool) -> Fit:
    m, y = np.asarray(m, dtype=float), np.asarray(y, dtype=float)
    check_points(kind, m, y)
    names, unit, centre = COEFFICIENTS[kind], float(np.abs(m).max()), float(y.mean())
    starts = STARTS * len(BRANCHES)
    edges = float(m.min()), float(m.max())
    if _is_constant(y):
        flat = (
            dict.fromkeys(names, 0.0) | {names[-1]: centre} | asdict(Validity(0, unit**2, 1, 0, unit**2, 1))
        )
        reason = "y is constant: R^2 and the decay are undefined"
        return Fit(kind, flat, math.nan, math.nan, False, [], starts, *edges, note=reason)
    scale = float(y.std())
    x, z = m / unit, (y - centre) / scale
    basis = np.stack([x, np.ones_like(x)], axis=1) if kind == "preference" else np.ones((len(x), 1))
    solution = solve_constrained(x, z, basis)
    values = solution.coefficients * scale
    values[-1] += centre
    if kind == "preference":
        values[0] /= unit
    agreement = solution.cost - solve_parametrised(x, z, basis).cost if checked else math.nan
    return Fit(
        kind=kind,
        parameters=dict(zip(names, values.tolist(), strict=True)) | asdict(solution.validity.scaled(unit)),
        r2=1 - solution.cost,
        agreement=agreement,
        flagged=checked and not abs(agreement) <= TOLERANCE,
        at_bound=list(solution.at_bound),
        starts=starts,
        lowest=edges[0],
        highest=edges[1],
    )


def check_points(kind: str, m: np.ndarray, y: np.ndarray) -> None:
    """Raises ValueError unless m and y, (point,), determine a "preference" or "utility" curve."""
    if m.ndim != 1 or m.shape != y.shape:
        raise ValueError(f"m {m.shape} and y {y.shape} must both be (point,).")
    _require_finite(m, "m")
    _require_finite(y, "y")
    if not (m < 0).any() or not (m > 0).any():
        raise ValueError("Eq. 12 has a side for each sign of m, but m has values on one side of 0 only.")
    n_parameters = len(COEFFICIENTS[kind]) + 6
    distinct = len(np.unique(m))
    if distinct < n_parameters:
        raise ValueError(
            f"{distinct} distinct m are too few for the {n_parameters} parameters of the {kind} curve."
        )


def _require_finite(values: np.ndarray, name: str) -> None:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {values.size} values of {name} are NaN or infinite. Drop the pairs whose log-odds are "
            "undefined at any m before averaging, as mean_curve does."
        )


def _is_constant(y: np.ndarray) -> bool:
    return bool(np.ptp(y) <= 1e-12 * np.abs(y).max())
