"""Views of scores: tables narrow enough to be read as text, and sentences that are computed from them."""

import math
from collections.abc import Collection, Iterable

import pandas as pd

from splitkit.curves.operating_point import operating_point
from splitkit.runs.profiles import Profile
from splitkit.runs.results import read_table
from splitkit.runs.search import final_scores
from splitkit.runs.search_space import KEYS, OWN, PLANS, SEEDS
from splitkit.storage import paths
from splitkit.studies.claims import CEILING
from splitkit.studies.frames import CELL, ROW
from splitkit.studies.score_differences import METRICS
from splitkit.studies.scores import VANILLA, beside_paper
from splitkit.tasks import task_family

RANGES = (0.0, 0.4, 1.2, 12.0)
"""Ends of low, middle and high strengths, in matching strengths."""
_SCORES = ("concept", "fluency", "score")
_LINE = ["model", "form", "m_relative"]


def metrics_of(table: pd.DataFrame, families: Collection[str]) -> list[str]:
    """The metrics of some task families that Table 3 or 4 has numbers of, in the paper's order."""
    own = [name for name, metric in METRICS.items() if metric.family in families]
    return [name for name in own if table[name].notna().any()]


def budget_view(model: str, form: str, family: str, profile: Profile | str = "embedded") -> pd.DataFrame:
    """The learning rates that the search tried: a row per trial (0: the paper's), a column per objective.

    Where the search chose between mirrored pairs and none, an entry says which.
    """
    try:
        table = read_table("search", profile)
    except FileNotFoundError:
        # a run whose results lie elsewhere has the committed search's settings
        table = pd.read_csv(paths.DATA / "results" / "search.csv")
    rows = table[(table["model"] == model) & (table["form"] == form) & (table["task_family"] == family)]
    rows = rows[rows["seed"] == SEEDS[0]]
    words = (
        {"none": "", "negated": ", mirrored", "drawn": ", drawn"} if "none" in set(rows["negative"]) else {}
    )
    said = [f"{lr:g}{words.get(side, '')}" for lr, side in zip(rows["lr"], rows["negative"], strict=True)]
    wide = rows.assign(said=said).pivot(index="trial", columns="objective", values="said")
    return wide[list(OWN)].rename_axis(columns=None)


def space_seen(search: pd.DataFrame) -> str:
    """One sentence: how many settings the search tried of those there are, for each objective."""
    parts = []
    for objective, rows in search[search["trial"] == 0].groupby("objective"):
        tried, share = (rows["seen"] * rows["space"]).round().max(), rows["seen"].mean()
        low, high = rows["space"].min(), rows["space"].max()
        there = f"{low}" if low == high else f"{low} to {high}"
        parts.append(f"{objective} {tried:g} of {there} ({share:.0%})")
    return f"Settings tried of those there are, per model, task family and form: {', '.join(parts)}."


def settings_drawn() -> list[str]:
    """The settings, besides the learning rate, that the search draws for each objective, in words."""
    drawn = {
        objective: "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in own.items())
        for objective, own in OWN.items()
    }
    return [f"{objective}: {said or 'none'}" for objective, said in drawn.items()]


def negative_sides() -> list[str]:
    """The factor that each objective steers its mirrored side by, in words."""
    from splitkit.steering.objectives import OBJECTIVES
    from splitkit.steering.trainer import NEGATIVE
    from splitkit.steering.training import default_config

    used = {objective: default_config("vector", objective).negative for objective in OBJECTIVES}
    return [f"{one}: {negative}, mirrored factor {NEGATIVE[negative]:g} m" for one, negative in used.items()]


def search_view(search: pd.DataFrame, family: str) -> pd.DataFrame:
    """The search's table by model, form and objective: runs, start (the paper's row), best, final, its trial.

    start and best are scores with the first seed, final the chosen trial's mean over all seeds; each score is
    a mean over validation questions at the best m of its run.
    """
    rows = search[search["task_family"] == family]
    if rows.empty:
        raise ValueError(f"the search has no family {family!r}; it has {sorted(set(search['task_family']))}")
    keys = [key for key in KEYS if key != "task_family"]
    first = rows[rows["seed"] == SEEDS[0]]
    start, best = first[first["trial"] == 0].set_index(keys)["score"], first.groupby(keys)["score"].max()
    found = pd.DataFrame({"runs": rows.groupby(keys).size(), "start": start, "best": best})
    chosen = final_scores(rows).drop_duplicates(keys).set_index(keys)[["score", "trial"]]
    return found.join(chosen.set_axis(["final", "trial"], axis=1)).round(2)


