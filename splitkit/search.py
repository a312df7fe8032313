"""Search: training settings by validation score, with one budget for every objective and form.

`python -m splitkit.search` runs it anew (finished trials are kept), writes every trial to
`data/results/search.csv` and the best of each budget to `data/hparams.csv`.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from random import Random
from typing import Any

import joblib
import pandas as pd
from tqdm import tqdm

from splitkit import digests, paths, results
from splitkit.files import check_writable, write_whole
from splitkit.profiles import PROFILES

TRIALS = 4
"""Settings tried per model, task family, form and objective: the starting row and three drawn ones."""

TASKS: dict[str, str] = {
    "psychopathy": "psychopathy",
    "powerseeking": "powerseeking",
    "axbench": "axbench/ocean",
}
"""The task that a family's settings are chosen on; all ten concepts use those of one."""

QUESTIONS: dict[str, int] = {"psychopathy": 64, "powerseeking": 24, "axbench": 24}
"""Validation questions that a trial answers at every strength."""

LEARNING_RATES: dict[str, tuple[float, ...]] = {
    "local_weight": (0.003, 0.01, 0.03, 0.1),
    "lora": (0.01, 0.025, 0.05, 0.1),
    "vector": (0.02, 0.04, 0.08, 0.16),
}
EPOCHS: dict[str, tuple[int, ...]] = {"psychopathy": (1, 2), "powerseeking": (1, 2), "axbench": (4, 8)}
"""Passes over 500 pairs, or over a concept's 64."""

OWN: dict[str, dict[str, tuple[Any, ...]]] = {
    "sft": {"negative": ("negated", "none")},
    "reps": {"negative": ("negated", "none"), "beta": (0.5, 1.0, 2.0), "simpo_scaler": (0.5, 1.0, 2.0)},
    "dpo": {"negative": ("drawn",), "beta": (0.03, 0.1, 0.3, 1.0)},
    "split": {
        "negative": ("negated", "none"),
        "lambda_n": (0.25, 0.5, 1.0),
        "gamma": (2.0, 5.0, 10.0),
        "theta": (0.3, 0.5, 1.0),
    },
}
"""An objective's own settings: the mirrored direction and the weights of its loss."""

KEYS = ["model", "task_family", "form", "objective"]

SEED = 1000
"""Of the order, factors and dropout of every trial: none of the seeds that results are reported for."""


def start(form: str, objective: str, family: str) -> dict[str, Any]:
    """The first trial: the official settings' most common factors and loss weights, our learning rates."""
    from splitkit.objectives import OBJECTIVES
    from splitkit.training import default_config

    config = asdict(default_config(form, objective))
    config["epochs"] = EPOCHS[family][0]
    if form != "lora":
        del config["rank"]
    return config | config.pop("weights") | dict(OBJECTIVES[objective].defaults)


def trials(form: str, objective: str, family: str, count: int = TRIALS) -> list[dict[str, Any]]:
    """The settings to try: `start`, then drawn ones, no two alike.

    The k-th trial has the same learning rate and epochs whatever the objective, so that no objective sees a
    better choice of those than another; its own weights are drawn besides.
    """
    first = start(form, objective, family)
    common = Random(f"{form} {family}")
    own = Random(f"{form} {family} {objective}")
    shared = [(rate, epochs) for rate in LEARNING_RATES[form] for epochs in EPOCHS[family]]
    shared.remove((first["lr"], first["epochs"]))
    drawn = common.sample(shared, count - 1)
    return [first] + [
        first
        | {"lr": rate, "epochs": epochs}
        | {name: own.choice(values) for name, values in OWN[objective].items()}
        for rate, epochs in drawn
    ]


def attempt(model_name: str, family: str, form: str, objective: str, trial: int) -> dict[str, Any]:
    """Train with one trial's settings and score it on validation questions; kept, so done once.

    A loss that is not finite makes a trial without a score, which is kept too.
    """
    from splitkit.cells import one_thread
    from splitkit.evaluation import STRENGTHS, choose_strength, measure_strengths
    from splitkit.matching import matching_strength
    from splitkit.models import MODELS, load_model
    from splitkit.pairs import load_pairs
    from splitkit.training import train

    chosen = trials(form, objective, family)[trial]
    profile, task = PROFILES["embedded"], TASKS[family]
    key = dict(zip(KEYS, (model_name, family, form, objective), strict=True)) | {"trial": trial}
    decides = {
        **key,
        "settings": chosen,
        "n_train": profile.size("train", task),
        "n_questions": QUESTIONS[family],
        "strengths": STRENGTHS,
        "model_digest": digests.model_digest(model_name),
        "code_digest": digests.code_digest(digests.ANSWERED),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    path = paths.CACHE / "search" / f"{digest}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    begun = time.perf_counter()
    row = key | {"score": float("nan"), "m_relative": float("nan")} | chosen
    with one_thread():
        model, tokenizer = load_model(model_name)
        pairs = load_pairs(task, split="train")[: profile.size("train", task)]
        try:
            layer = MODELS[model_name].layer
            iv = train(model, tokenizer, pairs, form, objective, layer, SEED, **chosen)
        except FloatingPointError:
            pass
        else:
            unit = matching_strength(model, tokenizer, iv, pairs[:64])
            strengths = [unit * r for r in STRENGTHS]
            table = measure_strengths(model, tokenizer, iv, task, "validation", strengths, QUESTIONS[family])
            m = choose_strength(table, task)
            row |= {
                "score": float(table.loc[table["m"] == m, "score"].mean()),
                "m_relative": STRENGTHS[strengths.index(m)],
            }
    write_whole(path, json.dumps(row | {"seconds": round(time.perf_counter() - begun, 1)}) + "\n")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def search(models: Sequence[str], jobs: int = 2, progress: bool = True) -> pd.DataFrame:
    """Every trial of every model, family, form and objective: one row each, with its validation score."""
    work = [
        (model, family, form, objective, trial)
        for trial in range(TRIALS)
        for model in models
        for family in TASKS
        for form in LEARNING_RATES
        for objective in OWN
    ]
    check_writable(paths.CACHE / "search")
    run = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator", batch_size=1)
    found = run(joblib.delayed(attempt)(*one) for one in work)
    rows = list(tqdm(found, total=len(work), desc="trials", unit="trial", disable=not progress))
    table = pd.DataFrame(rows)
    last = ["seconds"]
    first = [*KEYS, "trial", "score", "m_relative"]
    table = table[first + [c for c in table if c not in first + last] + last]
    return table.sort_values([*KEYS, "trial"], ignore_index=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """argmax of the validation score in each budget; of equal ones the earliest trial, the start before all.

    ValueError names a budget in which no trial has a score.
    """
    scored = table.sort_values("trial").dropna(subset="score")
    chosen = scored.loc[scored.groupby(KEYS)["score"].idxmax()].sort_values(KEYS, ignore_index=True)
    if missing := sorted(set(map(tuple, table[KEYS].to_numpy())) - set(map(tuple, chosen[KEYS].to_numpy()))):
        raise ValueError(f"no trial has a score for {missing[0]}")
    return chosen.drop(columns=["trial", "score", "m_relative", "seconds"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.search", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, one thread each")
    chosen = parser.parse_args(arguments)
    profile = PROFILES["embedded"]
    table = search(profile.models, chosen.jobs)
    written = results.write_table(table.drop(columns="seconds"), "search", profile, tolerance=0.0)
    write_whole(paths.DATA / "hparams.csv", best(table).to_csv(index=False, lineterminator="\n"))
    sys.stdout.write(f"{written}\nthe best of each budget is in {paths.DATA.name}/hparams.csv\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
