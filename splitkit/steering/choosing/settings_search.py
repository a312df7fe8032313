"""A small fair search: as many learning rates for every form and objective, judged on held-out pairs."""

import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.curves.operating_point import operating_point
from splitkit.steering.architectures import check_layer
from splitkit.steering.choosing.broken_text import BrokenText
from splitkit.steering.forms import get_form
from splitkit.steering.interventions import Intervention
from splitkit.steering.objectives import CLOSED, get_objective
from splitkit.steering.pairs import Pair, require_pairs
from splitkit.steering.strengths import whole_number
from splitkit.steering.sweeps import UNIT_PAIRS, matching_strength, sweep
from splitkit.steering.trainer import SharedRows, TrainConfig
from splitkit.steering.training import train

RATES = (1.0, 0.4, 2.5, 0.16, 6.25, 0.064, 15.6)
"""Learning rates of the trials, in order, as multiples of the one that `train` takes by itself."""
RELATIVE = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45)
"""The strengths that a trial is judged at, in matching strengths."""


_TRAINED = {item.name for item in fields(TrainConfig)}
_COLUMNS = [
    "form",
    "objective",
    "trial",
    "lr",
    "score",
    "m",
    "m_relative",
    "utility_lost",
    "broken",
    "seconds",
]


@dataclass(frozen=True, repr=False)
class SettingsSearch:
    """best: the settings of the best trial, for `train(model, tokenizer, pairs, **best)`. table: all trials.

    The table has one row per trial, the best first: form, objective, trial, lr (NaN where nothing is
    trained), score (nats of held-out preference gained), m and m_relative (where), utility_lost (nats),
    broken (see `BrokenText`), seconds.
    """

    best: dict[str, Any]
    table: pd.DataFrame

    def __repr__(self) -> str:
        return f"best: {self.best}\n{self.table.round(4).to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>best: {self.best}</p>{self.table.round(4).to_html(index=False)}"


def search_settings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    *,
    forms: Sequence[str] | str = ("vector",),
    objectives: Sequence[str] | str = ("split",),
    layer: int | None = None,
    trials: int = 3,
    tolerance: float = 0.5,
    reduction: str = "mean",
    progress: bool = False,
    **settings: Any,
) -> SettingsSearch:
    """The learning rate, form and objective that gain the most held-out preference within the usable window.

    Every combination of form and objective gets the same trials, with learning rates that are the same
    multiples (1, 0.4, 2.5, ...) of the one that `train` takes by itself; DiffMean and the controls, vectors
    that are not trained, have one. A trial is swept over the same strengths in its own matching strengths;
    its score is the mean preference that `operating_point` gains over m = 0. A trial that breaks text (see
    `train`) or overflows comes after all others. Losses decide, no text is read: read answers of the best.

    Args:
        pairs, held_out: the pairs to train on, and those to choose by, which training must not see.
        forms, objectives: as in `train`; a vector that is not trained goes with the form "vector" alone.
        layer: the layer to steer, the middle one for None.
        trials: learning rates per combination, 1 to 7.
        tolerance: nats of utility that may be lost, as in `operating_point`.
        reduction: of the losses, see `sweep`.
        progress: show a bar of the trials, with the time that is left.
        settings: the other settings of `train`, for all trials alike, as `epochs=4` or `seed=1`.

    Raises:
        ValueError: for no combination, or trials out of range; besides what `train` and `sweep` raise.

    Example:
        >>> import splitkit as sk
        >>> model, tokenizer = sk.load_model("tiny-qwen2")
        >>> pairs = sk.load_pairs("axbench/ocean")
        >>> found = sk.search_settings(model, tokenizer, pairs[:4], pairs[4:6], trials=2, epochs=1)
        >>> iv = sk.train(model, tokenizer, pairs[:4], **found.best)
    """
    trials, layer = whole_number("trials", trials, 1), check_layer(model, layer)
    if trials > len(RATES):
        raise ValueError(f"trials are {len(RATES)} at most, not {trials}.")
    if "lr" in settings or "config" in settings:
        raise ValueError("the learning rate is what is searched: leave out lr and config.")
    forms, objectives = ([one] if isinstance(one, str) else one for one in (forms, objectives))
    combined = [one for one in product(forms, objectives) if one[1] not in CLOSED or one[0] == "vector"]
    if not combined:
        raise ValueError("there is no form and objective to try.")
    for form, objective in combined:
        get_form(form)
        if objective not in CLOSED:
            get_objective(objective)
    pairs, held_out = require_pairs(pairs), require_pairs(held_out)
    work = [(*one, n) for one in combined for n in range(1 if one[1] in CLOSED else trials)]
    shared, rates = SharedRows(), dict[tuple[str, str], float]()
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for form, objective, trial in tqdm(work, disable=not progress, desc="search", unit="trial"):
        own: dict[str, Any] = {"form": form, "objective": objective, "layer": layer, **settings}
        if objective in CLOSED:
            own = {name: value for name, value in own.items() if name not in _TRAINED}
        elif trial:
            own["lr"] = float(f"{rates[form, objective] * RATES[trial]:.3g}")
        start = time.perf_counter()
        row: dict[str, Any] = {"form": form, "objective": objective, "trial": trial}
        row["lr"] = own.get("lr", math.nan)
        try:
            iv, row["broken"] = _trained(model, tokenizer, pairs, shared=shared, **own)
            if objective not in CLOSED:
                row["lr"] = own["lr"] = iv.details["config"]["lr"]
                rates.setdefault((form, objective), own["lr"])
            unit = matching_strength(model, tokenizer, iv, pairs[:UNIT_PAIRS])
            grid = [unit * one for one in RELATIVE]
            row |= _gain(sweep(model, tokenizer, iv, held_out, m=grid, reduction=reduction), unit, tolerance)
        except FloatingPointError:
            if not trial:
                # no rate is known to try others by
                raise
            row |= {"broken": True, "score": math.nan}
        found.append((own, row | {"seconds": round(time.perf_counter() - start, 1)}))
    found.sort(key=lambda one: (one[1]["broken"], -np.nan_to_num(one[1]["score"], nan=-math.inf)))
    return SettingsSearch(found[0][0], pd.DataFrame([row for _, row in found])[_COLUMNS])


def _trained(model: Any, tokenizer: Any, pairs: Sequence[Pair], **own: Any) -> tuple[Intervention, bool]:
    """A training, and whether it says that it broke text; what else it warns of is warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        iv = train(model, tokenizer, pairs, **own)
    for one in told:
        if not issubclass(one.category, BrokenText):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return iv, any(issubclass(one.category, BrokenText) for one in told)


def _gain(table: pd.DataFrame, unit: float, tolerance: float) -> dict[str, float]:
    """score, m, m_relative and utility_lost at the operating point of a sweep."""
    best = operating_point(table, tolerance)
    curve = best.table.set_index("m")[["preference", "utility"]]
    gained, lost = curve.loc[best.m] - curve.loc[0.0]
    return {"score": gained, "m": best.m, "m_relative": best.m / unit, "utility_lost": -lost}
