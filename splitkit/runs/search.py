"""The search for training settings by validation score, with one budget for every objective and form.

`python -m splitkit.runs.search` runs it anew (finished trials are kept), writes every run to
`data/results/search.csv` and the best of each budget to `data/hparams.csv`.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import pandas as pd

from splitkit.paper import official_hparams, official_settings
from splitkit.runs import results
from splitkit.runs.cells import compute
from splitkit.runs.engines import cores
from splitkit.runs.profiles import AXBENCH, PROFILES, Cell
from splitkit.storage import paths
from splitkit.storage.files import write_whole

TRIALS = 4
"""Settings tried per model, task family, form and objective: the paper's row and three drawn ones."""

FINALISTS = 2
"""The trials that are best with the first seed; they alone are run with the others."""

SEEDS = (1000, 1001, 1002)
"""The seeds of order, factors and dropout in a trial: none of those that results are reported for."""

TASKS: dict[str, tuple[str, ...]] = {
    "psychopathy": ("psychopathy",) * len(SEEDS),
    "powerseeking": ("powerseeking",) * len(SEEDS),
    "axbench": AXBENCH[: len(SEEDS)],
}
"""The task that each seed trains on; all ten concepts use the settings of three."""

QUESTIONS: dict[str, int] = {"psychopathy": 64, "powerseeking": 24, "axbench": 16}
"""Validation questions that a trial answers at every strength."""

EPOCHS: dict[str, int] = {"psychopathy": 2, "powerseeking": 1, "axbench": 4}
"""Passes over 500 pairs, or over a concept's 64; the same for all."""

LEARNING_RATES: dict[str, tuple[float, ...]] = {
    "local_weight": (0.003, 0.01, 0.03, 0.1),
    "lora": (0.01, 0.025, 0.05, 0.1),
    "vector": (0.02, 0.04, 0.08, 0.16),
}

OWN: dict[str, dict[str, tuple[float, ...]]] = {
    "sft": {},
    "reps": {"beta": (0.5, 1.0, 2.0), "simpo_scaler": (0.5, 1.0, 2.0)},
    "dpo": {"beta": (0.03, 0.1, 0.3, 1.0)},
    "split": {"lambda_n": (0.25, 0.5, 1.0), "gamma": (2.0, 5.0, 10.0), "theta": (0.3, 0.5, 1.0)},
}
"""The weights of an objective's own loss, drawn besides the learning rate."""

KEYS = ["model", "task_family", "form", "objective"]


def start(model_name: str, form: str, objective: str, family: str) -> dict[str, Any]:
    """The first trial: the paper's row for the model's counterpart, with our number of epochs.

    A weight that a row leaves out, and what DPO has no row for, is the objective's default here (DPO's
    learning rate is RePS's). Every step has both directions (`dpo` draws one); the official rows leave the
    mirrored one out in some cells.
    """
    from splitkit.steering.objectives import OBJECTIVES

    row = official_settings(model_name, form, objective, family)
    chosen = {name: row[name] for name in ("lr", "dropout", "factor_min", "factor_max", "factor_step")}
    chosen |= {"epochs": EPOCHS[family], "batch_size": 8}
    chosen |= {"negative": "drawn" if objective == "dpo" else "negated"}
    chosen |= {"rank": 4} if form == "lora" else {}
    return chosen | {name: row.get(name, value) for name, value in OBJECTIVES[objective].defaults.items()}


def trials(model_name: str, form: str, objective: str, family: str) -> list[dict[str, Any]]:
    """The settings to try: `start`, then drawn ones, no two alike.

    The k-th trial, k > 0, has the same learning rate whatever the objective, so that no objective sees a
    better choice of those than another; it is no official one. Its own weights are drawn besides.
    """
    first = start(model_name, form, objective, family)
    official = official_hparams().query("dataset == @family and form == @form")["lr"].unique()
    rates = [rate for rate in LEARNING_RATES[form] if rate not in official]
    drawn = Random(f"{form} {family}").sample(rates, TRIALS - 1)
    own = Random(f"{form} {family} {objective}")
    return [first] + [
        first | {"lr": rate} | {name: own.choice(values) for name, values in OWN[objective].items()}
        for rate in drawn
    ]


