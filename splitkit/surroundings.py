"""Surroundings: what the cells of one model, and of one model and task, are measured against.

Natural texts are the world's own dialogues: questions of the train split estimate the manifold, those of the
validation split its unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

import numpy as np
from jaxtyping import Float

from splitkit import corpus
from splitkit.activations import SITES, Dialogue, RecordedPairs, corrupted, natural_activations
from splitkit.cells import one_thread
from splitkit.directions import gradients, probe, probe_accuracy, random_directions
from splitkit.interventions import Intervention
from splitkit.manifold import Manifold, fit_manifold
from splitkit.models import MODELS, load_model
from splitkit.pairs import load_pairs
from splitkit.relation import CONTROLS

N_NATURAL, N_HELD_OUT = 300, 100
"""Dialogues; an answer has about 30 tokens."""
N_PAIRS = 12
"""Test pairs whose answers are steered."""
N_AXES = 32
"""Training pairs behind the gradients and the mean dh."""
N_CONTROLS = {"psychopathy": 4, "powerseeking": 4, "axbench": 1}
"""Vectors of each kind of control, by task family: AxBench has ten tasks, the same two vectors in each."""
N_CONTROL_PAIRS = 16
"""Test pairs behind the utility of controls."""


@dataclass(frozen=True)
class Nature:
    """What all cells of one model share: natural activations, their manifolds, a probe of valid text."""

    natural: Float[np.ndarray, "token hidden"]
    """At the steered layer."""
    manifolds: dict[str, Manifold]
    probe: Float[np.ndarray, " hidden"]
    accuracy: float

    def controls(self, layer: int, digest: str, count: int) -> list[Intervention]:
        """Vectors that were not learned: `count` random directions, and as many with natural covariance.

        All of length 1.
        """
        covariance = np.cov(self.natural.astype(float), rowvar=False)
        made = []
        for seed in range(count):
            rng = np.random.default_rng(seed)
            size = len(covariance)
            drawn = (
                rng.standard_normal(size),
                rng.multivariate_normal(np.zeros(size), covariance, method="eigh"),
            )
            for objective, vector in zip(CONTROLS, drawn, strict=True):
                made.append(_vector(vector, objective, layer, digest, seed))
        return made


def nature(model_name: str) -> Nature:
    """Natural activations of a model, and what is estimated from them."""
    with one_thread():
        model, tokenizer = load_model(model_name)
        layer = MODELS[model_name].layer

        def activations(dialogues: Sequence[Dialogue]) -> dict[str, np.ndarray]:
            return natural_activations(model, tokenizer, dialogues, layer)

        texts = {"natural": _dialogues("train", N_NATURAL), "held_out": _dialogues("validation", N_HELD_OUT)}
        found = {kind: activations(rows) for kind, rows in texts.items()}
        broken = {kind: activations(corrupted(rows))["layer"] for kind, rows in texts.items()}
    manifolds = {site: fit_manifold(found["natural"][site], found["held_out"][site]) for site in SITES}
    natural = found["natural"]["layer"]
    w, threshold = probe(natural, broken["natural"])
    return Nature(
        natural, manifolds, w, probe_accuracy(w, threshold, found["held_out"]["layer"], broken["held_out"])
    )


class Surroundings:
    """What all cells of one model and task share: pairs run once up to the steered layer, and axes."""

    def __init__(self, model_name: str, task: str, n_pairs: int, nature: Nature) -> None:
        self.model, self.tokenizer = load_model(model_name)
        self.layer, self.nature = MODELS[model_name].layer, nature
        self.train = load_pairs(task, split="train")[:N_AXES]
        test = load_pairs(task, split="test")[: min(n_pairs, N_CONTROL_PAIRS)]
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


def _dialogues(split: str, count: int) -> list[Dialogue]:
    return list(islice(corpus.dialogues(Random(f"natural/{split}"), split), count))


def _vector(vector: np.ndarray, objective: str, layer: int, digest: str, seed: int) -> Intervention:
    import torch

    parameters = {"vector": torch.tensor(vector / np.linalg.norm(vector), dtype=torch.float32)}
    return Intervention("vector", objective, layer, parameters, digest, {"seed": seed})
