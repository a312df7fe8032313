"""Scores of every cell's steered answers, and Tables 3 and 4 beside the paper's."""

from collections.abc import Iterable

import joblib
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from splitkit import paper
from splitkit.runs.cells import CellResult, compute_cells
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import WITH_SCORES, Profile
from splitkit.studies.frames import ROW
from splitkit.studies.score_differences import METRICS, differences, intervals

BASE = ("scores", "answer_scores", "strength_scores")
COMPONENTS = ("concept", "instruction", "fluency", "harmonic", "power", "readable", "correct", "neither")
"""Columns of means: axbench has four, powerseeking power, readable and fluency, psychopathy the last two."""
VANILLA = "vanilla"
"""The unsteered model, as the paper's Table 3 calls it, in the columns `form` and `objective`."""
_ORDER = ((VANILLA, VANILLA), *WITH_SCORES)
"""Form and objective of the rows of Tables 3 and 4, from the top."""


# within 0.001 no answer has changed
@kept(*BASE, tolerance=1e-3)
def score_base(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """The three tables of scores of a profile, from which means, Tables 3 and 4 and verdicts are computed.

    The unsteered model is form and objective "vanilla", seed 0: the answers of the closed form's cells at 0.

    Returns:
        "scores": one row per cell and one per unsteered model and task: model, task, form, objective, seed,
        m, m_relative (m in units of the matching strength), validation (mean score at that m of the questions
        that m was chosen by; NaN unsteered), score (mean over the test questions), n (test questions), and
        the means of `COMPONENTS`, NaN where a task has not that one: concept, instruction, fluency, harmonic
        0-2; power 0-4; correct in percent; readable and neither (neither yes nor no) as shares.

        "answer_scores": one row per test answer: the five keys of a cell, question, score, concept.

        "strength_scores": one row per cell and strength of the search: the five keys, m_relative, and the
        means over the validation questions of score, concept and fluency.
    """
    return tables(compute_cells(profile, jobs), jobs)


def tables(cells: Iterable[CellResult], jobs: int = 1) -> dict[str, pd.DataFrame]:
    """The tables of `score_base` from finished cells with answers; ValueError where there are none."""
    answered = [cell for cell in cells if "answers" in cell.folders]
    parts = joblib.Parallel(n_jobs=jobs)(joblib.delayed(_cell)(cell) for cell in answered)
    if not parts:
        raise ValueError("no cell has answers to score; a profile names in `answered` which are asked")
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in BASE}


def paper_table(found: pd.DataFrame, number: int) -> pd.DataFrame:
    """Table 3 (all but DPO) or 4 (DPO): the paper's columns, seeds, `_low` and `_high` of each metric.

    A form and objective that was not measured has no row, a metric that was not measured is NaN. Each task
    family has its own number of seeds: seeds_psychopathy, seeds_powerseeking, seeds_axbench. `found` is of
    `intervals`. KeyError for another table, ValueError when there is no row for it.
    """
    if number not in (3, 4):
        raise KeyError(f"table {number!r} is no table of scores; those are 3 (main) and 4 (DPO)")
    rows = found[(found["objective"] == "dpo") == (number == 4)]
    if rows.empty:
        raise ValueError(f"no scored answers for Table {number}; there are {sorted(set(found['objective']))}")
    parts = ["mean", "low", "high", "seeds"]
    wide = rows.pivot(index=ROW, columns="metric", values=parts)
    wide = wide.reindex(columns=pd.MultiIndex.from_product([parts, METRICS]))
    theirs = [name for name in paper.table(number).columns if name not in METRICS]
    table = wide.index.to_frame()[theirs].join(wide["mean"])
    for name, metric in METRICS.items():
        table[f"seeds_{metric.family}"] = wide["seeds", name].astype("Int64")
    for name in METRICS:
        table[[f"{name}_low", f"{name}_high"]] = wide[[("low", name), ("high", name)]].to_numpy()
    order = sorted(wide.index, key=lambda k: (k[0], _ORDER.index(k[1:])))
    return table.loc[order].reset_index(drop=True)


def beside_paper(table: pd.DataFrame, number: int) -> pd.DataFrame:
    """Table 3 or 4 with the paper's numbers beside ours: one row per row of the table and metric.

    Columns: the table's keys, metric, ours, paper, rank_ours, rank_paper (ranks within a model and metric, 1
    the highest, ties their average, among the rows that both have; NaN where one has no number). KeyError for
    a model without a counterpart in the paper.
    """
    theirs, names = paper.table(number), list(METRICS)
    key = [name for name in theirs.columns if name not in names]
    ours = table.melt(id_vars=key, value_vars=names, var_name="metric", value_name="ours")
    ours["paper_model"] = ours["model"].map(paper.counterpart)
    theirs = theirs.melt(id_vars=key, value_vars=names, var_name="metric", value_name="paper")
    theirs = theirs.rename(columns={"model": "paper_model"})
    on = ["paper_model", *key[1:], "metric"]
    both = ours.merge(theirs, how="left", on=on, validate="m:1").drop(columns="paper_model")
    shared = both[["ours", "paper"]].where(both[["ours", "paper"]].notna().all(axis=1))
    ranks = shared.groupby([both["model"], both["metric"]]).rank(ascending=False)
    return both.join(ranks.add_prefix("rank_"))