def search(models: Sequence[str], jobs: int = 2, progress: bool = True) -> pd.DataFrame:
    """Every trial of every budget with the first seed, then the finalists with the others: a row per run.

    A trial whose loss is not finite has a row without a score.
    """
    budgets = list(product(models, TASKS, LEARNING_RATES, OWN))
    rows = _run([(key, trial, 0) for trial in range(TRIALS) for key in budgets], jobs, progress)
    finals = [
        (key, trial, number)
        for key, of_key in finalists(pd.DataFrame(rows)).items()
        for trial in of_key
        for number in range(1, len(SEEDS))
    ]
    table = pd.DataFrame(rows + _run(finals, jobs, progress))
    return table.sort_values([*KEYS, "trial", "seed"], ignore_index=True)


def _run(runs: Sequence[tuple[Any, int, int]], jobs: int, progress: bool) -> list[dict[str, Any]]:
    """The row of each run: a budget, the number of a trial and that of a seed."""
    answered = tuple(product(LEARNING_RATES, OWN))
    profile = replace(
        PROFILES["embedded"], name="search", combinations=(), answered=answered, n_choose=QUESTIONS, n_test=0
    )
    rows, cells = [], []
    for key, trial, number in runs:
        model, family, form, objective = key
        chosen, task, seed = (
            trials(model, form, objective, family)[trial],
            TASKS[family][number],
            SEEDS[number],
        )
        variant = (("hparams", tuple(sorted(chosen.items()))),)
        cells.append(Cell(model, task, form, objective, seed, variant))
        head = dict(zip(KEYS, key, strict=True)) | {"trial": trial, "seed": seed, "task": task}
        rows.append((head, chosen))
    found = []
    for (head, chosen), result in zip(rows, compute(cells, profile, jobs, progress), strict=True):
        m, score = (math.nan, math.nan) if result.diverged else result.best
        found.append(head | {"score": score, "m_relative": m} | chosen)
    return found


def finalists(table: pd.DataFrame) -> dict[tuple[str, ...], list[int]]:
    """The FINALISTS best trials of each budget by the first seed's score, of equal ones the earliest.

    ValueError names a budget in which no trial has a score.
    """
    found = {}
    for key, rows in table[table["seed"] == SEEDS[0]].groupby(KEYS):
        scored = rows.dropna(subset="score").sort_values(["score", "trial"], ascending=[False, True])
        if scored.empty:
            raise ValueError(f"no trial has a score for {key}")
        found[key] = scored["trial"].tolist()[:FINALISTS]
    return found


def final_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The finalists' mean score over all seeds, NaN where a run has none: KEYS, trial, score; best first."""
    chosen = [(*key, trial) for key, of_key in finalists(table).items() for trial in of_key]
    means = table.groupby([*KEYS, "trial"])["score"].agg(lambda scores: scores.mean(skipna=False))
    # rounded, so that the order of a sum does not decide between equal means
    final = means.loc[chosen].round(9).reset_index()
    order = [*KEYS, "score", "trial"]
    return final.sort_values(order, ascending=[True] * len(KEYS) + [False, True], ignore_index=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """The settings with the highest final score of each budget; of equal ones the earliest trial's.

    ValueError names a budget in which no finalist has a score with every seed.
    """
    scored = final_scores(table).dropna(subset="score").drop_duplicates(KEYS)
    if missing := sorted(set(finalists(table)) - set(map(tuple, scored[KEYS].to_numpy()))):
        raise ValueError(f"no finalist has a score with every seed for {missing[0]}")
    runs = table[table["seed"] == SEEDS[0]].drop(columns=["score", "m_relative", "seed", "task"])
    return scored.drop(columns="score").merge(runs, on=[*KEYS, "trial"]).drop(columns="trial")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.runs.search", description=__doc__)
    parser.add_argument("--jobs", type=int, default=cores(), help="processes side by side, one thread each")
    chosen = parser.parse_args(arguments)
    paths.require_clone("The committed settings")
    profile = PROFILES["embedded"]
    table = search(profile.models, chosen.jobs)
    written = results.write_table(table, "search", profile, tolerance=0.0)
    write_whole(paths.DATA / "hparams.csv", best(table).to_csv(index=False, lineterminator="\n"))
    sys.stdout.write(f"{written}\nthe best of each budget is in {paths.DATA.name}/hparams.csv\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
