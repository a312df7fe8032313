"""peft adapters: any form as a LoRA, which is what peft, and what reads its files, can hold."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor
from transformers import PreTrainedModel

from splitkit.steering.architectures import Sites, resolve_sites
from splitkit.steering.interventions.hooks import Term
from splitkit.steering.interventions.sums import Steering
from splitkit.steering.model_state.wrappers import without_adapter
from splitkit.storage.files import write_whole


def write_adapter(
    intervention: Steering, model: PreTrainedModel, folder: Path, m: float, about: dict[str, Any]
) -> None:
    """W x + B A x + c at the down-projections: m is inside B and c, and peft's own scale is 1.

    Raises: ValueError for a vector where something lies between the down-projection and the stream.
    """
    parts: dict[str, list[tuple[Tensor, Tensor, Tensor | None]]] = {}
    transposed = False
    for weight, term in intervention.terms:
        sites = resolve_sites(model, term.layer, "down")
        transposed = sites.transposed
        parts.setdefault(module_path(model, sites.down), []).append(_as_lora(term, sites, m * weight))
    rank = max(sum(len(a) for a, _, _ in each) for each in parts.values())
    biased = any(bias is not None for each in parts.values() for _, _, bias in each)
    tensors = {}
    for path, each in parts.items():
        a, b = torch.cat([a for a, _, _ in each]), torch.cat([b for _, b, _ in each], dim=1)
        # rows of zeros change nothing: one rank for all
        tensors[f"base_model.model.{path}.lora_A.weight"] = _filled(a, rank, a.shape[1])
        tensors[f"base_model.model.{path}.lora_B.weight"] = _filled(b, b.shape[0], rank)
        if biased:
            bias = sum((c for _, _, c in each if c is not None), torch.zeros(b.shape[0]))
            tensors[f"base_model.model.{path}.lora_B.bias"] = bias.contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": about["base_model"],
        "target_modules": list(parts),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": biased,
        "fan_in_fan_out": transposed,
        "inference_mode": True,
    }
    metadata = {"format": "pt", "splitkit": json.dumps(about)}
    write_whole(folder / "adapter_model.safetensors", safetensors.save(tensors, metadata))
    write_whole(folder / "adapter_config.json", json.dumps(config, indent=2) + "\n")


def module_path(model: PreTrainedModel, wanted: Any) -> str:
    """The dotted path of a module inside a model."""
    return next(name for name, module in model.named_modules() if module is wanted)


def check_no_norm(sites: Sites, layer: int) -> None:
    """ValueError unless what is added to the down-projection's output is added to the stream as it is."""
    kind = type(without_adapter(sites.layer)).__name__
    if sites.after_down is not None:
        raise ValueError(
            f"layer {layer}, a {kind}, has a {type(sites.after_down).__name__} without a bias between its "
            "down-projection and the residual stream: no weight can add a vector there. Export it as "
            "'safetensors' or 'gguf'."
        )
    if not sites.paths.down_path:
        raise ValueError(
            f"what lies between the down-projection of a {kind} and the residual stream is not known: name "
            "it in splitkit.steering.architectures.SITES, or export the vector as 'safetensors' or 'gguf'."
        )


def _as_lora(term: Term, sites: Sites, m: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """A (rank, inner), B (hidden, rank) and c (hidden) or None, with m dh = B A x + c; float32."""
    p = {name: tensor.detach().float().cpu() for name, tensor in term.parameters.items()}
    if term.form == "lora":
        return p["A"], m * p["B"], None
    if term.form == "local_weight":
        return p["weight"], m * torch.eye(len(p["weight"])), m * p["bias"]
    if term.form == "vector":
        check_no_norm(sites, term.layer)
        return torch.zeros(1, sites.down_width), torch.zeros(sites.width, 1), m * p["vector"]
    raise ValueError(f"a peft adapter cannot hold the form {term.form!r}.")


def _filled(part: Tensor, rows: int, columns: int) -> Tensor:
    """`part` in the upper left corner of zeros."""
    whole = torch.zeros(rows, columns)
    whole[: part.shape[0], : part.shape[1]] = part
    return whole
