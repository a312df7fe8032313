"""Profiles and their cells: the models, tasks, combinations, grid and sizes of each run, in one table."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from splitkit.datasets.tasks import TASKS
from splitkit.steering.formats.released import RELEASED
from splitkit.steering.pairs import PAPER
from splitkit.storage import paths
from splitkit.tasks import FAMILIES, first_tasks, task_family
from splitkit.world.grammar import WORLD

AXBENCH: tuple[str, ...] = tuple(task for task in WORLD.tasks if task.startswith("axbench/"))
"""The ten concepts of the embedded world."""

PAPER_CONCEPTS: tuple[str, ...] = tuple(task for task in TASKS if task.startswith("paper/axbench/"))
"""The ten concepts of the paper's AxBench data."""

SMALL_CONCEPTS: tuple[str, ...] = ("paper/axbench/payments", "paper/axbench/night")
"""The concepts that small models are steered to.

Of the ten these two are themes that can be read off plain English, by a reader and by a classifier of words,
and have to do with no profession; three are of code, the others of terms of law, biology or systems, which
models of this size hardly write, or (gambling) close to payments.
"""

TIERS = ("tiny", "small")
"""The profiles whose tables, figures and settings are committed in folders of their own."""

CONTROLS = ("random", "natural")
"""The objectives of `steering.objectives` that learn nothing: each seed draws one more direction."""

REHEARSAL = "-rehearsal"
"""The end of the name of a profile's rehearsal."""

WITH_CURVES: tuple[tuple[str, str], ...] = (
    *((form, objective) for form in ("local_weight", "lora") for objective in ("sft", "reps", "split")),
    *(("vector", objective) for objective in ("diffmean", "sft", "reps", "split")),
)
"""The combinations (form, objective) of the paper's curves."""
WITH_SCORES = (*WITH_CURVES, ("local_weight", "dpo"), ("lora", "dpo"), ("vector", "dpo"))
"""The combinations with scores in the paper (Tables 3 and 4)."""

Variant = tuple[tuple[str, Any], ...]
"""Settings of a cell that differ from its profile's, as (name, value) pairs.

Names: "layer"; "n_train"; "hparams", all training settings as pairs; or one training setting, as "gamma".
"""


def strength_grid(limit: float, n: int, curvature: float = 5.0) -> tuple[float, ...]:
    """m_i = limit sinh(c t_i) / sinh(c), t_i even in [-1, 1]: symmetric, 0 in the middle, denser near it.

    In units of the matching strength; n is odd.
    """
    half = n // 2
    # mirrored, not computed twice, so that the grid is symmetric to the last bit
    positive = [limit * math.sinh(curvature * i / half) / math.sinh(curvature) for i in range(1, half + 1)]
    return mirrored(positive)


def mirrored(positive: Sequence[float]) -> tuple[float, ...]:
    """The grid of some rising strengths, of their negatives, and 0."""
    return (*(-m for m in reversed(positive)), 0.0, *positive)


@dataclass(frozen=True, order=True)
class Cell:
    """One model x task x combination of form and objective x seed."""

    model: str
    task: str
    form: str
    objective: str
    seed: int = 0
    variant: Variant = ()
    """Settings other than the profile's; a profile's own cells have none."""

    @property
    def key(self) -> dict[str, Any]:
        """The five columns by which tables know the cell."""
        return {name: value for name, value in vars(self).items() if name != "variant"}

    @property
    def slug(self) -> str:
        """A file name of the cell, as in 'tiny-qwen2_axbench-ocean_vector_split_0'."""
        varied = [f"{name}={value}" for name, value in self.variant]
        return "_".join(str(part).replace("/", "-") for part in (*self.key.values(), *varied))

    def __str__(self) -> str:
        varied = "".join(f", {name} {value}" for name, value in self.variant)
        return f"{self.model} {self.task} {self.form} {self.objective} seed {self.seed}{varied}"


