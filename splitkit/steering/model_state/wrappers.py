"""Wrappers: the transformers model inside what torch.compile, peft and data parallelism put around it."""

import sys
from typing import Any

from torch import nn
from torch._dynamo import OptimizedModule
from transformers import PreTrainedModel


def plain_model(model: Any) -> PreTrainedModel:
    """The model itself, in which layers are found by their paths; what wraps it goes on working around it.

    Unwrapped are torch.compile's module, peft's models (their adapters are inside the layers) and
    DataParallel or DistributedDataParallel on one device.

    Raises:
        TypeError: for anything that is, or holds, no transformers model, saying what to pass.
        ValueError: for a wrapper that computes something of its own: several devices, or learned prompts.
    """
    model = uncompiled(model)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        if (count := len(model.device_ids or [])) > 1:
            raise ValueError(
                f"a {type(model).__name__} over {count} devices copies its model at each "
                "call: pass model.module, which runs on one of them, or load with device_map."
            )
        return plain_model(model.module)
    if (peft := sys.modules.get("peft")) is not None:
        if isinstance(model, peft.PeftModel):
            if model.active_peft_config.is_prompt_learning:
                raise ValueError(
                    f"a {type(model).__name__} with learned prompts puts tokens before the text that no "
                    "tokenizer knows: it cannot be steered. Pass model.get_base_model() to go without them."
                )
            return plain_model(model.get_base_model())
        if isinstance(model, (peft.PeftMixedModel, peft.tuners.tuners_utils.BaseTuner)):
            inner: Any = model.base_model if isinstance(model, peft.PeftMixedModel) else model.model
            return plain_model(inner)
    if not isinstance(model, PreTrainedModel):
        held = next((name for name in ("model", "pretrained_model", "module") if _holds(model, name)), None)
        hint = "" if held is None else f" Pass its .{held}."
        found = repr(model) if isinstance(model, str) or model is None else f"a {type(model).__name__}"
        raise TypeError(
            f"a loaded model is wanted, as load_model gives it or transformers' from_pretrained, not {found}."
            f"{hint}"
        )
    return model


def uncompiled(module: Any) -> Any:
    """A module itself where torch.compile was put around it."""
    return module._orig_mod if isinstance(module, OptimizedModule) else module


def without_adapter(module: nn.Module) -> nn.Module:
    """The layer that peft put an adapter around; any other module is returned as it is."""
    return module.get_base_layer() if hasattr(module, "get_base_layer") else module  # type: ignore[operator]


def _holds(model: Any, name: str) -> bool:
    return isinstance(getattr(model, name, None), PreTrainedModel)
