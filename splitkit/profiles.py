"""What a run computes: models, tasks, cells, grid and sizes, one entry per profile in one table."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from splitkit import paths
from splitkit.world import WORLD

WEIGHT_CELLS: tuple[tuple[str, str], ...] = tuple(
    (form, objective) for form in ("local_weight", "lora") for objective in ("sft", "reps", "split")
)
DPO_CELLS: tuple[tuple[str, str], ...] = tuple((form, "dpo") for form in ("local_weight", "lora", "vector"))
"""The paper has scores of DPO (Table 4) and no curves."""
VECTOR_CELLS: tuple[tuple[str, str], ...] = tuple(
    ("vector", objective) for objective in ("diffmean", "sft", "reps", "split")
)


AXBENCH: tuple[str, ...] = tuple(task for task in WORLD.tasks if task.startswith("axbench/"))
"""The ten concepts of the embedded world."""


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
    n_train: int | Mapping[str, int]
    """Pairs to train on; here and below one number, or one per task family."""
    n_sweep: int | Mapping[str, int]
    """Pairs per split whose losses are measured over the grid."""
    n_choose: int | Mapping[str, int] = 8
    """Validation questions answered at every strength to choose one by."""
    n_test: int | Mapping[str, int] = 8
    """Test questions answered once, at the chosen strength."""
    answered: tuple[tuple[str, str], ...] = ()
    """(form, objective) of the cells whose answers are scored."""
    seeds: tuple[int, ...] = (0,)
    curve_seeds: Mapping[str, int] = field(default_factory=dict, hash=False)
    """With how many of the seeds a task family has curves; with all where it is not named."""
    overrides: dict[str, float] = field(default_factory=dict, hash=False)
    """Training settings of this profile that go before those of data/hparams.csv."""

    def size(self, what: str, task: str) -> int:
        """How many pairs or questions of a task there are for "train", "sweep", "choose" or "test"."""
        n = getattr(self, f"n_{what}")
        return n if isinstance(n, int) else n[task.partition("/")[0]]

    def cells(self) -> list[Cell]:
        """Every cell of the profile, seed by seed. diffmean is a closed form and has the first seed only."""
        return [
            Cell(model=model, task=task, form=form, objective=objective, seed=seed)
            for number, seed in enumerate(self.seeds)
            for model in self.models
            for task in self.tasks
            for form, objective in dict.fromkeys(self.kinds + self.answered)
            if objective != "diffmean" or number == 0
        ]

    def swept(self, cell: Cell) -> bool:
        """Whether a cell of this profile has curves."""
        family = cell.task.partition("/")[0]
        with_curves = self.seeds[: self.curve_seeds.get(family, len(self.seeds))]
        return (cell.form, cell.objective) in self.kinds and cell.seed in with_curves

    def scored(self, cell: Cell) -> bool:
        """Whether answers of a cell of this profile are scored."""
        return (cell.form, cell.objective) in self.answered

    def first_seeds(self, count: int) -> "Profile":
        """The same profile with its first `count` seeds. ValueError unless there are as many."""
        if not 1 <= count <= len(self.seeds):
            raise ValueError(
                f"{count} seeds; profile {self.name} has {len(self.seeds)}: 1 to {len(self.seeds)}"
            )
        return replace(self, seeds=self.seeds[:count])

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
            tasks=("psychopathy", "axbench/ocean"),
            kinds=(("local_weight", "split"), ("lora", "sft"), ("vector", "split")),
            # Eq. 15 has nine parameters under one constraint: fewer strengths than these cannot be fitted
            grid=strength_grid(64.0, 13, 6.0),
            n_train=16,
            n_sweep=6,
            n_choose=2,
            n_test=4,
            answered=(("lora", "sft"), ("vector", "diffmean"), ("vector", "split"), ("vector", "dpo")),
            overrides={"epochs": 1},
        ),
        Profile(
            name="embedded",
            models=("embedded-gemma2", "embedded-qwen2"),
            tasks=("psychopathy", "powerseeking", *AXBENCH),
            kinds=WEIGHT_CELLS + VECTOR_CELLS,
            # far beyond any useful strength, where the curves have settled
            grid=strength_grid(64.0, 41, 6.0),
            n_train={"psychopathy": 500, "powerseeking": 500, "axbench": 64},
            n_sweep={"psychopathy": 48, "powerseeking": 48, "axbench": 16},
            n_choose={"psychopathy": 64, "powerseeking": 24, "axbench": 16},
            n_test={"psychopathy": 100, "powerseeking": 100, "axbench": 48},
            answered=WEIGHT_CELLS + VECTOR_CELLS + DPO_CELLS,
            seeds=(0, 1, 2),
            # the curves of AxBench are repeated by its ten concepts
            curve_seeds={"axbench": 1},
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of that name, with its first SPLITKIT_SEEDS seeds where the environment says so.

    KeyError lists the profiles there are.
    """
    if name not in PROFILES:
        raise KeyError(f"no profile {name!r}; there are {sorted(PROFILES)}")
    profile, count = PROFILES[name], os.environ.get("SPLITKIT_SEEDS", "")
    if count and not count.isdigit():
        raise ValueError(f"SPLITKIT_SEEDS is a number of seeds, not {count!r}")
    return profile.first_seeds(min(int(count), len(profile.seeds))) if count else profile