def rank_correlation(beside: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of the two numbers of `beside_paper`: model, metric, n, spearman.

    n counts the rows that both have; NaN for fewer than three, or where all of one side are equal.
    """
    rows = []
    for (model, metric), part in beside.groupby(["model", "metric"], sort=False):
        shared = part[["ours", "paper"]].dropna()
        ordered = len(shared) > 2 and shared["ours"].nunique() > 1 and shared["paper"].nunique() > 1
        value = spearmanr(shared["ours"], shared["paper"]).statistic if ordered else np.nan
        rows.append({"model": model, "metric": metric, "n": len(shared), "spearman": float(value)})
    return pd.DataFrame(rows)


@kept(
    *(paper.TABLES[number] for number in (3, 4)),
    "score_differences",
    tolerance=1e-3,
    digits=5,
    of="tables",
    pools=["answer_scores"],
)
def main_tables(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Tables 3 and 4 and "score_differences" of the scored answers, completed."""
    answers = complete(score_base(profile, jobs)["answer_scores"])
    found = intervals(answers)
    made = {paper.TABLES[number]: paper_table(found, number) for number in (3, 4)}
    return made | {"score_differences": differences(answers)}


def _cell(result: CellResult) -> dict[str, pd.DataFrame]:
    """One cell's part of the three tables. ValueError unless its test has one m besides 0, one tried."""
    unit, validation, test = result.unit, _numbers(result, "validation"), _numbers(result, "test")
    found = [m for m in test["m"].unique() if m != 0]
    if len(found) != 1:
        raise ValueError(f"{result.cell}: test answers at the strengths {found}, not at one chosen strength")
    tried = validation.groupby("m", as_index=False).mean()
    if found[0] not in set(tried["m"]):
        raise ValueError(f"{result.cell}: m = {found[0]} was not tried on validation: {list(tried['m'])}")
    rows, answers = [], []
    for m, part in test.groupby("m", sort=True):
        keys = result.cell.key | ({} if m else {"form": VANILLA, "objective": VANILLA, "seed": 0})
        # a search does not try m = 0: the unsteered model has no validation score
        chosen_by = tried.loc[tried["m"] == m, "score"].mean()
        row = {"m": m, "m_relative": m / unit, "validation": chosen_by, "score": part["score"].mean()}
        rows.append(keys | row | {"n": len(part), **part[list(COMPONENTS)].mean()})
        answers.append(_keyed(part[["question", "score", "concept"]].round(4), keys))
    strengths = tried.assign(m_relative=tried["m"] / unit)[["m_relative", "score", "concept", "fluency"]]
    return {
        "scores": pd.DataFrame(rows),
        "answer_scores": pd.concat(answers),
        "strength_scores": _keyed(strengths, result.cell.key),
    }


def complete(answer_scores: pd.DataFrame) -> pd.DataFrame:
    """The rows without the questions that a judge left unscored in some cell of their model and task.

    All that is compared has then been asked the same questions; `score_views.unscored` counts them.
    """
    asked = ["model", "task", "question"]
    lost = answer_scores.loc[answer_scores["score"].isna(), asked].drop_duplicates()
    if lost.empty:
        return answer_scores
    keys = pd.MultiIndex.from_frame(answer_scores[asked])
    return answer_scores[~keys.isin(pd.MultiIndex.from_frame(lost))].reset_index(drop=True)


def _numbers(result: CellResult, split: str) -> pd.DataFrame:
    """A cell's answers as numbers: m, question, score and `COMPONENTS`, NaN where the task has none."""
    answers = result.answers(split)
    if "correct" in answers:
        answers["correct"] = 100.0 * answers["correct"]
        answers["neither"] = answers["parsed"] == "neither"
    numbers = answers.reindex(columns=["m", "question", "score", *COMPONENTS], fill_value=np.nan)
    numbers = numbers.astype({name: float for name in ("m", "score", *COMPONENTS)})
    # a judge may leave an answer unscored, and says why
    exact = ("m",) if "reason" in answers else ("m", "score")
    if bad := [name for name in exact if numbers[name].isna().any()]:
        raise ValueError(f"{result.cell}: {' and '.join(bad)} of some {split} answers is NaN")
    return numbers


def _keyed(table: pd.DataFrame, keys: dict[str, object]) -> pd.DataFrame:
    """The table with the keys of a cell before its columns."""
    return table.assign(**keys)[[*keys, *table.columns]]