def score_view(table: pd.DataFrame, number: int, metric: str) -> pd.DataFrame:
    """One metric of Table 3 or 4: ours, interval, paper, and the two ranks of `beside_paper`."""
    both = beside_paper(table, number)
    rows = both[both["metric"] == metric]
    # the paper's Table 4 has one objective, which it does not name
    keys = [key for key in ROW if key in rows]
    ends = [f"{metric}_low", f"{metric}_high"]
    found = rows.merge(table[[*keys, *ends]], on=keys, validate="1:1").dropna(subset="ours")
    found["interval"] = [f"{low:.2f} to {high:.2f}" for low, high in found[ends].to_numpy()]
    ranks = found[["rank_ours", "rank_paper"]].to_numpy()
    found["ranks"] = ["" if math.isnan(a) else f"{a:g} / {b:g}" for a, b in ranks]
    return found.set_index(keys)[["ours", "interval", "paper", "ranks"]].round(2)


def difference_view(differences: pd.DataFrame, metric: str) -> pd.DataFrame:
    """SPLIT minus each rival on one metric, without DPO: "0.13 [0.02, 0.24]", p, and the better of the two.

    In place of the better one there may be a "tie" or a "ceiling", see `score_differences.differences`.
    """
    rows = differences[(differences["metric"] == metric) & (differences["rival"] != "dpo")]
    numbers = rows[["difference", "low", "high"]].to_numpy()
    better = rows["outcome"].replace({"split better": "SPLIT", "rival better": "rival"})
    shown = rows.assign(minus=[f"{d:.2f} [{low:.2f}, {high:.2f}]" for d, low, high in numbers], better=better)
    shown = shown.set_index(["model", "form", "rival"])[["minus", "p", "better"]].round({"p": 3})
    return shown.rename(columns={"minus": "SPLIT - rival"})


def tally(differences: pd.DataFrame) -> pd.DataFrame:
    """Counts of SPLIT better, tied, worse or at the ceiling against the other objectives of Table 3."""
    rows = differences[differences["rival"] != "dpo"]
    counts = rows.groupby(["model", "form", "outcome"]).size().unstack("outcome", fill_value=0)
    return counts.reindex(columns=["split better", "tie", "rival better", "ceiling"], fill_value=0)


def _lines(strengths: pd.DataFrame, family: str) -> pd.DataFrame:
    """Mean concept, fluency and score of a family by model, form, m_relative and objective."""
    rows = strengths[strengths["task"].map(task_family) == family]
    # rounded, so that a strength is the same number in every cell
    rows = rows.assign(m_relative=rows["m_relative"].round(6))
    return rows.groupby([*_LINE, "objective"])[[name for name in _SCORES if name in rows]].mean()


def leads(strengths: pd.DataFrame, family: str) -> pd.DataFrame:
    """SPLIT's mean minus its best rival's at each strength, DPO left out, averaged over `RANGES` of m.

    `strengths` is `strength_scores` of `scores.score_base`. A row per model, form and range of m, a column
    for each of concept, fluency and score that the family has. The best rival may be another one in each
    column and at each strength.
    """
    means = _lines(strengths, family).drop(index="dpo", level="objective", errors="ignore")
    means = means.dropna(axis=1, how="all")
    own = means.index.get_level_values("objective") == "split"
    lead = (means[own].droplevel("objective") - means[~own].groupby(_LINE).max()).dropna().reset_index()
    lead["m"] = pd.cut(lead["m_relative"], RANGES, labels=["low", "middle", "high"])
    return lead.groupby(["model", "form", "m"], observed=True)[list(means)].mean()


def windows(strengths: pd.DataFrame, family: str) -> pd.DataFrame:
    """The number of strengths at which an objective keeps half of its own best validation score: its window.

    One row per model and form, a column per objective; empty where it was not measured or has no score
    above 0 at any strength.
    """
    line = _lines(strengths, family)["score"]
    best = line.groupby(ROW).transform("max")
    counts = (line >= best / 2).where(best > 0).groupby(ROW).sum(min_count=1)
    return counts.unstack("objective").astype("Int64").astype(object).fillna("")


def ceilings(table: pd.DataFrame, metrics: Iterable[str]) -> list[str]:
    """A sentence per model and metric: the rows of Table 3 that come within 1 % of the top of its scale."""
    sentences = []
    for model, rows in table.groupby("model", sort=True):
        for name in metrics:
            top = METRICS[name].top
            steered = rows[(rows["form"] != VANILLA) & rows[name].notna()]
            reached = steered.loc[steered[name] >= top * (1 - CEILING), ["form", "objective"]]
            where = f"reached by {', '.join(map(' '.join, reached.to_numpy())) or 'none'}"
            best = steered.loc[steered[name].idxmax()]
            sentences.append(
                f"{model}, {name}: the ceiling of {top:g} is {where}; "
                f"the highest is {best[name]:.4g} ({best['form']} {best['objective']})."
            )
    return sentences


