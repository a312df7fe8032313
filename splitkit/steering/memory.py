"""Memory: what a model will take, estimated before it is loaded, and what would fit instead.

Nothing here decides a number: it prints, and it refuses.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from splitkit.steering.token_losses import CHUNK
from splitkit.steering.tokenization import TOKEN_BUDGET

GIB = 2**30

MOST_TOKENS = {"cpu": TOKEN_BUDGET, "cuda": 2**16}
"""Of a forward pass, by kind of device: more fill no cache of a core, or no GPU, any better."""

DeviceMap = str | Mapping[str, int | str | torch.device]


@dataclass(frozen=True)
class Estimate:
    """Bytes that a model and a sweep on it take: `weights` and `activations`; `parameters` is their count."""

    parameters: int
    dtype: torch.dtype
    weights: int
    activations: int

    @property
    def total(self) -> int:
        """Weights and activations together, in bytes."""
        return self.weights + self.activations

    def __str__(self) -> str:
        weights = f"{self.parameters / 1e9:.3g} billion parameters as {_name(self.dtype)}"
        return (
            f"{self.total / GIB:.2f} GiB ({weights} {self.weights / GIB:.2f}, a sweep's activations "
            f"{self.activations / GIB:.2f})"
        )


def estimate(
    config: PretrainedConfig,
    dtype: torch.dtype,
    folder: str | Path | None = None,
    token_budget: int = TOKEN_BUDGET,
    device: str = "cpu",
) -> Estimate:
    """parameters x bytes of the type, and the activations of a sweep of `token_budget` tokens.

    Activations are those that a sweep holds at once: a recording and its repetition, one layer at work, dh
    and dW in float32, and a chunk of logits. Attention's own are left out: they depend on the kernel.

    Args:
        config: the model's config. Parameters are counted on a model without memory made from it.
        dtype: that the weights will have.
        folder: where the weights are; the headers of its safetensors, where there are any, are counted
            instead.
        token_budget: tokens of a forward pass, as in `sweep`.
        device: the kind of device, "cpu" or "cuda": it decides how many logits are held at a time.
    """
    parameters = _stored(Path(folder)) if folder is not None else None
    parameters = _counted(config) if parameters is None else parameters
    text = config.get_text_config()
    once = 4 * (int(text.hidden_size) * inner_width(text) + 3 * CHUNK.get(device, CHUNK["cpu"]))
    activations = token_budget * _per_token(config, dtype) + once
    return Estimate(parameters, dtype, parameters * dtype.itemsize, activations)


def tokens_that_fit(model: PreTrainedModel) -> int:
    """Tokens of a forward pass that half of the free memory of the model's device holds.

    At most `MOST_TOKENS` of its kind, beyond which nothing gets faster, and at least 256: what does not fit
    at all is to fail as such.
    """
    most = MOST_TOKENS.get(model.device.type, TOKEN_BUDGET)
    text = model.config.get_text_config()
    heads = int(text.num_attention_heads)
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    # keys and values of a prompt, kept for both of its answers: of all layers, which is more than there are
    kept = 4 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * size
    per_token = _per_token(model.config, model.dtype) + kept * model.dtype.itemsize
    fit = free_memory(model.device) // 2 // per_token
    return max(256, min(most, fit))


def inner_width(text: PretrainedConfig) -> int:
    """Size of the FFN's inner activation."""
    found = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
    return int(found or 4 * text.hidden_size)


def _per_token(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Bytes of a sweep's activations per token."""
    text = config.get_text_config()
    hidden, inner = int(text.hidden_size), inner_width(text)
    recorded = 2 * (3 * hidden + inner)
    working = 8 * hidden + 4 * inner
    return (recorded + working) * dtype.itemsize + 4 * (2 * hidden + inner)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device: the machine's available memory for the CPU, else the GPU's own."""
    if device.type == "cuda":
        # what torch holds and does not use is free, too
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    return int(psutil.virtual_memory().available)


def devices_of(device: torch.device, device_map: DeviceMap | None) -> list[torch.device]:
    """The devices that a model will be spread over; a map by name takes all GPUs, or the CPU without one."""
    if device_map is None:
        return [device]
    if isinstance(device_map, str):
        return [torch.device("cuda", n) for n in range(torch.cuda.device_count())] or [torch.device("cpu")]
    named = {torch.device("cuda", d) if isinstance(d, int) else torch.device(d) for d in device_map.values()}
    return sorted(named, key=str)


def check_memory(name: str, needed: Estimate, devices: list[torch.device], *, quiet: bool = False) -> None:
    """Print what `name` takes and what is free, and go on only if it fits.

    Args:
        name: of the model, for the texts.
        needed: what it takes.
        devices: where it goes.
        quiet: print nothing; a refusal comes all the same.

    Raises:
        MemoryError: when it does not fit, with what would.
    """
    free = sum(free_memory(device) for device in devices)
    where = " and ".join(map(str, devices))
    if not quiet:
        # not to stdout: what a notebook or a script prints there is its own
        print(f"{name}: about {needed}; {where}: {free / GIB:.2f} GiB free.", file=sys.stderr)  # noqa: T201
    if needed.total > free:
        raise MemoryError(
            f"{name} takes about {needed}; {where}: {free / GIB:.2f} GiB free. Would fit: "
            f"{'; '.join(_alternatives(needed, devices, free))}."
        )


def _alternatives(needed: Estimate, devices: list[torch.device], free: int) -> list[str]:
    found = []
    if needed.dtype.itemsize > 2 and needed.total - needed.weights // 2 <= free:
        found.append(f'dtype="bfloat16" (about {(needed.total - needed.weights // 2) / GIB:.2f} GiB)')
    billions = max(0, free - needed.activations) / 2 / 1e9
    found.append(f"a model of at most {billions:.2g} billion parameters in bfloat16")
    gpus = devices_of(torch.device("cpu"), "auto")
    together = sum(free_memory(device) for device in gpus)
    if gpus != devices and together >= needed.total:
        found.append(f'device_map="auto" ({" and ".join(map(str, gpus))}: {together / GIB:.2f} GiB free)')
    else:
        found.append('on a machine with more or larger GPUs, device_map="auto", which takes all of them')
    return found


def _counted(config: PretrainedConfig) -> int:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return sum(parameter.numel() for parameter in model.parameters())


def _stored(folder: Path) -> int | None:
    """Numbers in the weights of a folder, from their headers; None without readable ones."""
    index, files = folder / "model.safetensors.index.json", [folder / "model.safetensors"]
    try:
        if index.is_file():
            content = json.loads(index.read_text(encoding="utf-8"))
            files = [folder / file for file in sorted(set(content["weight_map"].values()))]
        total = 0
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                total += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        return total
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None  # loading names what is wrong with them


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
