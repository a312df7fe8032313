"""Saved interventions: loaded from their folder, onto their base model or one of another type."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from splitkit.steering.formats.intervention_files import as_folder, read
from splitkit.steering.interventions.single import Intervention
from splitkit.steering.interventions.sums import InterventionSum
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.model_state.placement import dtype_name
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.strengths import real_number


def load_intervention(
    folder: str | Path, model: PreTrainedModel | None = None, *, allow_dtype: bool = False
) -> Intervention | InterventionSum:
    """The intervention, or the sum of several, that `save` wrote into `folder`.

    Args:
        folder: where `config.json` and `intervention.safetensors` are.
        model: checked at once to be its base model when given; otherwise the check comes with its first use.
        allow_dtype: take `model` for its base model where the type of the weights is another one than it was
            made in (a vector made in float32, on bfloat16 weights) and the shapes fit. Rounded weights cannot
            be told from another model's: that they are the same model's is your word. What is returned
            belongs to `model`, and its details keep what it was made on ("made_on").

    Raises:
        FileNotFoundError: when a file is not there.
        ValueError: when a file is damaged or has no digest, or when `model` is another base model.
    """
    source = as_folder(folder)
    config, tensors = read(source)
    try:
        loaded = _loaded(config, tensors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source} is no intervention's folder: {error}.") from error
    if allow_dtype:
        if model is None:
            raise ValueError("allow_dtype needs the model that the intervention is to be used on.")
        loaded = _on_dtype(loaded, model)
    if model is not None:
        loaded.check_base(model)
    return loaded


def _on_dtype(loaded: Any, model: PreTrainedModel) -> Any:
    """The same intervention as one of `model`, where that has another type than it was made in."""
    if isinstance(loaded, InterventionSum):
        return InterventionSum(tuple((weight, _on_dtype(term, model)) for weight, term in loaded.terms))
    made, here = loaded.details.get("dtype"), dtype_name(plain_model(model))
    if made in (None, here) or loaded.base_digest == model_digest(model):
        return loaded
    made_on = {"dtype": made, "digest": loaded.base_digest}
    details = loaded.details | {"dtype": here, "made_on": made_on}
    return replace(loaded, base_digest=model_digest(model), details=details)


def _loaded(config: dict[str, Any], tensors: dict[str, Tensor]) -> Intervention | InterventionSum:
    if "terms" not in config:
        return Intervention(parameters=tensors, **config)
    terms = []
    for number, term in enumerate(config["terms"]):
        weight = real_number("the weight of a term", term.pop("weight"))
        start = f"{number}."
        own = {name.removeprefix(start): p for name, p in tensors.items() if name.startswith(start)}
        terms.append((float(weight), Intervention(parameters=own, **term)))
    return InterventionSum(tuple(terms))
