"""Measures of answers without a judge: means per cell and strength, and the answers themselves."""

import pandas as pd

from splitkit.runs.cell_results import CellResult
from splitkit.runs.cells import compute_cells
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.studies.frames import CELL
from splitkit.studies.scores import VANILLA

MEANS = (
    *("score", "correct_by_likelihood", "covered", "log_odds", "correct"),
    *("classified", "nats", "repeated_3", "distinct_1", "distinct_2", "admissible"),
)
"""Columns of `text_measures.measure` that are averaged over questions; NaN where a task has not that one."""
PROMPTED = "prompted"


@kept("text_scores", "text_answers", tolerance=1e-3)
def text_scores(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Measures and answers of a profile without a judge (see `text_measures.DECISIONS`).

    Returns:
        "text_scores", a row per cell, split and strength, of the test split also of the unsteered model
        ("vanilla") and of the unsteered one under a persona prompt ("prompted"), in form and objective: the
        cell's keys, split, m_relative, n (questions), the means of `MEANS`, neither (the share of texts
        that begin with neither word), kl (on neutral text, at m*, NaN elsewhere), auc (of the concept
        classifier, NaN for psychopathy).

        "text_answers", a row per test answer, as it is: the cell's keys, question, m_relative, text and the
        columns of its measures.
    """
    if profile.judge:
        raise ValueError(f"profile {profile.name} has a judge: its scores are in `scores.score_base`")
    cells = [one for one in compute_cells(profile, jobs) if "answers" in one.folders]
    parts = [_cell(one, profile) for one in cells]
    return {
        name: pd.concat([part[name] for part in parts], ignore_index=True)
        for name in ("text_scores", "text_answers")
    }


def _cell(result: CellResult, profile: Profile) -> dict[str, pd.DataFrame]:
    from splitkit.runs.text_measures import classifier, is_open

    task, key = result.cell.task, result.cell.key
    auc = classifier(profile, task).auc if is_open(task) else float("nan")
    kl = float(result.kept("neutral")["kl"].mean())
    test = result.answers("test").assign(**key)
    unsteered = test["m"] == 0
    test.loc[unsteered, ["form", "objective", "seed"]] = [VANILLA, VANILLA, 0]
    asked = [test]
    if result.cell.objective == "diffmean":
        names = {"form": PROMPTED, "objective": PROMPTED, "seed": 0}
        asked.append(result.kept("prompted").assign(**(key | names)))
    answers = pd.concat(asked, ignore_index=True)
    answers["m_relative"] = answers["m"] / result.unit
    rows = [_means(result.answers("validation").assign(**key), "validation", result.unit)]
    rows += [_means(answers, "test", result.unit)]
    table = pd.concat(rows, ignore_index=True).assign(auc=auc)
    steered = (table["split"] == "test") & (table["form"] == key["form"])
    table["kl"] = float("nan")
    table.loc[steered, "kl"] = kl
    columns = [*CELL, "question", "m_relative", "text", "parsed", *MEANS]
    return {"text_scores": table, "text_answers": answers.reindex(columns=columns)}


def _means(answers: pd.DataFrame, split: str, unit: float) -> pd.DataFrame:
    """One row per cell's keys and m: the means over the questions."""
    numbers = answers.reindex(columns=[*CELL, "m", *MEANS]).assign(neither=float("nan"))
    if "parsed" in answers:
        numbers["neither"] = (answers["parsed"] == "neither").astype(float)
    means = [*MEANS, "neither"]
    numbers = numbers.astype(dict.fromkeys(means, float))
    groups = numbers.groupby([*CELL, "m"], sort=False)
    table = groups[means].mean().assign(n=groups.size()).reset_index()
    table.insert(len(CELL), "split", split)
    table.insert(len(CELL) + 1, "m_relative", table.pop("m") / unit)
    return table
