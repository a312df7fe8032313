"""Verdicts on the paper's claims: from a table to a word, each by one rule.

The bars are in `claims`; those of the shape of one curve (C2 to C4) are in `curves.shapes`. C9's other tests
have no bar of ours: signs, and numbers of its tables held against each other.

C2 to C9 are decided per model and task family, as in the paper's tables: all seeds, and the concepts of
AxBench, are pooled. The other claims are decided per model. A table without a column that a rule needs raises
a ValueError that names it.
"""

import operator
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from splitkit import paper
from splitkit.runs.profiles import Profile
from splitkit.runs.results import read_table, write_table
from splitkit.storage import paths
from splitkit.storage.files import in_turn
from splitkit.studies.claims import BARELY, CHANCE, CLAIMS, FAIR_FIT, GOOD_FIT, MOST, MOVED, R2_SLACK
from splitkit.studies.frames import by_model, by_model_and_family, family_column, require
from splitkit.studies.score_differences import METRICS, at_ceiling

VERDICTS = ("holds", "holds in part", "does not hold", "undecided")
FORMS = ("local_weight", "lora", "vector")
"""The paper's forms: its claims speak of these, whatever others are in a table."""

DISTANCES = ("subspace", "neighbours")
"""The two estimators of distance that C9 asks: they know nothing of each other, and both have to agree."""
C10_RIVALS = {"local_weight": ("sft", "reps"), "lora": ("sft", "reps"), "vector": ("diffmean", "sft", "reps")}
_DRAWN = "drawn in Fig. 2, 4, 5"
ACCURACY = "psychopathy_acc_pct"
OPEN_ENDED = ("powerseeking_0_4", "axbench_concept_0_2", "axbench_harmonic_0_2")

_Groups = Iterable[tuple[str, str, pd.DataFrame]]
"""Model, task family or "all", and the rows of both."""
_Decision = tuple[float, str, bool, bool]
"""Our number, the paper's as text, whether the claim holds, whether it holds in part."""


@dataclass(frozen=True)
class Verdict:
    """One claim decided for a model and task family; `ours` is the number that the rule grades by."""

    claim: str
    model: str
    task: str
    verdict: str
    ours: float
    paper: str
    rule: str

    def __post_init__(self) -> None:
        if self.claim not in CLAIMS:
            raise KeyError(f"no claim {self.claim!r}; there are {list(CLAIMS)}")
        if self.verdict not in VERDICTS:
            raise ValueError(f"no verdict {self.verdict!r}; there are {list(VERDICTS)}")


def _decided(
    claim: str, groups: _Groups, decide: Callable[[str, str, pd.DataFrame], _Decision]
) -> list[Verdict]:
    """One verdict per group; undecided where the number is NaN."""
    verdicts = []
    for model, task, rows in groups:
        ours, printed, holds, in_part = decide(model, task, rows)
        word = "holds" if holds else "holds in part" if in_part else "does not hold"
        word = "undecided" if pd.isna(ours) else word
        verdicts.append(Verdict(claim, model, task, word, float(ours), printed, CLAIMS[claim].rule))
    return verdicts


def _graded(
    claim: str,
    table: pd.DataFrame,
    ours: Callable[[pd.DataFrame], float],
    theirs: Callable[[str, str], float] | str,
    reaches: Callable[[float, float], bool] = operator.gt,
) -> list[Verdict]:
    """One verdict per model and family: the number of its rows against the bars, the paper's beside it."""
    bars = CLAIMS[claim]

    def decide(model: str, task: str, rows: pd.DataFrame) -> _Decision:
        number = ours(rows)
        printed = theirs if isinstance(theirs, str) else f"{theirs(model, task):.2f}"
        return number, printed, reaches(number, bars.holds), reaches(number, bars.in_part)

    return _decided(claim, by_model_and_family(table), decide)


def decide_c1(deviations: pd.DataFrame) -> list[Verdict]:
    """Eq. 1-5: one verdict per model from rows (model, form, deviation): largest absolute differences.

    Undecided unless all three forms were compared.
    """
    require(deviations, "model", "form", "deviation")
    bar = CLAIMS["C1"].holds

    def decide(model: str, task: str, rows: pd.DataFrame) -> _Decision:
        largest = rows["deviation"].max(skipna=False) if set(FORMS) <= set(rows["form"]) else np.nan
        return largest, "an identity", largest < bar, bool((rows["deviation"] < bar).any())

    return _decided("C1", by_model(deviations), decide)


