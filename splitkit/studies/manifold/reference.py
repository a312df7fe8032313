"""References against which the cells of one model, and of one model and task, are measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.runs import answers
from splitkit.runs.cells import own_threads
from splitkit.runs.profiles import CONTROLS, Profile
from splitkit.steering.interventions import Intervention
from splitkit.steering.objectives import random_direction
from splitkit.steering.pairs import PAPER
from splitkit.studies.manifold.activations import (
    SITES,
    Dialogue,
    RecordedPairs,
    corrupted,
    natural_activations,
)
from splitkit.studies.manifold.directions import gradients, probe, probe_accuracy, random_directions
from splitkit.studies.manifold.estimators import Manifold, fit_manifold
from splitkit.world import tasks

N_NATURAL, N_HELD_OUT = 300, 100
"""Dialogues behind a manifold and behind its unit; an answer has about 30 tokens."""
N_PAIRS = 12
"""Test pairs whose answers are steered."""
N_AXES = 32
"""Training pairs behind the gradients and the mean dh."""
N_CONTROLS = {"psychopathy": 4, "powerseeking": 4, "axbench": 1}
"""Vectors of each kind of control, by task family: AxBench has ten tasks with the same vectors in each."""
N_CONTROL_PAIRS = 16
"""Test pairs behind the utility of controls."""


@dataclass(frozen=True)
class Nature:
    """Natural activations of a model, their manifolds, and a probe of valid text; its cells share them."""

    natural: Float[np.ndarray, "token hidden"]
    """At the steered layer."""
    manifolds: dict[str, Manifold]
    probe: Float[np.ndarray, " hidden"]
    accuracy: float

    def controls(self, layer: int, digest: str, count: int) -> list[Intervention]:
        """`count` random directions, and as many with natural covariance, as vectors of length 1."""
        covariance = np.cov(self.natural.astype(float), rowvar=False)
        made, size = [], len(covariance)
        for number in range(count):
            rng = np.random.default_rng(number)
            drawn = [random_direction(size, rng)]
            along = rng.multivariate_normal(np.zeros(size), covariance, method="eigh")
            drawn.append(along / np.linalg.norm(along))
            for objective, vector in zip(CONTROLS, drawn, strict=True):
                parameters = {"vector": torch.tensor(vector, dtype=torch.float32)}
                made.append(Intervention("vector", objective, layer, parameters, digest, {"seed": number}))
        return made


def nature(model_name: str, profile: Profile) -> Nature:
    """Natural activations of a model, their manifolds, and a probe trained on them."""
    with own_threads():
        model, tokenizer = answers.load(profile, model_name)
        layer = profile.layer(model_name)

        def activations(dialogues: Sequence[Dialogue]) -> dict[str, np.ndarray]:
            return natural_activations(model, tokenizer, dialogues, layer)

        texts = _texts(profile, model, tokenizer)
        found = {kind: activations(rows) for kind, rows in texts.items()}
        broken = {kind: activations(corrupted(rows))["layer"] for kind, rows in texts.items()}
    manifolds = {site: fit_manifold(found["natural"][site], found["held_out"][site]) for site in SITES}
    natural = found["natural"]["layer"]
    w, threshold = probe(natural, broken["natural"])
    return Nature(
        natural, manifolds, w, probe_accuracy(w, threshold, found["held_out"]["layer"], broken["held_out"])
    )


def layer_manifold(model_name: str, profile: Profile) -> Manifold:
    """The manifold of `nature` at the steered layer, without the rest: the later layers do not run."""
    with own_threads():
        model, tokenizer = answers.load(profile, model_name)
        layer = profile.layer(model_name)
        texts = _texts(profile, model, tokenizer)
        found = {
            kind: natural_activations(model, tokenizer, rows, layer, SITES[:1])[SITES[0]]
            for kind, rows in texts.items()
        }
    return fit_manifold(found["natural"], found["held_out"])


class Reference:
    """Pairs run once up to the steered layer, and axes: all cells of one model and task share them."""

    def __init__(self, model_name: str, task: str, profile: Profile, nature: Nature) -> None:
        self.model, self.tokenizer = loaded = answers.load(profile, model_name)
        self.layer, self.nature = profile.layer(model_name), nature
        self.train = answers.pairs(profile, task, "train", *loaded)[:N_AXES]
        count = min(profile.size("sweep", task), N_CONTROL_PAIRS)
        test = answers.pairs(profile, task, "test", *loaded)[:count]
        self.trained_on, self.tested_on, self.controlled_on = (
            RecordedPairs(self.model, self.tokenizer, pairs, self.layer)
            for pairs in (self.train, test[:N_PAIRS], test)
        )
        self.axes = gradients(self.model, self.tokenizer, self.train, self.layer) | {"probe": nature.probe}
        self.random = random_directions(nature.natural)

    def projections(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """(x - natural mean) g / natural standard deviation along g, for the gradients of both log-odds."""
        found = {}
        for name in ("preference", "utility"):
            along = self.nature.natural @ self.axes[name]
            found[f"{name}_axis"] = (x @ self.axes[name] - along.mean()) / along.std()
        return found


def _texts(
    profile: Profile, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[Dialogue]]:
    """Dialogues that nobody steered: the world's own, or both answers to the paper's training questions.

    The world's questions of the train split are natural, those of the validation split held out. The paper's,
    of all tasks mixed, are natural in three of four cases, else held out.
    """
    own = [task for task in profile.tasks if task.startswith(PAPER)]
    if not own:
        return {"natural": _dialogues("train", N_NATURAL), "held_out": _dialogues("validation", N_HELD_OUT)}
    rows: list[Dialogue] = []
    for task in own:
        pairs = answers.pairs(profile, task, "train", model, tokenizer)[: profile.size("train", task)]
        rows += [(pair.question, answer) for pair in pairs for answer in (pair.positive, pair.negative)]
    Random("natural").shuffle(rows)
    rows = rows[: N_NATURAL + N_HELD_OUT]
    border = len(rows) * N_NATURAL // (N_NATURAL + N_HELD_OUT)
    return {"natural": rows[:border], "held_out": rows[border:]}


def _dialogues(split: str, count: int) -> list[Dialogue]:
    return list(islice(tasks.dialogues(Random(f"natural/{split}"), split), count))
