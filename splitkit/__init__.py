"""splitkit: the shared parts of a reproducible companion to "Why Steering Works" (arXiv 2602.02343).

`import splitkit as sk` is instant: a public name loads its module, and torch or pandas with it, at first use.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitkit import paper
    from splitkit.curves.decay import fit_preference, fit_utility, mean_curve
    from splitkit.curves.log_odds import preference_log_odds, utility_log_odds
    from splitkit.curves.operating_point import operating_point
    from splitkit.plots.own_data import plot_layers, plot_projection, plot_sweep
    from splitkit.runs.cells import compute_cells
    from splitkit.runs.profiles import PROFILES, Cell, get_profile
    from splitkit.steering.choosing.layer_scan import best_layer, scan_layers
    from splitkit.steering.choosing.readable import readable_strength
    from splitkit.steering.choosing.settings_search import search_settings
    from splitkit.steering.exchange.export import export
    from splitkit.steering.exchange.imports import import_intervention
    from splitkit.steering.exchange.peft_trainer import SplitTrainer
    from splitkit.steering.formats.shipped import MODELS
    from splitkit.steering.generation import answers
    from splitkit.steering.interventions import Intervention, load_intervention
    from splitkit.steering.model_state.digest import model_digest
    from splitkit.steering.models import load_model
    from splitkit.steering.objectives import OBJECTIVES, ObjectiveInputs, split_loss
    from splitkit.steering.own_pairs.checking import check_pairs
    from splitkit.steering.own_pairs.reading import read_pairs
    from splitkit.steering.pairs import Pair
    from splitkit.steering.projection import project
    from splitkit.steering.sweeps import matching_strength, sweep
    from splitkit.steering.trainer import TrainConfig
    from splitkit.steering.training import train
    from splitkit.tasks import first_tasks, load_pairs, task_family

__version__ = "0.1.0"

# Progress bars are text here; what transformers' bars would rather have installed is no news in a notebook.
warnings.filterwarnings("ignore", message="IProgress not found")
# A worker process whose memory has grown is replaced by a new one; no result depends on that.
warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")

_HOME: dict[str, str] = {
    "paper": "paper",
    "MODELS": "steering.formats.shipped",
    "load_model": "steering.models",
    "model_digest": "steering.model_state.digest",
    "Pair": "steering.pairs",
    "read_pairs": "steering.own_pairs.reading",
    "check_pairs": "steering.own_pairs.checking",
    "load_pairs": "tasks",
    "task_family": "tasks",
    "first_tasks": "tasks",
    "Intervention": "steering.interventions",
    "load_intervention": "steering.interventions",
    "export": "steering.exchange.export",
    "import_intervention": "steering.exchange.imports",
    "SplitTrainer": "steering.exchange.peft_trainer",
    "scan_layers": "steering.choosing.layer_scan",
    "best_layer": "steering.choosing.layer_scan",
    "search_settings": "steering.choosing.settings_search",
    "train": "steering.training",
    "TrainConfig": "steering.trainer",
    "OBJECTIVES": "steering.objectives",
    "ObjectiveInputs": "steering.objectives",
    "answers": "steering.generation",
    "sweep": "steering.sweeps",
    "matching_strength": "steering.sweeps",
    "project": "steering.projection",
    "plot_sweep": "plots.own_data",
    "plot_layers": "plots.own_data",
    "plot_projection": "plots.own_data",
    "preference_log_odds": "curves.log_odds",
    "utility_log_odds": "curves.log_odds",
    "split_loss": "steering.objectives",
    "mean_curve": "curves.decay",
    "fit_preference": "curves.decay",
    "fit_utility": "curves.decay",
    "operating_point": "curves.operating_point",
    "readable_strength": "steering.choosing.readable",
    "PROFILES": "runs.profiles",
    "get_profile": "runs.profiles",
    "Cell": "runs.profiles",
    "compute_cells": "runs.cells",
}

__all__ = [
    "MODELS",
    "OBJECTIVES",
    "PROFILES",
    "Cell",
    "Intervention",
    "ObjectiveInputs",
    "Pair",
    "SplitTrainer",
    "TrainConfig",
    "answers",
    "best_layer",
    "check_pairs",
    "compute_cells",
    "export",
    "first_tasks",
    "fit_preference",
    "fit_utility",
    "get_profile",
    "import_intervention",
    "load_intervention",
    "load_model",
    "load_pairs",
    "matching_strength",
    "mean_curve",
    "model_digest",
    "operating_point",
    "paper",
    "plot_layers",
    "plot_projection",
    "plot_sweep",
    "preference_log_odds",
    "project",
    "read_pairs",
    "readable_strength",
    "scan_layers",
    "search_settings",
    "split_loss",
    "sweep",
    "task_family",
    "train",
    "utility_log_odds",
]


def __getattr__(name: str) -> Any:
    """Load a public name at first use (PEP 562); any other name is an error that lists the public ones."""
    if name not in _HOME:
        raise AttributeError(f"splitkit has no {name!r}; its public names: {', '.join(__all__)}")
    module = import_module(f"splitkit.{_HOME[name]}")
    value = module if _HOME[name] == name else getattr(module, name)
    globals()[name] = value  # asked once per name
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
