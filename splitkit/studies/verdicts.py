"""Verdicts on the paper's claims: each by one rule, written here once, from a table.

Judged per model and task family, as the paper's tables are: the concepts of AxBench and all seeds are pooled.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass

import pandas as pd

from splitkit import paper
from splitkit.runs.profiles import Profile
from splitkit.runs.results import Written, read_table, write_table
from splitkit.storage import paths
from splitkit.storage.files import in_turn
from splitkit.studies.frames import by_model_and_family
from splitkit.tasks import task_family

VERDICTS = ("holds", "holds in part", "does not hold", "undecided")
FORMS = ("local_weight", "lora", "vector")

EXACT, MOST, HALF = 1e-10, 0.8, 0.5
R2_PREFERENCE, R2_UTILITY, R2_FAIR = 0.95, 0.97, 0.90
R2_SLACK = 0.01
"""A fit that loses no more on test than the last digit of the paper's tables is as good there."""

RULES: dict[str, str] = {
    "C1": f"largest |steered - rewritten weights| of any form, in float64, is below {EXACT:g}",
    "C2": "share of cells whose preference is linear near 0 and settles: 0.8 holds, 0.5 in part",
    "C3": "share of cells whose utility peaks near 0, falls on both sides, settles: 0.8 holds, 0.5 in part",
    "C4": "lowest share, over the forms, of cells in which C2 and C3 both hold: 0.8 holds, 0.5 in part",
    "C5": "share of preference fits (no SPLIT, as in Table 2) with R² above 0.95: 0.5 holds, 0.25 in part",
    "C6": "median R² of utility fits (no SPLIT, as in Table 2): above 0.97 holds, above 0.90 in part",
    "C7": "of curves fitted well on train (R² above 0.95 preference, 0.97 utility), share as good on test "
    "(above that bar, or at most 0.01 below train): 0.8 holds, 0.5 in part",
    "C8": "share of train fits with R² above 0.90 on test curves: more than 0.5 holds, 0.25 in part",
    "C9": "weaker of two distances: R² of utility by one curve for all forms; 0.8, no less than for the "
    "length of the move, and dh as far from the utility gradient as random: holds; 0.5 in part",
}


@dataclass(frozen=True)
class Verdict:
    """One claim judged for a model and task family; `ours` is what the rule grades by (C9 asks more)."""

    claim: str
    model: str
    task: str
    verdict: str
    ours: float
    paper: str
    rule: str

    def __post_init__(self) -> None:
        if self.claim not in paper.CLAIMS:
            raise KeyError(f"no claim {self.claim!r}; there are {list(paper.CLAIMS)}")
        if self.verdict not in VERDICTS:
            raise ValueError(f"no verdict {self.verdict!r}; there are {list(VERDICTS)}")


def graded(value: float, holds: bool, in_part: bool) -> str:
    """The verdict of two conditions, undecided where the number is undefined."""
    if pd.isna(value):
        return "undecided"
    return "holds" if holds else "holds in part" if in_part else "does not hold"


def judge_c1(deviations: pd.DataFrame) -> list[Verdict]:
    """Eq. 1-5: one verdict per model from rows (model, form, deviation): largest absolute differences.

    Undecided unless all three forms were compared; ValueError names a missing column.
    """
    need(deviations, "model", "form", "deviation")
    verdicts = []
    for model, rows in deviations.groupby("model", sort=True):
        largest = float(rows["deviation"].max(skipna=False))
        if set(FORMS) - set(rows["form"]):
            largest = float("nan")
        verdict = graded(largest, largest < EXACT, in_part=bool((rows["deviation"] < EXACT).any()))
        verdicts.append(Verdict("C1", str(model), "all", verdict, largest, "an identity", RULES["C1"]))
    return verdicts


def _share(rows: pd.DataFrame, holds: Callable[[pd.DataFrame], pd.Series], columns: list[str]) -> float:
    """Share of the cells that can be judged in which a condition holds; NaN where none can be judged."""
    judged = rows[rows[columns].notna().all(axis=1)]
    return float(holds(judged).astype(bool).mean()) if len(judged) else float("nan")


