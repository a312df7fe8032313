"""Type and device of a model's weights, as `load_model` takes them."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
"""Types that weights can have. An intervention computes in float32 at least on any of them."""


def dtype_name(model: PreTrainedModel) -> str:
    """The type of a model's weights as `load_model` takes it: "float32", "bfloat16"."""
    return str(model.dtype).removeprefix("torch.")


def check_dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    """The type itself, None for "auto"."""
    if dtype == "auto":
        return None
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    raise ValueError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)} and auto.")


def check_device(device: str | torch.device, device_map: Any) -> torch.device:
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}; there are {', '.join(there)}.") from error
    if str(place) not in there and not (str(place) == "cuda" and len(there) > 1):
        raise ValueError(f"this machine has no device {str(place)!r}; there are {', '.join(there)}.")
    names = ("auto", "balanced", "balanced_low_0", "sequential")
    if isinstance(device_map, Mapping):
        for part in device_map.values():
            check_device(f"cuda:{part}" if isinstance(part, int) else part, None)
    elif device_map is not None and device_map not in names:
        raise ValueError(
            f"device_map is one of {', '.join(names)}, or a dict of modules' names and devices, "
            f"not {device_map!r}."
        )
    if device_map is not None and place.type != "cpu":
        raise ValueError(f"device {str(place)!r} and a device_map were given: one of them places the model.")
    return place
