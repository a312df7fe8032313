"""What a run computes: models, tasks, cells, grid and sizes, one entry per profile in one table."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from splitkit import paths

WEIGHT_CELLS: tuple[tuple[str, str], ...] = tuple(
    (form, objective) for form in ("local_weight", "lora") for objective in ("sft", "reps", "split")
)
VECTOR_CELLS: tuple[tuple[str, str], ...] = tuple(
    ("vector", objective) for objective in ("diffmean", "sft", "reps", "split")
)


@dataclass(frozen=True, order=True)
class Cell:
    """One model x task x form x objective x seed."""

    model: str
    task: str
    form: str
    objective: str
    seed: int = 0

    @property
    def slug(self) -> str:
        """A file name's worth of the cell, as in 'embedded-qwen2_axbench-ocean_vector_split_0'."""
        parts = (self.model, self.task, self.form, self.objective, str(self.seed))
        return "_".join(part.replace("/", "-") for part in parts)

    def __str__(self) -> str:
        return f"{self.model} {self.task} {self.form} {self.objective} seed {self.seed}"


def strength_grid(limit: float, n: int, curvature: float = 5.0) -> tuple[float, ...]:
    """m_i = limit sinh(c t_i) / sinh(c), t_i even in [-1, 1]: symmetric, 0 in the middle, denser near it.

    In units of the matching strength. ValueError unless n is odd and at least 3 and limit is positive.
    """
    if n < 3 or n % 2 == 0:
        raise ValueError(f"a symmetric grid with 0 in it needs an odd number of points, at least 3; got {n}")
    if not (limit > 0 and math.isfinite(limit)):
        raise ValueError(f"the largest strength must be positive and finite; got {limit}")
    half = n // 2
    # mirrored, not computed twice, so that the grid is symmetric to the last bit
    positive = [limit * math.sinh(curvature * i / half) / math.sinh(curvature) for i in range(1, half + 1)]
    return (*(-m for m in reversed(positive)), 0.0, *positive)


@dataclass(frozen=True)
class Profile:
    """One run's extent. Equal profiles give equal results."""

    name: str
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    """(form, objective) of every cell."""
    grid: tuple[float, ...]
    """Strengths in units of the matching strength of each cell's intervention."""
    n_train: int
    """Pairs to train on."""
    n_sweep: int
    """Pairs per split whose losses are measured over the grid."""
    seeds: tuple[int, ...] = (0,)
    overrides: dict[str, float] = field(default_factory=dict, hash=False)
    """Training settings of this profile that go before those of data/hparams.csv."""

    def cells(self) -> list[Cell]:
        """Every cell of the profile, in the order of its fields."""
        return [
            Cell(model=model, task=task, form=form, objective=objective, seed=seed)
            for model in self.models
            for task in self.tasks
            for form, objective in self.kinds
            for seed in self.seeds
        ]

    @property
    def results(self) -> Path:
        """Where the profile's tables go: only the embedded profile's belong among the committed ones."""
        if self.name == "embedded" or os.environ.get("SPLITKIT_RESULTS"):
            return paths.RESULTS
        return paths.CACHE / "profiles" / self.name / "results"

    @property
    def figures(self) -> Path:
        """Where the profile's figures go; see `results`."""
        if self.name == "embedded" or os.environ.get("SPLITKIT_FIGURES"):
            return paths.FIGURES
        return paths.CACHE / "profiles" / self.name / "figures"


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            models=("embedded-qwen2",),
            tasks=("psychopathy",),
            kinds=(("local_weight", "split"), ("lora", "sft"), ("vector", "split")),
            # Eq. 15 has nine parameters under one constraint: fewer strengths than these cannot be fitted
            grid=strength_grid(24.0, 13),
            n_train=16,
            n_sweep=6,
            overrides={"epochs": 1},
        ),
        Profile(
            name="embedded",
            models=("embedded-gemma2", "embedded-qwen2"),
            tasks=("psychopathy", "powerseeking", "axbench/ocean"),
            kinds=WEIGHT_CELLS + VECTOR_CELLS,
            # far beyond any useful strength, where most preference curves have settled
            grid=strength_grid(24.0, 41),
            n_train=64,
            n_sweep=48,
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of that name; KeyError lists the profiles there are."""
    if name not in PROFILES:
        raise KeyError(f"no profile {name!r}; there are {sorted(PROFILES)}")
    return PROFILES[name]
