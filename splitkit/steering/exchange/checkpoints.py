"""Checkpoints: a whole model with an intervention in its weights, for transformers alone."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.exchange.peft_adapters import check_no_norm
from splitkit.steering.interventions.sums import Steering
from splitkit.steering.model_state.wrappers import without_adapter
from splitkit.steering.rewriting import rewritten
from splitkit.steering.strengths import is_steered
from splitkit.storage.files import write_whole


def write_checkpoint(
    intervention: Steering,
    model: PreTrainedModel,
    folder: Path,
    m: float,
    about: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """W + m dW and b + m db (Eq. 1), in the model's type; a copy of the model is held meanwhile.

    Raises: ValueError for packed weights, and for a bias or vector where the architecture has no place;
    RuntimeError while the model is steered.
    """
    if not all(p.is_floating_point() for p in model.parameters()):
        raise ValueError(
            "this model's weights are packed (quantised): load it unpacked, as dtype='bfloat16'."
        )
    sites = resolve_sites(model, intervention.terms[0][1].layer)
    if is_steered(sites.decoder):
        raise RuntimeError("this model is being steered, and its copy would be: leave the `with`, or detach.")
    biased = _check_biases(intervention, model)
    twin = rewritten(model, intervention, m)
    if biased:
        _have_biases(twin)
    else:
        # a local weight's bias of zeros, which the architecture has no place for
        for _, term in intervention.terms:
            down: Any = without_adapter(resolve_sites(twin, term.layer, "down").down)
            if without_adapter(resolve_sites(model, term.layer, "down").down).bias is None:  # type: ignore[union-attr]
                down.bias = None
    twin.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    write_whole(folder / "steering.json", json.dumps(about, indent=2) + "\n")


def _check_biases(intervention: Steering, model: PreTrainedModel) -> bool:
    """Whether the architecture's switch for biases has to be turned on; ValueError where it has none."""
    needed = False
    for _, term in intervention.terms:
        adds = {"vector": "vector", "local_weight": "bias"}.get(term.form)
        if adds is None or not term.parameters[adds].any():
            continue
        sites = resolve_sites(model, term.layer, "down")
        if term.form == "vector":
            check_no_norm(sites, term.layer)
        if without_adapter(sites.down).bias is not None:  # type: ignore[arg-type]
            continue
        if not hasattr(model.config, "mlp_bias"):
            raise ValueError(
                f"the {'' if adds == term.form else 'bias of this '}{term.form} would be a bias of the "
                f"down-projection, and {model.config.model_type} has none in its config: export it as 'peft'"
                + (", 'safetensors' or 'gguf'." if term.form == "vector" else ", or train a LoRA.")
            )
        needed = True
    return needed


@torch.no_grad()
def _have_biases(twin: PreTrainedModel) -> None:
    """Turn `mlp_bias` on: the config says so, and projections without a bias get one of zeros."""
    config = copy.deepcopy(twin.config)
    config.mlp_bias = True
    with torch.device("meta"):
        wanted = type(twin)(config).state_dict()
    for name in wanted.keys() - twin.state_dict().keys():
        linear: Any = twin.get_submodule(name.removesuffix(".bias"))
        linear.bias = nn.Parameter(linear.weight.new_zeros(wanted[name].shape))
    twin.config.mlp_bias = True
