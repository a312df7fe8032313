"""splitkit: the shared parts of a reproducible companion to "Why Steering Works" (arXiv 2602.02343).

`import splitkit as sk` is instant: a public name loads its module, and torch or pandas with it, at first use.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitkit.cells import Cell, compute_cells
    from splitkit.curvetables import curves
    from splitkit.decay import fit_preference, fit_utility, mean_curve
    from splitkit.interventions import Intervention, load_intervention
    from splitkit.logodds import preference_log_odds, utility_log_odds
    from splitkit.matching import matching_strength
    from splitkit.models import MODELS, load_model, model_digest
    from splitkit.objectives import split_loss
    from splitkit.operating import operating_point
    from splitkit.pairs import Pair, load_pairs
    from splitkit.profiles import PROFILES, get_profile
    from splitkit.sweeps import sweep
    from splitkit.trainer import TrainConfig
    from splitkit.training import train

__version__ = "0.1.0"

# Progress bars are text here; what transformers' bars would rather have installed is no news in a notebook.
warnings.filterwarnings("ignore", message="IProgress not found")
# A worker process whose memory has grown is replaced by a new one; no result depends on that.
warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")

_HOME: dict[str, str] = {
    "MODELS": "models",
    "load_model": "models",
    "model_digest": "models",
    "Pair": "pairs",
    "load_pairs": "pairs",
    "Intervention": "interventions",
    "load_intervention": "interventions",
    "train": "training",
    "TrainConfig": "trainer",
    "sweep": "sweeps",
    "matching_strength": "matching",
    "preference_log_odds": "logodds",
    "utility_log_odds": "logodds",
    "split_loss": "objectives",
    "mean_curve": "decay",
    "fit_preference": "decay",
    "fit_utility": "decay",
    "operating_point": "operating",
    "PROFILES": "profiles",
    "get_profile": "profiles",
    "Cell": "cells",
    "compute_cells": "cells",
    "curves": "curvetables",
}

__all__ = [
    "MODELS",
    "PROFILES",
    "Cell",
    "Intervention",
    "Pair",
    "TrainConfig",
    "compute_cells",
    "curves",
    "fit_preference",
    "fit_utility",
    "get_profile",
    "load_intervention",
    "load_model",
    "load_pairs",
    "matching_strength",
    "mean_curve",
    "model_digest",
    "operating_point",
    "preference_log_odds",
    "split_loss",
    "sweep",
    "train",
    "utility_log_odds",
]


def __getattr__(name: str) -> Any:
    """Load a public name at first use (PEP 562); any other name is an error that lists the public ones."""
    if name not in _HOME:
        raise AttributeError(f"splitkit has no {name!r}; its public names: {', '.join(__all__)}")
    value = getattr(import_module(f"splitkit.{_HOME[name]}"), name)
    globals()[name] = value  # asked once per name
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
