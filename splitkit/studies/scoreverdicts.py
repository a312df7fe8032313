"""Verdicts on the paper's claims about scores, C10 to C12: each by one rule, written here once."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from splitkit import paper
from splitkit.studies.score_differences import METRICS, at_ceiling
from splitkit.studies.verdicts import FORMS, Verdict, graded, need

HALF = 0.5
ACCURATE, UNSTEERED = 98.0, (43.0, 57.0)
"""Psychopathy accuracy in percent: steered by SPLIT, and where a model that knows no persona lies."""
BARELY, MOVED = 0.25, 0.1
"""C12: DPO's change as a share of the best gain; what that has to be, as a share of the scale."""
OPEN_ENDED = ("powerseeking_0_4", "axbench_concept_0_2", "axbench_harmonic_0_2")
ACCURACY = "psychopathy_acc_pct"
C10_RIVALS = {"local_weight": ("sft", "reps"), "lora": ("sft", "reps"), "vector": ("diffmean", "sft", "reps")}

RULES: dict[str, str] = {
    "C10": "share of (form, metric) pairs in which SPLIT's mean is above SFT's, RePS's and DiffMean's: more "
    "than 0.5, and better by the paired test in more than half of the comparisons, holds; more tests won "
    "than lost, in part; what is at the ceiling is left out",
    "C11": "lowest psychopathy accuracy of SPLIT over the forms: 98 or more, and 43 to 57 unsteered, holds; "
    "98 or more in one form, in part",
    "C12": "share of (form, open-ended metric) pairs in which DPO changes the mean by at most 0.25 of the "
    "best gain of SFT, RePS and SPLIT: all holds, 0.5 in part; gains below 0.1 of the scale are left out",
}


def judge_c10(table3: pd.DataFrame, differences: pd.DataFrame) -> list[Verdict]:
    """One verdict per model from Table 3 and the paired differences to SFT, RePS and DiffMean.

    A pair is left out where SPLIT and the best rival are both at the ceiling, and a comparison where its two
    means are. Undecided where all are, and unless every form was compared with each rival on each metric.

    Args:
        table3: `scoretables.paper_table` of 3.
        differences: `comparisons.differences`.

    Raises:
        ValueError: when a column is missing.
    """
    need(differences, "model", "form", "metric", "rival", "outcome")
    wanted = {(form, name, one) for form, many in C10_RIVALS.items() for one in many for name in METRICS}
    verdicts = []
    for model, rows, theirs in _beside_counterparts(table3):
        tests = differences[(differences["model"] == model) & (differences["rival"] != "dpo")]
        complete = wanted <= set(tests[["form", "metric", "rival"]].itertuples(index=False, name=None))
        outcomes = tests["outcome"]
        won, lost = (int((outcomes == f"{who} better").sum()) for who in ("split", "rival"))
        most_tests = won > HALF * (outcomes != "ceiling").sum()
        share = _highest(rows) if complete else np.nan
        verdict = graded(share, bool(share > HALF and most_tests), won > lost)
        verdicts.append(
            Verdict("C10", model, "all", verdict, share, _printed(theirs, _highest), RULES["C10"])
        )
    return verdicts


def judge_c11(table3: pd.DataFrame) -> list[Verdict]:
    """One verdict per model from Table 3; undecided unless it has SPLIT in all forms and the unsteered model.

    ValueError when a column is missing.
    """
    verdicts = []
    for model, rows, theirs in _beside_counterparts(table3):
        split = pd.Series([_mean(rows, form, "split", ACCURACY) for form in FORMS])
        unsteered = _mean(rows, "vanilla", "vanilla", ACCURACY)
        lowest = float(split.min(skipna=False)) if not np.isnan(unsteered) else np.nan
        even = UNSTEERED[0] <= unsteered <= UNSTEERED[1]
        verdict = graded(lowest, lowest >= ACCURATE and even, bool((split >= ACCURATE).any()))
        printed = theirs.loc[theirs["objective"] == "split", ACCURACY]
        shown = f"{printed.min():.0f}" if len(printed) else "not given"
        verdicts.append(Verdict("C11", model, "all", verdict, lowest, shown, RULES["C11"]))
    return verdicts


def judge_c12(table3: pd.DataFrame, table4: pd.DataFrame) -> list[Verdict]:
    """One verdict per model from Tables 3 and 4: how far DPO moves what the other objectives do move.

    A change for the worse is a change too: its size counts. Undecided where no best gain is 0.1 of its scale,
    and unless all numbers that the rule needs are there.

    Raises:
        ValueError: when a column is missing.
    """
    need(table4, "model", "form", *OPEN_ENDED)
    verdicts = []
    for model, rows, theirs in _beside_counterparts(table3):
        share = _unmoved(pd.concat([rows, _dpo(table4, model)]))
        printed = pd.concat([theirs, _dpo(paper.table(4), paper.counterpart(model, model))])
        verdict = graded(share, share == 1, share >= HALF)
        verdicts.append(
            Verdict("C12", model, "all", verdict, share, _printed(printed, _unmoved), RULES["C12"])
        )
    return verdicts


def _beside_counterparts(table3: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Each model, its rows, and those of the paper's Table 3 for its counterpart."""
    need(table3, "model", "form", "objective", *METRICS)
    theirs = paper.table(3)
    for model, rows in table3.groupby("model", sort=True):
        yield str(model), rows, theirs[theirs["model"] == paper.counterpart(str(model), str(model))]


def _printed(rows: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> str:
    """The same measure of the paper's own rows, as text."""
    value = measure(rows)
    return "not given" if np.isnan(value) else f"{value:.2f}"


def _mean(rows: pd.DataFrame, form: str, objective: str, metric: str) -> float:
    """One number of a table; NaN where the row is not there. ValueError when it is there twice."""
    found = rows.loc[(rows["form"] == form) & (rows["objective"] == objective), metric]
    if len(found) > 1:
        raise ValueError(f"{len(found)} rows of {form}, {objective} for one model, not one")
    return float(found.iloc[0]) if len(found) else np.nan


def _highest(rows: pd.DataFrame) -> float:
    """Share of (form, metric) pairs, not at the ceiling, with SPLIT's mean above all; NaN if a mean lacks."""
    above = []
    for form, rivals in C10_RIVALS.items():
        for name, metric in METRICS.items():
            split = _mean(rows, form, "split", name)
            best = float(np.max([_mean(rows, form, rival, name) for rival in rivals]))
            if np.isnan(split) or np.isnan(best):
                return np.nan
            if not at_ceiling(split, best, metric.top):
                above.append(split > best)
    return float(np.mean(above)) if above else np.nan


def _dpo(table4: pd.DataFrame, model: str) -> pd.DataFrame:
    return table4[table4["model"] == model].assign(objective="dpo")


def _unmoved(rows: pd.DataFrame) -> float:
    """Share of (form, metric) pairs that DPO changes by up to 0.25 of the best gain; NaN if a mean lacks."""
    still = []
    for name in OPEN_ENDED:
        unsteered = _mean(rows, "vanilla", "vanilla", name)
        for form in FORMS:
            changes = [_mean(rows, form, one, name) - unsteered for one in ("dpo", "sft", "reps", "split")]
            if np.isnan(changes).any():
                return np.nan
            dpo, best = abs(changes[0]), max(changes[1:])
            if best >= MOVED * METRICS[name].top:
                still.append(dpo <= BARELY * best)
    return float(np.mean(still)) if still else np.nan