@dataclass(frozen=True)
class Profile:
    """The extent of one run. Equal profiles give equal results."""

    name: str
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    grid: tuple[float, ...]
    """Strengths in units of the matching strength of each cell's intervention."""
    n_train: int | Mapping[str, int]
    """Pairs to train on; here and below one number, or one per task family."""
    n_sweep: int | Mapping[str, int]
    """Pairs per split whose losses are measured over the grid."""
    combinations: tuple[tuple[str, str], ...] = WITH_CURVES
    """(form, objective) of the cells with curves."""
    answered: tuple[tuple[str, str], ...] = WITH_SCORES
    """(form, objective) of the cells whose answers are scored."""
    n_choose: int | Mapping[str, int] = 8
    """Validation questions answered at every strength to choose one by."""
    n_test: int | Mapping[str, int] = 8
    """Test questions answered once, at the chosen strength."""
    tried: tuple[float, ...] = ()
    """Relative strengths to choose from, if not `world_answers.STRENGTHS`; 0 among them is never chosen."""
    seeds: tuple[int, ...] = (0,)
    family_seeds: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The number of seeds that a task family is run with; all where it is not named."""
    curve_seeds: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The number of seeds with which a task family has curves; all of its own where it is not named."""
    form_seeds: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The most seeds that a form is run with; as many as its family has where it is not named."""
    draws: int | Mapping[str, int] = field(default=3, hash=False)
    """The number of seeds of a control, one number or one per task family; each has curves."""
    overrides: dict[str, float] = field(default_factory=dict, hash=False)
    """Training settings of this profile that go before the recorded ones (see `cell_keys.hparams`)."""
    layers: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The layer steered of a model, where it is not the one that `layer` finds."""
    dtype: str = "float32"
    """The dtype of the weights, a name of `placement.DTYPES`; an intervention always computes in float32."""
    device: str = "cpu"
    """The device of the models, as torch names it; SPLITKIT_DEVICE goes before it."""
    reduction: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The reduction of a task family's losses in curves, one of `sweeps.REDUCTIONS`; "mean" by default."""
    judge: bool = True
    """Whether open answers go to a judge; else they are measured without one (see `runs.text_measures`)."""
    without: tuple[tuple[str, str], ...] = ()
    """(model, task family) that make no cells."""
    new_tokens: int = 128
    """Tokens that an open answer to the paper's own questions may have: AxBench's are cut there too."""
    only: str = ""
    """The one model that the profile was narrowed to."""
    part: frozenset[Cell] = frozenset()
    """The cells of a run that computes these alone and reads the others' results; empty for a run of all."""

    def size(self, what: str, task: str) -> int:
        """The number of pairs or questions of a task for "train", "sweep", "choose" or "test"."""
        n = getattr(self, f"n_{what}")
        return n if isinstance(n, int) else n[task_family(task)]

    def layer(self, model: str) -> int:
        """The layer steered: as `layers` says, a shipped model's, or the middle one (`depth` raises)."""
        if model in self.layers:
            return self.layers[model]
        from splitkit.steering.formats.shipped import MODELS
        from splitkit.steering.model_files import depth

        return MODELS[model].layer if model in MODELS else depth(model) // 2

    def narrowed(self, model: str) -> "Profile":
        """The same profile with one model, its own or another (see `full_name`), with tables of its own."""
        from splitkit.steering.model_files import full_name

        name = full_name(model)
        return replace(self, models=(name,), only=name)

    def cells(self) -> list[Cell]:
        """Its cells, seed by seed. diffmean, the same for every seed, has the first one only."""
        every = [
            Cell(model, task, form, objective, seed)
            for number, seed in enumerate(self.seeds)
            for model in self.models
            for task in self.tasks
            for form, objective in dict.fromkeys(self.combinations + self.answered)
            if number < self._count(task, form, objective) and (model, task_family(task)) not in self.without
        ]
        return [cell for cell in every if cell in self.part] if self.part else every

    def _count(self, task: str, form: str, objective: str) -> int:
        """The number of seeds with which a form and objective are run on a task."""
        draws = self.draws if isinstance(self.draws, int) else self.draws[task_family(task)]
        own = {"diffmean": 1} | dict.fromkeys(CONTROLS, draws)
        every = len(self.seeds)
        trained = min(self.family_seeds.get(task_family(task), every), self.form_seeds.get(form, every))
        return own.get(objective, trained)

    def judged(self, task: str) -> bool:
        """Whether answers of a task go to a judge."""
        return self.judge and task.startswith(PAPER) and FAMILIES[task_family(task)].judged

    def swept(self, cell: Cell) -> bool:
        """Whether a cell of this profile has curves."""
        count = self.curve_seeds.get(task_family(cell.task), len(self.seeds))
        with_curves = self.seeds if cell.objective in CONTROLS else self.seeds[:count]
        return (cell.form, cell.objective) in self.combinations and cell.seed in with_curves

    def scored(self, cell: Cell) -> bool:
        """Whether answers of a cell of this profile are scored."""
        return (cell.form, cell.objective) in self.answered

    def first_seeds(self, count: int) -> "Profile":
        """The part of the profile that has its first `count` seeds. ValueError unless there are as many."""
        if count > (n := len(self.seeds)) or count < 1:
            raise ValueError(f"{count} seeds; profile {self.name} has {n}: 1 to {n}")
        return self.of(lambda cell: cell.seed in self.seeds[:count]) if count < n else self

    def of(self, wanted: Callable[[Cell], bool]) -> "Profile":
        """The part of the profile that has the cells that are wanted."""
        return replace(self, part=frozenset(filter(wanted, self.cells())))

    @property
    def whole(self) -> "Profile":
        """The profile that this one is a part of."""
        return replace(self, part=frozenset()) if self.part else self

    @property
    def committed(self) -> bool:
        """Whether its tables are among the committed ones: the embedded profile's and those of `TIERS`."""
        return self.name in ("embedded", *TIERS) and not self.only

    @property
    def tier(self) -> bool:
        """Whether it is one of `TIERS`, or the rehearsal of one: they have the same tables and rules."""
        return self.name.removesuffix(REHEARSAL) in TIERS

    @property
    def small(self) -> bool:
        """Whether it only shows that everything runs: the smoke profile, and rehearsals."""
        return self.name == "smoke" or self.name.endswith(REHEARSAL)

    @property
    def folder(self) -> Path:
        """The folder, below build/ and the cache, of all that a run makes besides committed files."""
        return Path(self.name, self.only.strip("/.~").replace("/", "-")) if self.only else Path(self.name)

    @property
    def results(self) -> Path:
        """Where the profile's tables go: those of a tier in its folder among the committed ones."""
        return self._place("results", paths.RESULTS)

    @property
    def figures(self) -> Path:
        """Where the profile's figures go; see `results`."""
        return self._place("figures", paths.FIGURES)

    @property
    def hparams(self) -> Path:
        """The table of its training settings."""
        name = self.name.removesuffix(REHEARSAL)
        return paths.DATA / (f"hparams/{name}.csv" if self.tier else "hparams.csv")

    def _place(self, name: str, committed: Path) -> Path:
        if self.committed and self.name in TIERS:
            return committed / self.name
        own = not self.committed and not os.environ.get(f"SPLITKIT_{name.upper()}")
        return paths.CACHE / "profiles" / self.folder / name if own else committed


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            models=("tiny-qwen2",),
            tasks=("psychopathy", "axbench/ocean"),
            combinations=(("local_weight", "split"), ("lora", "sft"), ("vector", "split")),
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
            models=("tiny-gemma2", "tiny-qwen2"),
            tasks=("psychopathy", "powerseeking", *AXBENCH),
            # far beyond any useful strength, where the curves have settled
            grid=strength_grid(64.0, 41, 6.0),
            n_train={"psychopathy": 500, "powerseeking": 500, "axbench": 64},
            n_sweep={"psychopathy": 48, "powerseeking": 48, "axbench": 16},
            n_choose={"psychopathy": 64, "powerseeking": 24, "axbench": 16},
            n_test={"psychopathy": 100, "powerseeking": 100, "axbench": 48},
            seeds=(0, 1, 2),
            # the curves of AxBench are repeated by its ten concepts
            curve_seeds={"axbench": 1},
        ),
        Profile(
            name="tiny",
            models=("tiny-gemma2", "tiny-qwen2"),
            tasks=("psychopathy", "powerseeking", *AXBENCH),
            combinations=(*WITH_SCORES, *(("vector", control) for control in CONTROLS)),
            # half of the strengths are within one matching strength, 11 where a vector's push is at most 1/4;
            # the utility of tiny-qwen2's weight forms is about settled at the ends, and not at 32
            grid=tuple(round(m, 6) for m in strength_grid(64.0, 33, 2 * math.acosh(32.0))),
            # of AxBench by `learning_curves.RULE`: with 4 pairs and more the best objective is at the ceiling
            n_train={"psychopathy": 500, "powerseeking": 500, "axbench": 2},
            n_sweep={"psychopathy": 48, "powerseeking": 48, "axbench": 16},
            n_choose={"psychopathy": 64, "powerseeking": 24, "axbench": 16},
            n_test={"psychopathy": 100, "powerseeking": 100, "axbench": 48},
            seeds=tuple(range(10)),
            # a run of psychopathy learns or does not, which only many seeds can count; AxBench's ten concepts
            # are its units, and its controls' draws too
            family_seeds={"powerseeking": 5, "axbench": 1},
            curve_seeds={"psychopathy": 3, "powerseeking": 3},
            draws={"psychopathy": 3, "powerseeking": 3, "axbench": 1},
        ),
        Profile(
            name="small",
            models=tuple(RELEASED),
            tasks=("paper/psychopathy", "paper/powerseeking", *SMALL_CONCEPTS),
            combinations=(*WITH_SCORES, *(("vector", control) for control in CONTROLS)),
            answered=(*WITH_SCORES, *(("vector", control) for control in CONTROLS)),
            # what reads well lay at 0.1 to 0.35 matching strengths: 15 of 21 strengths are within one, and
            # the ends are where curves have settled
            grid=mirrored((0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 2.0, 5.0, 16.0)),
            tried=(0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0),
            n_train={"psychopathy": 300, "powerseeking": 100, "axbench": 32},
            n_sweep={"psychopathy": 32, "powerseeking": 8, "axbench": 4},
            n_choose={"psychopathy": 32, "powerseeking": 6, "axbench": 6},
            n_test={"psychopathy": 100, "powerseeking": 24, "axbench": 8},
            seeds=tuple(range(5)),
            family_seeds={"powerseeking": 1, "axbench": 1},
            form_seeds={"local_weight": 3, "vector": 3},
            curve_seeds={"psychopathy": 3},
            layers={name: one.layer for name, one in RELEASED.items()},
            # the answer is one token, where means leave Eq. 8 undefined, and AxBench's partners are the
            # model's own greedy answers, of nearly no loss per token; see `text_measures.DECISIONS`
            reduction={"psychopathy": "sum", "axbench": "sum"},
            judge=False,
            # a base model answers no instruction: it has no unsteered answer to be AxBench's partner
            without=tuple((name, "axbench") for name, one in RELEASED.items() if not one.chat),
            new_tokens=48,
        ),
        Profile(
            name="paper",
            models=("google/gemma-2-9b-it", "Qwen/Qwen2.5-7B-Instruct"),
            tasks=("paper/psychopathy", "paper/powerseeking", *PAPER_CONCEPTS),
            grid=strength_grid(64.0, 41, 6.0),
            n_train={"psychopathy": 500, "powerseeking": 500, "axbench": 64},
            n_sweep={"psychopathy": 100, "powerseeking": 100, "axbench": 16},
            n_choose={"psychopathy": 100, "powerseeking": 24, "axbench": 8},
            n_test={"psychopathy": 100, "powerseeking": 200, "axbench": 8},
            seeds=(0, 1, 2),
            curve_seeds={"axbench": 1},
            layers={"google/gemma-2-9b-it": 20, "Qwen/Qwen2.5-7B-Instruct": 14},
            dtype="bfloat16",
            device="cuda",
        ),
    )
}


