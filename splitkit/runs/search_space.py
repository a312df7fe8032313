"""The settings that a search tries: one space, one number of trials and one start for every objective.

Trial 0 is the official row, mirrored pairs or not as there. The k-th of the others has the same learning rate
and the same choice of mirrored pairs for all objectives of a form; each objective's own weights are drawn
besides. Factors and dropout are the official row's throughout.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import Any

import pandas as pd

from splitkit.datasets.splits import SIZES
from splitkit.paper import official_settings
from splitkit.runs.profiles import Profile
from splitkit.steering.pairs import PAPER
from splitkit.tasks import task_family

FORMS = ("local_weight", "lora", "vector")
KEYS = ["model", "task_family", "form", "objective"]
"""The columns that name a budget: what a search chooses one row of settings for."""

SEEDS = (1000, 1001, 1002)
"""The seeds of order, factors and dropout in a trial: none of those that results are reported for."""

SIDES = ("negated", "none")
"""With mirrored pairs, or without; DPO, which draws one direction at each step, has neither."""

OWN: dict[str, dict[str, tuple[float, ...]]] = {
    "sft": {},
    "reps": {"beta": (0.5, 1.0, 2.0), "simpo_scaler": (0.5, 1.0, 2.0)},
    "dpo": {"beta": (0.03, 0.1, 0.3, 1.0)},
    "split": {"lambda_n": (0.25, 0.5, 1.0), "gamma": (2.0, 5.0, 10.0), "theta": (0.3, 0.5, 1.0)},
}
"""The weights of an objective's own loss."""

BATCH = 8
"""Pairs of a training step, or all there are."""


@dataclass(frozen=True)
class Plan:
    """The extent of a profile's search.

    trials: settings tried per budget. rates: the learning rates of each form. steps: of a training on a task
    family, whatever the number of pairs. finals: the number of seeds of the two best trials. searched: the
    families whose settings are searched, all of the profile for none; the others take those of the first,
    with their own number of steps. pairs: the most that a trial trains on, with as many passes.
    """

    trials: int
    rates: Mapping[str, tuple[float, ...]]
    steps: Mapping[str, int]
    finals: int = len(SEEDS)
    searched: tuple[str, ...] = ()
    pairs: Mapping[str, int] = field(default_factory=dict)


PLANS: dict[str, Plan] = {
    "tiny": Plan(
        trials=8,
        rates={
            "local_weight": (0.003, 0.01, 0.03, 0.1),
            "lora": (0.01, 0.025, 0.05, 0.1),
            "vector": (0.02, 0.04, 0.08, 0.16),
        },
        # two passes over 500 pairs, one over 500, four over 64
        steps={"psychopathy": 126, "powerseeking": 63, "axbench": 32},
    ),
    # Lower rates: |v| of a trained vector is about rate x steps x sqrt(width), and in a trial on real models
    # the official rates were far beyond what text survives. A training takes minutes, hence fewer of them.
    "small": Plan(
        trials=4,
        rates={
            "local_weight": (0.001, 0.003, 0.01, 0.03),
            "lora": (0.0025, 0.005, 0.01, 0.02),
            "vector": (0.005, 0.01, 0.02, 0.04),
        },
        # one pass over 300 and 100 pairs, two over 32
        steps={"psychopathy": 38, "powerseeking": 13, "axbench": 8},
        finals=1,
        # an open task's training costs several times as much: 48 of them, on three models, would be days
        searched=("psychopathy",),
        pairs={"psychopathy": 150},
    ),
}
"""The searches there are, by the profile's name."""


def plan_of(profile: Profile) -> Plan:
    """The plan of a profile's search; ValueError names the profiles that have one."""
    if profile.name not in PLANS:
        raise ValueError(
            f"no settings are searched for profile {profile.name!r}; they are for {', '.join(PLANS)}."
        )
    return PLANS[profile.name]


def families(profile: Profile) -> list[str]:
    """The task families of a profile whose settings are searched, in its order."""
    there = dict.fromkeys(map(task_family, profile.tasks))
    return [family for family in there if family in (plan_of(profile).searched or there)]


