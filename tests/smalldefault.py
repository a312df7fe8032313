"""The embedded profile in small, for every process of a run: a sitecustomize.py calls `cut_all_down`.

A test's own patches do not reach the workers and the notebooks' kernels that a run starts.
"""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd

from splitkit.runs.profiles import PROFILES, Profile
from splitkit.storage import paths

FOLDER = "SMALL_DEFAULT"
"""The variable that names the folder of what the environment cannot move by itself."""
BROKEN = "SMALL_DEFAULT_BROKEN"
"""The variable that has the table of rivals fail, and leaves few tables and notebooks beside it."""

CONCEPTS = ("axbench/ocean", "axbench/winter")
"""The default computes the first; the other's rows it has to leave alone."""
CURVES = (("lora", "sft"), ("vector", "split"))
ANSWERED = (*CURVES, ("vector", "diffmean"), ("vector", "dpo"))
BESIDE = (("vanilla", "vanilla"), ("vector", "random"), ("vector", "natural"))
"""The unsteered model, and the controls of the geometry."""
N_TEST = 4


def small(whole: Profile) -> Profile:
    """`whole` with one model and few tasks, cells, pairs and questions."""
    return replace(
        whole,
        models=("tiny-qwen2",),
        tasks=("psychopathy", "powerseeking", *CONCEPTS),
        combinations=CURVES,
        answered=ANSWERED,
        n_train=16,
        n_sweep=6,
        n_choose=2,
        n_test=N_TEST,
        overrides={"epochs": 1},
    )


def cut(name: str, table: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The rows of a committed table that the small `profile` has, too; the search's all stay."""
    kept = pd.Series(True, index=table.index)
    if name == "search":
        return table
    if "model" in table:
        kept &= table["model"].isin(profile.models)
    if "task" in table:
        kept &= table["task"].isin([*profile.tasks, "axbench", "all"])
    if {"form", "objective"} <= set(table):
        scored = "score" in table or name.startswith("table")
        kinds = [*(profile.answered if scored else profile.combinations), *BESIDE]
        kept &= pd.Series(zip(table["form"], table["objective"], strict=True), index=table.index).isin(kinds)
    if "question" in table and "seed" in table:
        kept &= table["question"] < N_TEST
    return table[kept]


def cut_all_down() -> None:
    """Put the small profile in the place of the whole one in this process."""
    folder = Path(os.environ[FOLDER])
    paths.BUILD = folder / "build"
    PROFILES["embedded"] = small(PROFILES["embedded"])
    if os.environ.get(BROKEN):
        from splitkit import studies
        from splitkit.studies import rival_curves

        paths.NOTEBOOKS = folder / "notebooks"
        studies.STUDIES = ("rival_curves:rivalry", "scores:score_base", "scores:main_tables")
        rival_curves.rival_table = _fail


def _fail(*_: object, **__: object) -> pd.DataFrame:
    raise ZeroDivisionError("broken for a test")
