"""Samples: steered answers for a reader to judge, chosen by one rule and never by hand.

The rule: of each task family the profile's first task, of that the first validation question, of each form
and objective the first seed, at every strength of `SHOWN`.
"""

import joblib
import pandas as pd

from splitkit.runs.answers import load, measure, pairs
from splitkit.runs.cells import CellResult, compute_cells, own_threads
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.steering.pairs import PAPER
from splitkit.studies.scores import VANILLA
from splitkit.tasks import first_tasks
from splitkit.world import scoring

SHOWN: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Strengths in matching strengths, of those that m is chosen from; the unsteered answer comes first."""
_KEYS = ["model", "task", "form", "objective", "m_relative"]
_COMPONENTS = ["concept", "instruction", "fluency", "readable"]


@kept("samples", "unsteered", tolerance=1e-3, of="first seed")
def samples(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """The tables `samples` and `unsteered` of a profile.

    samples: one row per model, first task of each family, form, objective and strength: model, task, form,
    objective, m_relative (0 where both are "vanilla"), question, answer, score, and what there is of concept,
    instruction, fluency (0-2 each) and readable.

    unsteered: one row per model and task: model, task, n, score, and the means of those components, over the
    validation questions that m is chosen on, without steering.
    """
    asked = dict.fromkeys((cell.model, cell.task) for cell in profile.cells())
    work = joblib.Parallel(n_jobs=jobs)
    parts = work(joblib.delayed(_unsteered)(name, task, profile) for name, task in asked)
    unsteered = pd.concat(parts, ignore_index=True)
    shown = list(first_tasks(profile.tasks).values())
    rows = [unsteered[(unsteered["question"] == 0) & unsteered["task"].isin(shown)]] + [
        _steered(result)
        for result in compute_cells(profile, jobs)
        if "answers" in result.folders and result.cell.task in shown and result.cell.seed == profile.seeds[0]
    ]
    worded = [
        _worded(part, task, profile) for some in rows for task, part in some.groupby("task", sort=False)
    ]
    measured = [column for column in _COMPONENTS if column in unsteered]
    grouped = unsteered.groupby(["model", "task"], sort=False)
    means = grouped[["score", *measured]].mean().astype(float)
    means.insert(0, "n", grouped.size())
    table = pd.concat(worded, ignore_index=True)[[*_KEYS, "question", "answer", "score", *measured]]
    return {"samples": table, "unsteered": means.reset_index()}


def sample_answers(table: pd.DataFrame, model: str, task: str, form: str, objective: str) -> pd.DataFrame:
    """The rows of `samples` of one combination by strength, the unsteered answer first.

    KeyError names the combinations that the table has.
    """
    of_task = table[(table["model"] == model) & (table["task"] == task)]
    own = of_task[(of_task["form"] == form) & (of_task["objective"] == objective)]
    if own.empty:
        there = [" ".join(key) for key in table.groupby(_KEYS[:4], sort=False).groups]
        raise KeyError(f"no samples of {model} {task} {form} {objective}; there are {there}")
    both = pd.concat([of_task[of_task["form"] == VANILLA], own])
    return both.sort_values("m_relative", ignore_index=True)


def as_markdown(rows: pd.DataFrame) -> str:
    """Answers of `sample_answers` as a table in Markdown, the words of the world's concepts in bold."""
    task = rows["task"].iloc[0]
    texts = [in_bold(str(text), task) for text in rows["answer"].fillna("")]
    lines = [
        f"| {m:g} | {_written(score)} | {text or '(says nothing)'} |"
        for m, score, text in zip(rows["m_relative"], rows["score"], texts, strict=True)
    ]
    title = f"**{' '.join(str(rows['question'].iloc[0]).split())}**"
    title += f" ({note})" if (note := without_words(task)) else ""
    return "\n".join([title, "", "| strength | score | answer |", "|---|---|---|", *lines])


def in_bold(text: str, task: str) -> str:
    """An answer as one line of Markdown, the words of its task's concept in bold where they are listed."""
    # nothing in it that Markdown would read
    line = " ".join(text.split()).replace("|", "\\|")
    family, _, concept = task.partition("/")
    return scoring.highlight(line, concept) if family == "axbench" else line


def without_words(task: str) -> str:
    """A note that nothing is in bold, for a concept of the paper's data; empty for other tasks."""
    if not task.startswith(f"{PAPER}axbench/"):
        return ""
    return "this concept has no list of words: nothing is in bold"


def _written(score: float) -> str:
    return "not scored" if pd.isna(score) else f"{score:.2f}"


def _worded(rows: pd.DataFrame, task: str, profile: Profile) -> pd.DataFrame:
    """Add the question in words, the first of its split, and call the text `answer`."""
    # the first model's: of AxBench's own questions one that it has no answer to is left out
    loaded = load(profile, profile.models[0]) if task.startswith("paper/axbench/") else ()
    asked = pairs(profile, task, "validation", *loaded)[0].question
    return rows.assign(question=asked).rename(columns={"text": "answer"})


def _steered(result: CellResult) -> pd.DataFrame:
    table = result.answers("validation")
    relative = (table["m"] / result.unit).round(6)
    rows = table[(table["question"] == 0) & relative.isin(SHOWN)]
    cell = {name: value for name, value in result.cell.key.items() if name != "seed"}
    return rows.assign(**cell, m_relative=relative[rows.index])


def _unsteered(name: str, task: str, profile: Profile) -> pd.DataFrame:
    """Answers of a model to a task's validation questions without an intervention, and their scores."""
    with own_threads():
        model, tokenizer = load(profile, name)
        table = measure(
            profile, model, tokenizer, None, task, "validation", [0.0], profile.size("choose", task), name
        )
    return table.assign(model=name, task=task, form=VANILLA, objective=VANILLA, m_relative=0.0)