def gains(table3: pd.DataFrame, table4: pd.DataFrame) -> pd.DataFrame:
    """Score minus that of the unsteered model: one row per model, metric, form and objective, DPO among them.

    Columns: model, metric, form, objective, score, unsteered, gain, in the scale of the metric.
    """
    both = pd.concat([table3, table4.assign(objective="dpo")], ignore_index=True)
    long = both.melt(id_vars=ROW, value_vars=list(METRICS), var_name="metric", value_name="score").dropna()
    base = long[long["form"] == VANILLA].set_index(["model", "metric"])["score"]
    steered = long[long["form"] != VANILLA].join(base.rename("unsteered"), on=["model", "metric"])
    steered["gain"] = steered["score"] - steered["unsteered"]
    return steered[["model", "metric", "form", "objective", "score", "unsteered", "gain"]].reset_index(
        drop=True
    )


def dpo_view(found: pd.DataFrame) -> pd.DataFrame:
    """DPO's gain beside the best of SFT, RePS and SPLIT in the same form: dpo, best, of, share (dpo / best).

    `found` is of `gains`; a form without DPO or without another has no row. share is NaN where best is 0.
    """
    keys = ["model", "metric", "form"]
    dpo = found[found["objective"] == "dpo"].set_index(keys)["gain"].rename("dpo")
    others = found[found["objective"].isin(["sft", "reps", "split"])]
    best = others.loc[others.groupby(keys)["gain"].idxmax()].set_index(keys)
    both = best[["objective", "gain"]].set_axis(["of", "best"], axis=1).join(dpo, how="inner")
    both["share"] = (both["dpo"] / both["best"]).where(both["best"] != 0)
    return both[["dpo", "best", "of", "share"]].round(2)


def search_table(profile: Profile) -> pd.DataFrame:
    """The search's table, where settings of a model of the profile were searched.

    FileNotFoundError says where they were not, or that the table is not there.
    """
    try:
        table = read_table("search", profile if profile.name in PLANS else "embedded")
    except FileNotFoundError as error:
        raise FileNotFoundError("The search's table is not among the results here.") from error
    if not set(table["model"]) & set(profile.models):
        raise FileNotFoundError(
            f"No settings were searched for {', '.join(profile.models)}: every cell of profile "
            f"{profile.name!r} is trained with the official row for its architecture."
        )
    return table


def unscored(answer_scores: pd.DataFrame) -> list[str]:
    """A sentence per model and task of which a judge left test answers unscored, with their number."""
    sentences = []
    for (model, task), rows in answer_scores.groupby(["model", "task"], sort=True):
        lost = rows["score"].isna()
        if lost.any():
            questions = rows.loc[lost, "question"].nunique()
            sentences.append(
                f"{model}, {task}: {lost.sum()} of {len(rows)} answers were not scored by the judge; the "
                f"{questions} of {rows['question'].nunique()} questions that they are to are left out."
            )
    return sentences


def ungraded(profile: Profile, family: str, answer_scores: pd.DataFrame) -> list[str]:
    """Sentences on the grades that a family's answers lack: never asked for, or left out by a judge."""
    own = [task for task in profile.tasks if task_family(task) == family]
    said = []
    if family == "powerseeking" and any(map(profile.judged, own)):
        said.append("The judge grades power alone, as in the paper: there are no numbers of fluency here.")
    return said + unscored(answer_scores[answer_scores["task"].isin(own)])


def absent(profile: Profile, family: str) -> str:
    """A sentence if a profile has no task of a family, with the tasks that it has; else empty."""
    if family in map(task_family, profile.tasks):
        return ""
    return f"Profile {profile.name!r} has no {family}: its tasks are {', '.join(profile.tasks)}."


def beside_answers(curves: pd.DataFrame, strengths: pd.DataFrame) -> pd.DataFrame:
    """`operating_point` on trial: the score of answers at the strength that losses alone choose.

    Mean curves (`mean_curves.curves`) of test pairs choose; `strength_scores` of `scores.score_base` has the
    scores of validation answers.

    Returns:
        One row per model, form and family of tasks: cells, m (median of the operating points, in matching
        strengths), beyond (the number of them beyond every answered strength, left out of what follows),
        by_losses (mean score at the answered strength that is nearest) and best (mean of each cell's highest
        score, which is a little too high: it is chosen on the answers that are scored).
    """
    answered = {key: part for key, part in strengths.groupby(CELL)}
    rows = []
    for key, curve in curves[curves["split"] == "test"].groupby(CELL):
        if key not in answered or curve["utility"].isna().all():
            continue
        # a mean curve is the sweep of one mean pair
        m = operating_point(curve.assign(m=curve["m_relative"], pair=0)).m
        scores = answered[key].set_index("m_relative")["score"]
        beyond = m > scores.index.max()
        near = scores.iloc[abs(scores.index - m).argmin()]
        found = (math.nan, math.nan) if beyond else (near, scores.max())
        rows.append((key[0], key[2], task_family(str(key[1])), m, m, beyond, *found))
    columns = ["model", "form", "family", "cells", "m", "beyond", "by_losses", "best"]
    how = dict(zip(columns[3:], ("size", "median", "sum", "mean", "mean"), strict=True))
    return pd.DataFrame(rows, columns=columns).groupby(columns[:3]).agg(how)