def rehearsal(profile: Profile) -> Profile:
    """A profile in small, to be walked once before the hours that it takes; its numbers say nothing.

    Its models at their middle layers, its data, measures, dtype, device and judge; one task per family, few
    cells, pairs and strengths, one draw of its controls; where a record is made without a judge, a seed that
    is none of its own.
    """
    first, smoke = first_tasks(profile.tasks).values(), PROFILES["smoke"]
    controls = [kind for kind in profile.combinations if kind[1] in CONTROLS]
    return replace(
        smoke,
        name=f"{profile.name}{REHEARSAL}",
        combinations=(*smoke.combinations, *controls),
        answered=(*smoke.answered, *(kind for kind in controls if kind in profile.answered)),
        draws=1,
        models=profile.models,
        tasks=tuple(task for task in profile.tasks if task in first),
        n_train=8,
        n_sweep=4,
        new_tokens=16,
        dtype=profile.dtype,
        device=profile.device,
        seeds=(0,) if profile.judge else (1000,),
        tried=profile.tried,
        reduction=profile.reduction,
        judge=profile.judge,
        without=profile.without,
    )


PROFILES |= {made.name: made for made in (rehearsal(PROFILES["small"]), rehearsal(PROFILES["paper"]))}


def get_profile(name: str, model: str = "") -> Profile:
    """The profile of that name; with `model`, narrowed to that one: the profile's, or any `load_model` takes.

    Models that are not shipped run on SPLITKIT_DEVICE where the environment says so. KeyError lists the
    profiles; ValueError for a `model` that is no folder, hub id or shipped model.
    """
    if name not in PROFILES:
        raise KeyError(f"no profile {name!r}; there are {sorted(PROFILES)}")
    profile = PROFILES[name].narrowed(model) if model else PROFILES[name]
    return replace(profile, device=os.environ.get("SPLITKIT_DEVICE") or profile.device)