def trained_on(profile: Profile, task: str) -> int:
    """The number of pairs that a trial trains on: the profile's, but for the plan's `pairs` and AxBench's.

    A paper's concept has 64 pairs and no validation split: a trial there trains on fewer, so that what it is
    judged by is not what it learned.
    """
    family = task_family(task)
    n = profile.size("train", task)
    if profile.name in PLANS:
        n = min(n, PLANS[profile.name].pairs.get(family, n))
    if not task.startswith(PAPER) or family != "axbench":
        return n
    return min(n, SIZES["axbench"].train - profile.size("choose", task))


def with_other_families(profile: Profile, chosen: pd.DataFrame) -> pd.DataFrame:
    """Rows of settings, and those of the families that are not searched: the first searched one's.

    Epochs and batch size are the family's own, by the plan's number of steps.
    """
    (first, *_), parts = families(profile), [chosen]
    for family in dict.fromkeys(map(task_family, profile.tasks)):
        if family not in families(profile):
            rows = chosen[chosen["task_family"] == first].assign(task_family=family)
            for index, row in rows.iterrows():
                named = (profile, row["model"], row["form"], row["objective"], family)
                own = start(*named)
                rows.loc[index, ["epochs", "batch_size"]] = own["epochs"], own["batch_size"]
            parts.append(rows)
    return pd.concat(parts, ignore_index=True)


def search_tasks(profile: Profile, family: str) -> tuple[str, ...]:
    """The task that each of `SEEDS` trains on: the family's first ones, over again where there are fewer."""
    own = [task for task in profile.tasks if task_family(task) == family][: len(SEEDS)]
    return tuple(own[number % len(own)] for number in range(len(SEEDS)))


def start(
    profile: Profile, model: str, form: str, objective: str, family: str, n_train: int | None = None
) -> dict[str, Any]:
    """The first trial: the official row for the model's counterpart, with the plan's number of steps.

    A weight that a row leaves out, and what DPO has no row for, is the objective's default (DPO's learning
    rate is RePS's). `n_train` pairs, or the profile's, make no other number of steps but by rounding. What
    the profile overrides goes before all, here as in its cells.
    """
    from splitkit.steering.objectives import OBJECTIVES

    plan = plan_of(profile)
    n = n_train or profile.size("train", family)
    batch = min(BATCH, n)
    weights, row = OBJECTIVES[objective].defaults, official_settings(model, form, objective, family)
    epochs = max(1, round(plan.steps[family] / -(-n // batch)))
    return weights | row | {"epochs": epochs, "batch_size": batch} | profile.overrides


def space(profile: Profile, model: str, form: str, objective: str, family: str) -> list[dict[str, Any]]:
    """Every setting that a trial can have: the official one first, then those that are drawn from."""
    first, own = start(profile, model, form, objective, family), OWN[objective]
    sides = ("drawn",) if objective == "dpo" else SIDES
    drawn = [
        first | {"lr": rate, "negative": side} | dict(zip(own, weights, strict=True))
        for rate, side, *weights in product(plan_of(profile).rates[form], sides, *own.values())
    ]
    return [first, *(settings for settings in drawn if settings != first)]


def trials(profile: Profile, model: str, form: str, objective: str, family: str) -> list[dict[str, Any]]:
    """The settings to try: the official row, then drawn ones of the whole `space`, no two alike.

    Learning rate and mirrored pairs are drawn together, without repetition, for all objectives of a form at
    once. SFT has nothing else to draw, so that its official pair of the two, where it is among them, is not
    drawn again for anyone.
    """
    plan, every = plan_of(profile), space(profile, model, form, objective, family)
    sft = start(profile, model, form, "sft", family)
    common = [both for both in product(plan.rates[form], SIDES) if both != (sft["lr"], sft["negative"])]
    own = Random(f"{model} {form} {family} {objective}")
    found = every[:1]
    for rate, side in Random(f"{model} {form} {family}").sample(common, plan.trials - 1):
        wanted = (rate, "drawn" if objective == "dpo" else side)
        left = [one for one in every if (one["lr"], one["negative"]) == wanted and one not in found]
        found.append(own.choice(left))
    return found
