"""C1 to C4: the three forms are one, and the shapes of preference and utility against the strength.

Their table of curves has one row per cell, split and strength: model, task, form, objective, seed, split, m
(Eq. 5), push (median over steered tokens of |h' - h| / |h|, from 0 on), preference and utility (Eq. 7 and 8,
NaN where undefined), preference_sem and utility_sem (standard errors over pairs). Rows of the objectives
"random" and "natural" are controls. The training curves are judged.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import spearmanr

from splitkit.runs.profiles import CONTROLS
from splitkit.studies.decisions.grading import (
    Beside,
    Found,
    Judged,
    Values,
    decide,
    decide_share,
    graded,
    together,
)
from splitkit.studies.decisions.intervals import (
    NAN,
    Estimate,
    clusters,
    ends,
    excess,
    medians,
    share,
    trained,
)
from splitkit.studies.decisions.rules import FEWEST_CONCEPTS, FEWEST_STRENGTHS, FORMS, RULES
from splitkit.studies.frames import CELL, CURVE, ODDS, by_model, by_model_and_family, require

PLACES = 41
"""Number of places, evenly spaced in push, at which two curves are compared."""
_DRAWN = "drawn in Fig. 2, 4, 5"


@dataclass(frozen=True)
class Curve:
    """One curve at the strengths at which it is defined, by rising m; each array (strength,).

    Attributes:
        sem: median standard error.
    """

    m: Float[np.ndarray, " strength"]
    push: Float[np.ndarray, " strength"]
    y: Float[np.ndarray, " strength"]
    sem: float

    @cached_property
    def moves(self) -> float:
        """max y - min y in standard errors; infinite without noise, NaN without a curve."""
        if not len(self.y):
            return NAN
        return float(np.ptp(self.y) / self.sem) if self.sem > 0 else np.inf if np.ptp(self.y) > 0 else 0.0

    @cached_property
    def last_doubling(self) -> float:
        """|y(M) - y(M/2)| / (max y - min y) of one side, M its largest |m|: the larger of both sides.

        NaN where a side is missing or flat: there it has not been seen to settle.
        """
        ends = []
        for side in (-1, 1):
            reach, y = self._outwards(side, self.m * side >= 0)
            spread = np.ptp(y) if len(y) else 0.0
            half = np.interp(reach[-1] / 2, reach, y) if len(y) else NAN
            ends.append(abs(y[-1] - half) / spread if spread > 0 else NAN)
        return float(max(ends)) if not np.isnan(ends).any() else NAN

    @cached_property
    def fall(self) -> float:
        """-Spearman(|m|, y) from the peak outwards: the smaller of both sides.

        NaN with fewer than FEWEST_STRENGTHS on a side.
        """
        top = self.m[int(np.argmax(self.y))]
        falls = []
        for side in (-1, 1):
            reach, y = self._outwards(side, side * self.m >= side * top)
            enough = len(y) >= FEWEST_STRENGTHS and np.ptp(y) > 0
            falls.append(-float(spearmanr(reach, y).statistic) if enough else NAN)
        return float(min(falls)) if not np.isnan(falls).any() else NAN

    def line(self, small: float) -> tuple[float, float]:
        """Largest deviation from the least-squares line in m where push <= small, and the line's R².

        The deviation is a share of the range of the whole curve. NaN with fewer than FEWEST_STRENGTHS.
        """
        near = self.push <= small
        if near.sum() < FEWEST_STRENGTHS:
            return NAN, NAN
        m, y = self.m[near], self.y[near]
        if np.ptp(y) == 0:
            return 0.0, 0.0
        across, up = m - m.mean(), y - y.mean()
        rest = up - across * (across @ up) / (across @ across)
        return float(np.abs(rest).max() / np.ptp(self.y)), float(1 - (rest @ rest) / (up @ up))

    def _outwards(self, side: int, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(side * self.m[chosen])
        return side * self.m[chosen][order], self.y[chosen][order]


def cell_curves(curves: pd.DataFrame, split: str = "train") -> pd.DataFrame:
    """One row per cell: model, task, form, objective, seed, and a `Curve` each for preference and utility.

    KeyError lists the splits there are when there is none of that name; ValueError for a missing column.
    """
    require(curves, *CURVE, "m", "push", *ODDS, *(f"{name}_sem" for name in ODDS))
    chosen = curves[curves["split"] == split]
    if chosen.empty:
        raise KeyError(f"no curves of split {split!r}; there are {sorted(set(curves['split']))}")
    chosen = chosen.sort_values("m")
    numbers = {name: chosen[name].to_numpy(dtype=float) for name in ("m", "push", *ODDS)}
    numbers |= {f"{name}_sem": chosen[f"{name}_sem"].to_numpy(dtype=float) for name in ODDS}
    rows = []
    for key, place in chosen.groupby(CELL, sort=True).indices.items():
        row: dict[str, object] = dict(zip(CELL, key, strict=True))
        for name in ODDS:
            own = place[~np.isnan(numbers[name][place])]
            sem = float(np.nanmedian(numbers[f"{name}_sem"][own])) if len(own) else NAN
            row[name] = Curve(numbers["m"][own], numbers["push"][own], numbers[name][own], sem)
        rows.append(row)
    return pd.DataFrame(rows)


def decide_c1(deviations: pd.DataFrame) -> Judged:
    """One verdict per model from rows (model, form, deviation): |steered - rewritten weights| in float64.

    A form's largest deviation counts; one that is NaN, or a form that is missing, leaves the claim undecided.
    """
    require(deviations, "model", "form", "deviation")

    def judged(model: str, task: str, rows: pd.DataFrame) -> Judged:
        largest = rows.groupby("form")["deviation"].agg(lambda d: d.max(skipna=False)).reindex(list(FORMS))

        def find(values: Values) -> Found:
            known = int(largest.notna().sum())
            number = float((largest < values["exact"]).mean()) if known == len(FORMS) else NAN
            return graded(RULES["C1"], Estimate(number, number, number, known), known)

        return decide("C1", model, task, find, unit="form", paper="an identity")

    return together(judged(*group) for group in by_model(deviations))


def decide_c2(curves: pd.DataFrame) -> Judged:
    """One verdict per model and family: preference straight where the push is small, settled at the ends."""

    def passes(curve: Curve, values: Values) -> float:
        off, r2 = curve.line(values["small"])
        if np.isnan(off):
            return NAN
        straight = off <= values["straight"] and r2 >= values["carried"]
        return float(straight and curve.last_doubling <= values["settled"])

    return _decide_shape("C2", "preference", passes, curves)


def decide_c3(curves: pd.DataFrame) -> Judged:
    """One verdict per model and family: utility peaks where the push is small, falls, and settles."""

    def passes(curve: Curve, values: Values) -> float:
        near = curve.push[int(np.argmax(curve.y))] <= values["small"]
        settled = curve.last_doubling <= values["settled"]
        return float(near and curve.fall >= values["falls"] and settled)

    return _decide_shape("C3", "utility", passes, curves)


def _decide_shape(
    claim: str, name: str, passes: Callable[[Curve, Values], float], curves: pd.DataFrame
) -> Judged:
    def judged(model: str, task: str, rows: pd.DataFrame) -> Judged:
        cluster = clusters(rows)

        def shares(part: pd.DataFrame, values: Values) -> tuple[Estimate, int]:
            moving = part.loc[part[name].map(lambda curve: curve.moves > values["noise"]).astype(bool), name]
            found = moving.map(lambda curve: passes(curve, values)).astype(float).dropna()
            return share(found > 0, cluster[found.index]), len(found)

        return decide_share(claim, model, task, rows, shares, paper=_DRAWN)

    groups = by_model_and_family(cell_curves(curves))
    return together(judged(*group) for group in groups if len(trained(group[2])))


def decide_c4(curves: pd.DataFrame) -> Judged:
    """One verdict per model and family: correlation of the curves of different forms, and of objectives."""

    def judged(model: str, task: str, rows: pd.DataFrame) -> Judged:
        rows = rows[rows["form"].isin(FORMS)]
        cells, controls = trained(rows), rows[rows["objective"].isin(CONTROLS)]
        by_concept = cells["task"].nunique() >= FEWEST_CONCEPTS

        def find(values: Values) -> Found:
            table = pd.DataFrame(_pairs(cells, values, by_concept), columns=_PAIR)
            kinds = [(of, name) for of in ("form", "objective") for name in ODDS]
            found = _lowest(table, kinds)
            judged = sum(_moves(row, "preference", values) for row in cells.to_dict("records"))
            return graded(RULES["C4"], found, judged)

        values = RULES["C4"].values
        vectors = cells[cells["form"] == "vector"]
        rivals = pd.DataFrame(_pairs(vectors, values, by_concept), columns=_PAIR)
        beside = pd.DataFrame(_with_controls(vectors, controls, values, by_concept), columns=_PAIR)
        return decide(
            "C4",
            model,
            task,
            find,
            unit="concept" if by_concept else "training seed",
            paper=_DRAWN,
            directions=_beside(rivals, beside),
        )

    groups = by_model_and_family(cell_curves(curves))
    return together(judged(*group) for group in groups if len(trained(group[2])))


_PAIR = ["unit", "of", "curve", "correlation"]
_Pair = tuple[object, str, str, float]


def _moves(row: dict[Hashable, Any], name: str, values: Values) -> bool:
    return bool(row[name].moves > values["noise"])


def _unit(row: dict[Hashable, Any], by_concept: bool) -> object:
    return row["task"] if by_concept else (row["task"], row["seed"])


def _pairs(cells: pd.DataFrame, values: Values, by_concept: bool) -> Iterator[_Pair]:
    """Correlations between the forms of one objective, and between the objectives of one form."""
    for one, other in combinations(cells.to_dict("records"), 2):
        if (one["task"], one["seed"]) != (other["task"], other["seed"]):
            continue
        same = [name for name in ("form", "objective") if one[name] == other[name]]
        if len(same) != 1:
            continue
        of = "objective" if same == ["form"] else "form"
        for name in ODDS:
            if _moves(one, name, values) and _moves(other, name, values):
                found = sameness(one[name], other[name], values["reach"])
                if not np.isnan(found):
                    yield _unit(one, by_concept), of, name, found


def _with_controls(
    vectors: pd.DataFrame, controls: pd.DataFrame, values: Values, by_concept: bool
) -> Iterator[_Pair]:
    """Correlations of trained vectors and directions, these turned so that the preferences agree."""
    for one in vectors.to_dict("records"):
        for other in controls[controls["task"] == one["task"]].to_dict("records"):
            found = {
                name: [sameness(one[name], _turned(other[name], sign), values["reach"]) for sign in (1, -1)]
                for name in ODDS
                if _moves(one, name, values) and _moves(other, name, values)
            }
            better = int(np.argmax(found["preference"])) if "preference" in found else 0
            for name, both in found.items():
                if not np.isnan(both[better]):
                    yield _unit(one, by_concept), "objective", name, both[better]


def _turned(curve: Curve, sign: int) -> Curve:
    return Curve(sign * curve.m[::sign], curve.push[::sign], curve.y[::sign], curve.sem)


def sameness(one: Curve, other: Curve, reach: float) -> float:
    """Pearson's correlation of two curves at `PLACES` places of sign(m) push, as far as both and reach go.

    NaN where either has fewer than FEWEST_STRENGTHS within, lacks a side, or is constant there.
    """
    signed = [np.sign(curve.m) * curve.push for curve in (one, other)]
    if any(len(x) < FEWEST_STRENGTHS for x in signed):
        return NAN
    limit = min([reach, *(-x.min() for x in signed), *(x.max() for x in signed)])
    if limit <= 0 or any((np.abs(x) <= limit).sum() < FEWEST_STRENGTHS for x in signed):
        return NAN
    places, ys = np.linspace(-limit, limit, PLACES), []
    for x, curve in zip(signed, (one, other), strict=True):
        order = np.argsort(x, kind="stable")
        ys.append(np.interp(places, x[order], curve.y[order]))
    return float(np.corrcoef(ys)[0, 1]) if all(np.ptp(y) > 0 for y in ys) else NAN


def _lowest(table: pd.DataFrame, kinds: list[tuple[str, str]]) -> Estimate:
    """The lowest of the kinds' medians, with a bootstrap over units; NaN where a kind has no pair."""
    units = list(dict.fromkeys(table["unit"]))
    if not units:
        return Estimate()
    parts = [table[(table["of"] == of) & (table["curve"] == name)] for of, name in kinds]
    found = np.min([medians(part["correlation"], part["unit"], units) for part in parts], axis=0)
    return Estimate(float(found[0]), *ends(found[1:]), len(units))


def _beside(rivals: pd.DataFrame, controls: pd.DataFrame) -> Beside:
    """Directions' lowest median correlation with vectors, and by how much vectors' own exceeds it."""
    kinds = [("objective", name) for name in ODDS]
    theirs = _lowest(controls, kinds)
    ours = _lowest(rivals, kinds)
    # two bootstraps of their own: the interval of the difference as of independent numbers
    return Beside(theirs, excess(ours, theirs))
