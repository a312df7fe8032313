"""C5 to C8: Eq. 15 and 17 fitted to the training curves, to the test curves, and from train to test.

Their table of fits has one row per cell, split, curve and window: model, task, form, objective, seed, split
("train", "test": that curve's own fit; "transfer": train's fit on the test curve), curve ("preference",
"utility"), window and r2 (NaN where there is no fit). A window is "whole" for R² over the whole grid, and
"usable" for R² of the same fit over the usable window alone; a table without the column is of the whole grid.

Random curves have one row per curve: model, task (a task or a family), curve (by whose measured length it
was drawn, and which equation was fitted), r2.
"""

from collections.abc import Callable, Iterator

import pandas as pd

from splitkit import paper
from splitkit.runs.profiles import CONTROLS
from splitkit.studies.decisions.curve_claims import cell_curves
from splitkit.studies.decisions.grading import (
    NOT_MEASURED,
    Beside,
    Found,
    Judged,
    Values,
    as_text,
    decide,
    decide_share,
    graded,
    together,
)
from splitkit.studies.decisions.intervals import NAN, Estimate, clusters, excess, share, trained
from splitkit.studies.decisions.rules import IN_TABLES_OF_FITS, RULES
from splitkit.studies.frames import CELL, ODDS, by_model, by_model_and_family, family_column, require

WINDOWS = {"whole": "claim", "usable": "usable window"}
"""The part of a claim that each window decides or stands beside."""
_Passed = Callable[[pd.DataFrame, Values], "pd.Series[bool]"]
"""Whether each row passes, without the rows that say nothing."""
_BARS = {"preference": "good_preference", "utility": "good_utility"}


def decide_c5(fits: pd.DataFrame, curves: pd.DataFrame, random_curves: pd.DataFrame | None = None) -> Judged:
    """Eq. 15: one verdict per model and family; `curves` (of `curve_claims`) say which cells move."""
    return _decide_good("C5", "preference", fits, curves, random_curves)


def decide_c6(fits: pd.DataFrame, curves: pd.DataFrame, random_curves: pd.DataFrame | None = None) -> Judged:
    """Eq. 17: one verdict per model and family; `curves` (of `curve_claims`) say which cells move."""
    return _decide_good("C6", "utility", fits, curves, random_curves)


def decide_c7(fits: pd.DataFrame, curves: pd.DataFrame) -> Judged:
    """One verdict per model and family: the share of good fits on train whose curve is fitted on test too."""

    def judged(model: str, task: str, part: str, rows: pd.DataFrame) -> Judged:
        keys = [*CELL, "curve"]
        train, test = (rows[rows["split"] == split] for split in ("train", "test"))
        both = train.merge(test[[*keys, "r2"]], how="left", on=keys, suffixes=("_train", "_test"))
        printed = paper.tidy(2).merge(paper.tidy(6), on=_PRINTED, suffixes=("_train", "_test"))
        return _decide_share(
            "C7", model, task, part, both, _as_good, _printed(printed, model, task, _as_good)
        )

    return together(judged(*group) for group in _groups(fits, curves, ODDS))


def decide_c8(fits: pd.DataFrame, curves: pd.DataFrame) -> Judged:
    """One verdict per model, all families with the same weight: train's fits predict test, some fail."""
    rule = RULES["C8"]

    def judged(model: str, part: str, rows: pd.DataFrame) -> Judged:
        cells = trained(rows)
        controls, vectors = rows.drop(cells.index), cells[cells["form"] == "vector"]

        def shares(some: pd.DataFrame, values: Values) -> Estimate:
            moving = some[some["moves"] > values["noise"]]
            return share(moving["r2"] > values["fair"], clusters(moving), family_column(moving))

        def find(values: Values) -> Found:
            moving = cells[cells["moves"] > values["noise"]]
            found = graded(rule, shares(cells, values), len(moving))
            if (moving["r2"] < values["failed"]).any():
                return found
            lowered = frozenset("in part" if grade == "holds" else grade for grade in found.reached)
            grade = "in part" if found.grade == "holds" else found.grade
            return Found(found.ours, grade, lowered, found.judged)

        control = shares(controls, rule.values)
        return decide(
            "C8",
            model,
            "all",
            find,
            unit="cell; concept of AxBench",
            paper=_printed(paper.tidy(7), model, "", lambda rows, values: rows["r2"] > values["fair"]),
            part=part,
            directions=Beside(control, excess(shares(vectors, rule.values), control)),
        )

    ready = _ready(fits, curves, ODDS)
    parts = (
        (model, WINDOWS[window], own)
        for model, _, rows in by_model(ready[ready["split"] == "transfer"])
        for window, own in rows.groupby("window", sort=False)
    )
    return together(judged(*group) for group in parts if len(trained(group[2])))