def decide_c2(shapes: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and family from `shapes.shape_table`: the share of cells with `c2`."""
    require(shapes, "model", "task", "c2")
    return _graded("C2", shapes, lambda rows: _share_of(rows, "c2"), _DRAWN, operator.ge)


def decide_c3(shapes: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and family from `shapes.shape_table`: the share of cells with `c3`."""
    require(shapes, "model", "task", "c3")
    return _graded("C3", shapes, lambda rows: _share_of(rows, "c3"), _DRAWN, operator.ge)


def decide_c4(shapes: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and family: the form with the fewest cells with both `c2` and `c3` decides.

    Undecided unless all three forms can be judged.
    """
    require(shapes, "model", "task", "form", "c2", "c3")

    def lowest(rows: pd.DataFrame) -> float:
        return float(np.min([_share_of(rows[rows["form"] == form], "c2", "c3") for form in FORMS]))

    return _graded("C4", shapes, lowest, _DRAWN, operator.ge)


def _share_of(rows: pd.DataFrame, *conditions: str) -> float:
    """Share of the cells that can be judged in which all conditions hold; NaN where none can be judged."""
    judged = rows[list(conditions)].dropna().astype(bool)
    return float(judged.all(axis=1).mean()) if len(judged) else np.nan


def decide_c5(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 15: one verdict per model and family from rows (model, task, curve, r2); NaN is no good fit."""
    good = GOOD_FIT["preference"]
    return _graded(
        "C5",
        _fits_of(fits, "preference"),
        lambda rows: _share_above(rows["r2"], good),
        lambda model, task: (_printed_r2(2, model, task, "preference") > good).mean(),
    )


def decide_c6(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 17: one verdict per model and family from rows (model, task, curve, r2), by the median R²."""
    return _graded(
        "C6",
        _fits_of(fits, "utility"),
        lambda rows: rows["r2"].median(),
        lambda model, task: _printed_r2(2, model, task, "utility").median(),
    )


def decide_c7(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 15 and 17 on test: one verdict per model and family from the R² of fits on "train" and on "test".

    `fits` has a row per cell (model, task, form, objective, seed), split and curve, with r2; NaN on test is
    no good fit. Undecided where nothing fits on train.
    """
    key = ["task", "form", "objective", "seed", "curve"]
    require(fits, "model", *key, "split", "r2")
    printed_key = ["model", "form", "objective", "curve", "task_family"]
    printed = paper.tidy(2).merge(paper.tidy(6), on=printed_key, suffixes=("_train", "_test"))

    def ours(rows: pd.DataFrame) -> float:
        train, test = (rows.loc[rows["split"] == split, [*key, "r2"]] for split in ("train", "test"))
        return _as_good(train.merge(test, how="left", on=key, suffixes=("_train", "_test"), validate="1:1"))

    def theirs(model: str, task: str) -> float:
        return _as_good(_counterpart(printed, model, task))

    return _graded("C7", _in_the_paper(fits), ours, theirs, operator.ge)


def decide_c8(fits: pd.DataFrame) -> list[Verdict]:
    """Eq. 15 and 17 from train to test: one verdict per model and family from rows with split "transfer".

    `fits` has model, task, split and r2, of both curves; NaN is no prediction. Undecided without any number.
    """
    require(fits, "model", "task", "split", "r2")
    return _graded(
        "C8",
        _in_the_paper(fits[fits["split"] == "transfer"]),
        lambda rows: _share_above(rows["r2"], FAIR_FIT),
        lambda model, task: (_printed_r2(7, model, task) > FAIR_FIT).mean(),
    )


def _fits_of(fits: pd.DataFrame, curve: str) -> pd.DataFrame:
    """The rows of one curve; of the training split alone, which is Table 2's, where a table holds several."""
    require(fits, "model", "task", "curve", "r2")
    rows = _in_the_paper(fits[fits["curve"] == curve])
    return rows[rows["split"] == "train"] if "split" in rows else rows


def _in_the_paper(fits: pd.DataFrame) -> pd.DataFrame:
    """The rows that the paper's tables of fits have a counterpart of: all objectives but SPLIT."""
    return fits[fits["objective"] != "split"] if "objective" in fits else fits


def _share_above(r2: pd.Series, bar: float) -> float:
    return float((r2 > bar).mean()) if r2.notna().any() else np.nan


def _as_good(pairs: pd.DataFrame) -> float:
    """Share of the rows (curve, r2_train, r2_test) fitted well on train that are as good on test."""
    bar = pairs["curve"].map(GOOD_FIT)
    good = pairs["r2_train"] > bar
    kept = (pairs["r2_test"] > bar) | (pairs["r2_test"] >= pairs["r2_train"] - R2_SLACK)
    return float(kept[good].mean()) if good.any() else np.nan


def _counterpart(rows: pd.DataFrame, model: str, family: str) -> pd.DataFrame:
    """The paper's rows for the counterpart of a model, of one task family."""
    return rows[(rows["model"] == paper.counterpart(model, model)) & (rows["task_family"] == family)]


def _printed_r2(number: int, model: str, family: str, curve: str = "") -> pd.Series:
    """The paper's R² (Table 2 or 7) for the counterpart of a model, of one curve or of both."""
    rows = _counterpart(paper.tidy(number), model, family)
    return rows.loc[rows["curve"] == curve, "r2"] if curve else rows["r2"]


def decide_c9(relation: pd.DataFrame, angles: pd.DataFrame) -> list[Verdict]:
    """One verdict per model and task family, by the weaker of two estimators at the steered layer.

    (a) Utility falls with distance, and the same way in all forms: one falling curve has an R² of at least
    the bar, and the interval of the rank correlation lies below 0. (b) The manifold matters: that R² is no
    lower than the one of a curve of the length of the move alone. (c) dh is no closer to the utility gradient
    than random directions: its median |cos| over cells is not above what 95 % of isotropic ones stay below.
    All: holds; (a), with the lower bar: holds in part. Of a family with several tasks each number is the
    median over them, because a curve is asked to serve all forms of a task, not all tasks. The rank
    correlation does not grade, because ranks among strengths at which nothing is lost are noise. No
    correlation can show the "because" of the claim.

    `relation` is of `manifold.relation.relation_table`; `angles` has model, task, direction, cosine and
    isotropic_95.
    """
    require(relation, "model", "task", "site", "estimator", "spearman_high", "r2_one_curve")
    require(angles, "model", "task", "direction", "cosine", "isotropic_95")
    bars, two = CLAIMS["C9"], list(DISTANCES)
    utility = angles[angles["direction"] == "utility"]

    def middle(values: pd.Series) -> float:
        return float(values.median(skipna=False))

    def decide(model: str, task: str, rows: pd.DataFrame) -> _Decision:
        found = rows.groupby("estimator")[["r2_one_curve", "spearman_high"]].agg(middle)
        found = found.reindex([*two, "moved"])
        explained = found["r2_one_curve"]
        weakest = explained[two].min(skipna=False)
        falls = bool((found.loc[two, "spearman_high"] < 0).all())
        better = bool((explained[two] >= explained["moved"]).all())
        own = utility[(utility["model"] == model) & (family_column(utility) == task)]
        orthogonal = len(own) > 0 and bool(own["cosine"].abs().median() <= own["isotropic_95"].median())
        holds = falls and weakest >= bars.holds and better and orthogonal
        return weakest, "assumed, drawn in Fig. 3", holds, falls and weakest >= bars.in_part

    return _decided("C9", by_model_and_family(relation[relation["site"] == "layer"]), decide)


def decide_c10(table3: pd.DataFrame, differences: pd.DataFrame) -> list[Verdict]:
    """One verdict per model from Table 3 and the paired differences (of `score_differences.differences`).

    A pair is left out where SPLIT and the best rival are both at the ceiling, and a comparison where its two
    means are. Undecided where all are, and unless every form was compared with each rival on each metric.
    """
    require(table3, "model", "form", "objective", *METRICS)
    require(differences, "model", "form", "metric", "rival", "outcome")
    wanted = {(form, name, one) for form, many in C10_RIVALS.items() for one in many for name in METRICS}

    def decide(model: str, task: str, rows: pd.DataFrame) -> _Decision:
        tests = differences[(differences["model"] == model) & (differences["rival"] != "dpo")]
        complete = wanted <= set(tests[["form", "metric", "rival"]].itertuples(index=False, name=None))
        outcomes = tests["outcome"]
        won, lost = (int((outcomes == f"{who} better").sum()) for who in ("split", "rival"))
        most_tests = bool(won > MOST * (outcomes != "ceiling").sum())
        share = _highest(rows) if complete else np.nan
        theirs = _as_text(_highest(_printed_scores(3, model)))
        return share, theirs, share > CLAIMS["C10"].holds and most_tests, won > lost

    return _decided("C10", by_model(table3), decide)


def decide_c11(table3: pd.DataFrame) -> list[Verdict]:
    """One verdict per model from Table 3; undecided unless it has SPLIT in all forms and the base model."""
    require(table3, "model", "form", "objective", ACCURACY)
    bars = CLAIMS["C11"]

    def decide(model: str, task: str, rows: pd.DataFrame) -> _Decision:
        split = np.array([_mean(rows, form, "split", ACCURACY) for form in FORMS])
        unsteered = _mean(rows, "vanilla", "vanilla", ACCURACY)
        lowest = np.nan if np.isnan(unsteered) else float(split.min())
        even = CHANCE[0] <= unsteered <= CHANCE[1]
        theirs = _printed_scores(3, model).query("objective == 'split'")[ACCURACY].min()
        holds = lowest >= bars.holds and even
        return lowest, _as_text(theirs, 0), holds, bool((split >= bars.in_part).any())

    return _decided("C11", by_model(table3), decide)


def decide_c12(table3: pd.DataFrame, table4: pd.DataFrame) -> list[Verdict]:
    """One verdict per model from Tables 3 and 4: DPO's changes beside the best gains of other objectives.

    A change for the worse is a change too: its size counts. Undecided where no best gain is 0.1 of its scale,
    and unless all numbers that the rule needs are there.
    """
    require(table3, "model", "form", "objective", *OPEN_ENDED)
    require(table4, "model", "form", *OPEN_ENDED)
    bars = CLAIMS["C12"]

    def decide(model: str, task: str, rows: pd.DataFrame) -> _Decision:
        dpo = table4[table4["model"] == model].assign(objective="dpo")
        share = _unmoved(pd.concat([rows, dpo]))
        printed = pd.concat([_printed_scores(3, model), _printed_scores(4, model).assign(objective="dpo")])
        return share, _as_text(_unmoved(printed)), share >= bars.holds, share >= bars.in_part

    return _decided("C12", by_model(table3), decide)


def _printed_scores(number: int, model: str) -> pd.DataFrame:
    """The paper's rows of Table 3 or 4 for the counterpart of a model."""
    table = paper.table(number)
    return table[table["model"] == paper.counterpart(model, model)]


def _as_text(value: float, decimals: int = 2) -> str:
    return "not given" if np.isnan(value) else f"{value:.{decimals}f}"


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


def _unmoved(rows: pd.DataFrame) -> float:
    """Share of (form, metric) pairs that DPO barely changes, of those that move; NaN if a mean lacks."""
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


def read_verdicts(profile: Profile) -> pd.DataFrame:
    """The profile's `verdicts.csv`, as written so far; FileNotFoundError before the first."""
    return read_table("verdicts", profile)


def write_verdicts(verdicts: Iterable[Verdict], profile: Profile) -> pd.DataFrame:
    """Put verdicts into the profile's `verdicts.csv`, in place of all earlier ones on the same claims.

    Returns their rows as they are written, sorted by claim, model and task. ValueError when there are none,
    or two on one claim, model and task.
    """
    new = pd.DataFrame([asdict(verdict) for verdict in verdicts])
    if new.empty:
        raise ValueError("no verdicts to write")
    key = ["claim", "model", "task"]
    if new.duplicated(key).any():
        twice = new.loc[new.duplicated(key), key].iloc[0].to_dict()
        raise ValueError(f"two verdicts on {twice}")
    claims = set(new["claim"])
    with in_turn(paths.CACHE / "verdicts"):
        with suppress(FileNotFoundError):
            old = read_verdicts(profile)
            new = pd.concat([old[~old["claim"].isin(claims)].astype({"paper": str}), new])
        new = new.sort_values(key, key=lambda c: c.str[1:].astype(int) if c.name == "claim" else c)
        write_table(new, "verdicts", profile, digits=3, tolerance=0.01)
        kept = read_verdicts(profile)
    return kept[kept["claim"].isin(claims)]
