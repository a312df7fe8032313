"""Made-up tables with known answers, and the word that a verdict says."""

import numpy as np
import pandas as pd

from splitkit.studies.decisions.grading import Judged

MODEL = "tiny-gemma2"
SETTINGS = [("vector", "diffmean")] + [
    (form, objective) for form in ("local_weight", "lora", "vector") for objective in ("sft", "reps")
]
GRID = np.concatenate([-np.geomspace(64, 0.02, 25), [0.0], np.geomspace(0.02, 64, 25)])


def s_curve(m: np.ndarray) -> np.ndarray:
    return np.tanh(m)


def bell(m: np.ndarray) -> np.ndarray:
    return 1 / (1 + m**2)


def cell(
    form: str = "lora",
    objective: str = "sft",
    seed: int = 0,
    task: str = "psychopathy",
    preference=s_curve,
    utility=bell,
    sem: float = 0.01,
) -> pd.DataFrame:
    """One training curve with push |m|."""
    keys = {"model": MODEL, "task": task, "form": form, "objective": objective, "seed": seed}
    curve = {"m": GRID, "push": np.abs(GRID), "preference": preference(GRID), "utility": utility(GRID)}
    return pd.DataFrame(keys | {"split": "train"} | curve).assign(preference_sem=sem, utility_sem=sem)


def cells(n_seeds: int = 3, **curves) -> pd.DataFrame:
    """Every setting, `n_seeds` times."""
    return pd.concat(
        [cell(form, objective, seed, **curves) for form, objective in SETTINGS for seed in range(n_seeds)],
        ignore_index=True,
    )


def row(judged: Judged, part: str = "claim") -> pd.Series:
    rows = judged.verdicts[judged.verdicts["part"] == part]
    assert len(rows) == 1
    return rows.iloc[0]


def word(judged: Judged, part: str = "claim") -> str:
    return str(row(judged, part)["verdict"])