_PRINTED = ["model", "form", "objective", "curve", "task_family"]


def _decide_good(
    claim: str, curve: str, fits: pd.DataFrame, curves: pd.DataFrame, random_curves: pd.DataFrame | None
) -> Judged:
    def good(rows: pd.DataFrame, values: Values) -> pd.Series:
        return rows["r2"] > values[_BARS[curve]]

    def judged(model: str, task: str, part: str, rows: pd.DataFrame) -> Judged:
        tidy = paper.tidy(2)
        printed = _printed(tidy[tidy["curve"] == curve], model, task, good)
        drawn = Estimate()
        if random_curves is not None and part == "claim":
            own = random_curves[(random_curves["model"] == model) & (family_column(random_curves) == task)]
            passed = good(own[own["curve"] == curve], RULES[claim].values)
            drawn = share(passed, pd.Series(range(len(passed)), passed.index))
        train = rows[rows["split"] == "train"]
        return _decide_share(claim, model, task, part, train, good, printed, drawn)

    if random_curves is not None:
        require(random_curves, "model", "task", "curve", "r2")
    return together(judged(*group) for group in _groups(fits, curves, [curve]))


def _decide_share(
    claim: str,
    model: str,
    task: str,
    part: str,
    rows: pd.DataFrame,
    passes: _Passed,
    printed: str,
    drawn: Estimate = NOT_MEASURED,
) -> Judged:
    """One verdict by the share of rows that pass, of those whose curve moves."""

    def shares(some: pd.DataFrame, values: Values) -> tuple[Estimate, int]:
        passed = passes(some[some["moves"] > values["noise"]], values)
        return share(passed, clusters(some)[passed.index]), len(passed)

    return decide_share(claim, model, task, rows, shares, paper=printed, part=part, drawn=drawn)


def _as_good(rows: pd.DataFrame, values: Values) -> pd.Series:
    """Of the rows (curve, r2_train, r2_test) fitted well on train: whether test is as good."""
    bar = rows["curve"].map({curve: values[name] for curve, name in _BARS.items()}).astype(float)
    good = rows["r2_train"] > bar
    kept = (rows["r2_test"] > bar) | (rows["r2_test"] >= rows["r2_train"] - values["slack"])
    return kept[good]


def _ready(fits: pd.DataFrame, curves: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
    """The fits of the paper's objectives and of controls, with `moves` (range over noise) of their curves."""
    require(fits, *CELL, "split", "curve", "r2")
    known = cell_curves(curves)
    moves = pd.concat([known[CELL].assign(curve=c, moves=[one.moves for one in known[c]]) for c in ODDS])
    kept = fits["objective"].isin([*IN_TABLES_OF_FITS, *CONTROLS]) & fits["curve"].isin(wanted)
    rows = fits[kept] if "window" in fits else fits[kept].assign(window="whole")
    rows = rows.merge(moves, how="left", on=[*CELL, "curve"], validate="m:1")
    lost = rows.merge(known[CELL], how="left", indicator="_of", on=CELL)["_of"] == "left_only"
    if lost.any():
        raise ValueError(f"a fit without a curve: {rows.loc[lost.to_numpy(), CELL].iloc[0].to_dict()}")
    return rows


def _groups(
    fits: pd.DataFrame, curves: pd.DataFrame, wanted: list[str]
) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    for model, task, rows in by_model_and_family(_ready(fits, curves, wanted)):
        for window, own in rows.groupby("window", sort=False):
            if len(trained(own)):
                yield model, task, WINDOWS[str(window)], own


def _printed(tidy: pd.DataFrame, model: str, family: str, passes: _Passed) -> str:
    """The same share of the paper's numbers for a model's counterpart, of one family or of all."""
    rows = tidy[tidy["model"] == paper.counterpart(model, model)]
    rows = rows[rows["task_family"] == family] if family else rows
    every = {constant.name: constant.value for rule in RULES.values() for constant in rule.constants}
    return as_text(float(passes(rows, every).mean()) if len(rows) else NAN)
