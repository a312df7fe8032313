"""Adapters: a LoRA on one down-projection, through peft, that leaves nothing behind."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from splitkit.steering.architectures import Sites

ADAPTER = "default"


@contextmanager
def attached_lora(
    model: PreTrainedModel,
    sites: Sites,
    a: Float[Tensor, "rank inner"],
    b: Float[Tensor, "hidden rank"],
    scale: Callable[[], Tensor],
) -> Iterator[None]:
    """h' = h + m B A x (Eq. 5) on the down-projection of `sites`, for as long as the `with` lasts.

    peft's alpha is set to the rank, so that m alone scales, as in the official code, which ignores its alpha.

    Args:
        model: the model that the sites are of.
        sites: where the adapter goes.
        a: (rank, inner).
        b: (hidden, rank).
        scale: asked before each use for m, (batch, token or 1, 1).

    Raises:
        ValueError: when there is a LoRA in this place already.
    """
    if hasattr(sites.down, "base_layer"):
        raise ValueError(f"there is a LoRA on {sites.down_name} already: leave its `with` first.")
    parent_name, _, attribute = sites.down_name.rpartition(".")
    parent = model.get_submodule(parent_name)
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    before = {name: model.__dict__[name] for name in ("peft_config",) if name in model.__dict__}
    rank = a.shape[0]
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=re.escape(sites.down_name),
        fan_in_fan_out=sites.transposed,
    )

    def set_scale(layer: nn.Module, args: tuple[Any, ...]) -> None:
        layer.scaling[ADAPTER] = scale().to(args[0].device)  # type: ignore[index, union-attr, operator]

    try:
        inject_adapter_in_model(config, model, adapter_name=ADAPTER)
        layer: Any = getattr(parent, attribute)
        weight = layer.base_layer.weight
        wide = torch.promote_types(weight.dtype, torch.float32)
        for part, values in ((layer.lora_A, a), (layer.lora_B, b)):
            part[ADAPTER].weight = nn.Parameter(values.detach().to(weight.device, wide), requires_grad=False)
        layer.register_forward_pre_hook(set_scale)
        yield
    finally:
        setattr(parent, attribute, sites.down)
        model.__dict__.pop("peft_config", None)
        model.__dict__.update(before)
        for parameter, flag in gradients:
            parameter.requires_grad_(flag)