def _judge_shape(shapes: pd.DataFrame, claim: str, column: str) -> list[Verdict]:
    need(shapes, "model", "task", column)
    verdicts = []
    for model, task, rows in by_model_and_family(shapes):
        share = _share(rows, lambda judged: judged[column], [column])
        verdict = graded(share, share >= MOST, share >= HALF)
        verdicts.append(Verdict(claim, model, task, verdict, share, "drawn in Fig. 2, 4, 5", RULES[claim]))
    return verdicts


def judge_c2(shapes: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and family from `shapes.shape_table`: the share of cells with `c2`."""
    return _judge_shape(shapes, "C2", "c2")


def judge_c3(shapes: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and family from `shapes.shape_table`: the share of cells with `c3`."""
    return _judge_shape(shapes, "C3", "c3")


def judge_c4(shapes: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and family: the form with the fewest cells with both `c2` and `c3` decides.

    Undecided unless all three forms can be judged.
    """
    need(shapes, "model", "task", "form", "c2", "c3")
    verdicts = []
    for model, task, rows in by_model_and_family(shapes):
        lowest = pd.Series(
            [
                _share(rows[rows["form"] == form], lambda judged: judged["c2"] & judged["c3"], ["c2", "c3"])
                for form in FORMS
            ]
        ).min(skipna=False)
        verdict = graded(lowest, lowest >= MOST, lowest >= HALF)
        verdicts.append(
            Verdict("C4", model, task, verdict, float(lowest), "drawn in Fig. 2, 4, 5", RULES["C4"])
        )
    return verdicts


def _counterpart(rows: pd.DataFrame, model: str, task: str) -> pd.DataFrame:
    """The paper's own rows for the counterpart of a model and the family of a task."""
    counterpart = paper.counterpart(model, model)
    return rows[(rows["model"] == counterpart) & (rows["task_family"] == task_family(task))]


def _printed(model: str, task: str, curve: str) -> pd.Series:
    """The paper's own R² (Table 2) for the counterpart of a model and the family of a task."""
    rows = _counterpart(paper.tidy(2), model, task)
    return rows.loc[rows["curve"] == curve, "r2"]


def _in_the_paper(fits: pd.DataFrame) -> pd.DataFrame:
    """The rows that the paper's tables of fits have a counterpart of: all objectives but SPLIT."""
    return fits[fits["objective"] != "split"] if "objective" in fits else fits


def _fits_of(fits: pd.DataFrame, curve: str) -> pd.DataFrame:
    """The rows of one curve; of the training split alone, which is Table 2's, where a table holds several."""
    need(fits, "model", "task", "curve", "r2")
    rows = _in_the_paper(fits[fits["curve"] == curve])
    return rows[rows["split"] == "train"] if "split" in rows else rows


def judge_c5(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 15: one verdict per model and family from rows (model, task, curve, r2); NaN is no good fit."""
    verdicts = []
    for model, task, rows in by_model_and_family(_fits_of(fits, "preference")):
        share = float((rows["r2"] > R2_PREFERENCE).mean()) if rows["r2"].notna().any() else float("nan")
        printed = f"{(_printed(model, task, 'preference') > R2_PREFERENCE).mean():.2f}"
        verdict = graded(share, share > HALF, share > HALF / 2)
        verdicts.append(Verdict("C5", model, task, verdict, share, printed, RULES["C5"]))
    return verdicts


def judge_c6(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 17: one verdict per model and family from rows (model, task, curve, r2), by the median R²."""
    verdicts = []
    for model, task, rows in by_model_and_family(_fits_of(fits, "utility")):
        middle = float(rows["r2"].median())
        printed = f"{_printed(model, task, 'utility').median():.2f}"
        verdict = graded(middle, middle > R2_UTILITY, middle > R2_FAIR)
        verdicts.append(Verdict("C6", model, task, verdict, middle, printed, RULES["C6"]))
    return verdicts


_FIT = ["task", "form", "objective", "seed", "curve"]


def _of_split(fits: pd.DataFrame, split: str) -> pd.DataFrame:
    return fits.loc[fits["split"] == split, [*_FIT, "r2"]]


def _as_good(pairs: pd.DataFrame) -> float:
    """Of rows (curve, r2_train, r2_test), the share that fits on test among those that fit on train."""
    bar = pairs["curve"].map({"preference": R2_PREFERENCE, "utility": R2_UTILITY})
    good = pairs["r2_train"] > bar
    kept = (pairs["r2_test"] > bar) | (pairs["r2_test"] >= pairs["r2_train"] - R2_SLACK)
    return float(kept[good].mean()) if good.any() else float("nan")


def judge_c7(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 15 and 17 on test: one verdict per model and family from the R² of fits on "train" and on "test".

    `fits` has a row per cell (model, task, form, objective, seed), split and curve, with r2; NaN on test is
    no good fit. Undecided where nothing fits on train.
    """
    need(fits, "model", "task", "form", "objective", "seed", "split", "curve", "r2")
    verdicts = []
    for model, task, rows in by_model_and_family(_in_the_paper(fits)):
        pairs = _of_split(rows, "train").merge(
            _of_split(rows, "test"), how="left", on=_FIT, suffixes=("_train", "_test"), validate="1:1"
        )
        share = _as_good(pairs)
        key = ["model", "form", "objective", "curve", "task_family"]
        printed = paper.tidy(2).merge(paper.tidy(6), on=key, suffixes=("_train", "_test"))
        theirs = f"{_as_good(_counterpart(printed, model, task)):.2f}"
        verdict = graded(share, share >= MOST, share >= HALF)
        verdicts.append(Verdict("C7", model, task, verdict, share, theirs, RULES["C7"]))
    return verdicts


def judge_c8(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 15 and 17 from train to test: one verdict per model and family from rows with split "transfer".

    `fits` has model, task, split and r2, of both curves; NaN is no prediction. Undecided without any number.
    """
    need(fits, "model", "task", "split", "r2")
    verdicts = []
    for model, task, rows in by_model_and_family(_in_the_paper(fits[fits["split"] == "transfer"])):
        share = float((rows["r2"] > R2_FAIR).mean()) if rows["r2"].notna().any() else float("nan")
        theirs = f"{(_counterpart(paper.tidy(7), model, task)['r2'] > R2_FAIR).mean():.2f}"
        verdict = graded(share, share > HALF, share > HALF / 2)
        verdicts.append(Verdict("C8", model, task, verdict, share, theirs, RULES["C8"]))
    return verdicts


def need(table: pd.DataFrame, *columns: str) -> None:
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"the table to judge lacks the columns {missing}; it has {list(table.columns)}")


def write_verdicts(verdicts: Iterable[Verdict], profile: Profile) -> Written:
    """Put verdicts into the profile's `verdicts.csv`, in place of all earlier ones on the same claims.

    Sorted by claim, model and task. ValueError when there are none, or two on one claim, model and task.
    """
    new = pd.DataFrame([asdict(verdict) for verdict in verdicts])
    if new.empty:
        raise ValueError("no verdicts to write")
    key = ["claim", "model", "task"]
    if new.duplicated(key).any():
        twice = new.loc[new.duplicated(key), key].iloc[0].to_dict()
        raise ValueError(f"two verdicts on {twice}")
    with in_turn(paths.CACHE / "verdicts"):
        with suppress(FileNotFoundError):
            old = read_table("verdicts", profile)
            new = pd.concat([old[~old["claim"].isin(new["claim"])].astype({"paper": str}), new])
        order = new["claim"].str[1:].astype(int)
        new = new.assign(_order=order).sort_values(["_order", "model", "task"]).drop(columns="_order")
        return write_table(new, "verdicts", profile, digits=3, tolerance=0.01)
