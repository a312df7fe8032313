"""The layer that the real models are steered at: a scan on validation pairs, 50 to 70 % of the depth."""

import joblib
import pandas as pd

from splitkit.runs.cells import own_threads
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.steering.choosing.layer_scan import scan_layers
from splitkit.studies.layers import psychopathy_task

DEPTH = (0.50, 0.70)
"""The shares of the depth between which a layer is chosen: the paper's are 20 of 42 and 14 of 28."""
TRAIN, HELD_OUT = 64, 32
"""Psychopathy's training pairs of the vectors, and the validation pairs that they are measured on."""


def layers_around(depth: int) -> list[int]:
    """The layers whose output lies within `DEPTH`, from 0."""
    return [layer for layer in range(depth) if DEPTH[0] <= (layer + 1) / depth <= DEPTH[1]]


@kept("layer_scan", tolerance=1e-3, of="itself")
def layer_scan(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """DiffMean at each layer of `layers_around`, on validation pairs of psychopathy.

    One row per model, layer and strength: model, and the columns of `layer_scan.scan_layers`.
    `layer_scan.best_layer` chooses by it; the profile then names the layer.
    """
    parts = joblib.Parallel(n_jobs=jobs)(joblib.delayed(_of_model)(profile, name) for name in profile.models)
    return {"layer_scan": pd.concat(parts, ignore_index=True)}


def _of_model(profile: Profile, name: str) -> pd.DataFrame:
    from splitkit.runs import answers
    from splitkit.steering.model_files import depth

    task = psychopathy_task(profile)
    with own_threads():
        model, tokenizer = answers.load(profile, name)
        pairs = answers.pairs(profile, task, "train", model, tokenizer)[:TRAIN]
        held_out = answers.pairs(profile, task, "validation", model, tokenizer)[:HELD_OUT]
        table = scan_layers(model, tokenizer, pairs, held_out, layers_around(depth(name)))
    table.insert(0, "model", name)
    return table
