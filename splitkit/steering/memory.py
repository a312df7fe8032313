"""Memory: a check that a model's weights fit, and the number of tokens of a forward pass that do."""

from collections.abc import Mapping
from typing import Any

import psutil
import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)

from splitkit.steering.prompts.settings import text_config
from splitkit.steering.tokenization import TOKEN_BUDGET

GIB = 2**30

MOST_TOKENS = {"cpu": TOKEN_BUDGET, "cuda": 2**16}
"""Most tokens of a forward pass, by kind of device: more fill no cache of a core, or no GPU, any better."""

MOST_INNER = 384 * TOKEN_BUDGET
"""Most values of the FFN's inner activation on a CPU (6 MB in float32): more leave its caches."""

FEWEST_TOKENS = 256
"""Tokens of a forward pass that are tried in any case: what does not fit at all is to fail as such."""

DeviceMap = str | Mapping[str, int | str | torch.device]


def auto_class(config: PretrainedConfig) -> Any:
    """The class of transformers that loads a model with this config: a multimodal one has another."""
    return (
        AutoModelForCausalLM if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else AutoModelForImageTextToText
    )


def count_parameters(config: PretrainedConfig) -> int:
    """Parameters of a model, counted on one without memory that is made from its config."""
    with torch.device("meta"):
        model = auto_class(config).from_config(config, trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def check_memory(
    name: str, config: PretrainedConfig, dtype: torch.dtype, devices: list[torch.device]
) -> None:
    """Raises MemoryError when a model's weights are larger than the free memory of all these devices."""
    count, free = count_parameters(config), sum(free_memory(device) for device in devices)
    if (needed := count * dtype.itemsize) > free:
        raise MemoryError(
            f"{name} takes {needed / GIB:.2f} GiB ({count / 1e9:.3g} billion parameters as "
            f"{str(dtype).removeprefix('torch.')}); {' and '.join(map(str, devices))}: {free / GIB:.2f} GiB "
            'free. dtype="bfloat16", a smaller model, or more GPUs with device_map="auto" may fit.'
        )


def tokens_that_fit(model: PreTrainedModel, differentiated: int = 0) -> int:
    """Tokens of a forward pass that half of the free memory of the model's device holds.

    At most those beyond which nothing gets faster, and at least `FEWEST_TOKENS`. `differentiated` is the
    number of layers whose activations are kept for a backward pass.
    """
    text = text_config(model.config)
    # layers that keep a state have no heads
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    hidden, inner = int(text.hidden_size), inner_width(text)
    recorded, working = 2 * (3 * hidden + inner), 8 * hidden + 4 * inner
    # keys and values of a prompt, kept for both of its answers: of all layers, which is more than there are
    size = getattr(text, "head_dim", None) or hidden // heads
    kept = 4 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * size
    kept += differentiated * (10 * hidden + 4 * inner)
    in_float32 = 4 * (2 * hidden + inner)
    per_token = (recorded + working + kept) * model.dtype.itemsize + in_float32
    fit = free_memory(model.device) // 2 // per_token
    most = MOST_TOKENS.get(model.device.type, TOKEN_BUDGET)
    if model.device.type == "cpu":
        most = min(most, MOST_INNER // inner)
    return max(FEWEST_TOKENS, min(most, fit))


def inner_width(text: PretrainedConfig) -> int:
    """Size of the FFN's inner activation."""
    found = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
    # one per layer in some architectures
    return int(max(found) if isinstance(found, (list, tuple)) else found or 4 * text.hidden_size)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device: the machine's available memory for the CPU, else the GPU's own."""
    if device.type == "cuda":
        # what torch holds and does not use is free, too
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    return int(psutil.virtual_memory().available)


def devices_of(device: torch.device, device_map: DeviceMap | None) -> list[torch.device]:
    """Devices that a model will be spread over; a map by name takes all GPUs, or the CPU without one."""
    if device_map is None:
        return [device]
    if isinstance(device_map, str):
        return [torch.device("cuda", n) for n in range(torch.cuda.device_count())] or [torch.device("cpu")]
    named = {torch.device("cuda", d) if isinstance(d, int) else torch.device(d) for d in device_map.values()}
    return sorted(named, key=str)
