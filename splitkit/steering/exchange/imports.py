"""Imports: steering vectors that other tools wrote, as interventions."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from splitkit.steering.architectures import check_layer, resolve_sites
from splitkit.steering.exchange.vector_files import OPERATION, SITE, read_control_vector, read_safetensors
from splitkit.steering.interventions import Intervention, InterventionSum
from splitkit.steering.model_files import digest
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.strengths import whole_number
from splitkit.storage import paths

_ENDINGS = (".gguf", ".safetensors")
_NUMBERED = re.compile(r"(?:.*[._])?(\d+)")
_MAPPING = "a dict"
"""What details call vectors that came from no file."""


def import_intervention(
    path: str | Path | Mapping[int | str, Tensor],
    model: PreTrainedModel,
    *,
    layers: int | Sequence[int] | None = None,
    row: int = 0,
) -> Intervention | InterventionSum:
    """h + m v behind each layer that a file names: a vector, or the sum of several, of `model`.

    At m = 1 it is what the file says at its own scale 1. Layers are counted from 0 everywhere here. Read are:

    * llama.cpp's control vectors (.gguf): "direction.i" is added behind layer i;
    * safetensors: of `export`, or tensors whose names end in the layer ("layer_17");
    * a dict of vectors by layer, {17: v}, with v (hidden) or (concept, hidden): what EasyEdit saves as
      "layer_17.pt", loaded by yourself, and `layer_activations` of the library steering-vectors, whose
      `layer_type` has to be "decoder_block".

    A file of torch is a pickle, and never read.

    Args:
        path: the file, or the dict.
        model: the base model. That it is the file's, nobody but you can know where the file does not say.
        layers: the layers to take; all there are for None.
        row: of several vectors of a layer, the one to take (EasyEdit's concept).

    Raises:
        FileNotFoundError: when nothing is there.
        ValueError: for a file of another kind, a pickle (with the way out), a width or layer that the model
            has not, or an operation that is no addition.

    Warns:
        UserWarning: when the file says that it was made on another base model.
    """
    model = plain_model(model)
    wanted = None if layers is None else [layers] if isinstance(layers, int) else list(layers)
    details: dict[str, Any] = {"imported": {"file": _MAPPING}}
    tensors: Mapping[Any, Tensor]
    said: dict[str, Any] = {}
    if isinstance(path, Mapping):
        source, tensors = Path(_MAPPING), path
    else:
        source = paths.expanded(path)
        tensors, said = _read(source)
        details["imported"] = {"file": source.name, "sha256": digest(source)}
    found = _by_layer(tensors, source)
    if said.get("operation", OPERATION) != OPERATION or said.get("site", SITE) != SITE:
        raise ValueError(
            f"{source} is meant for {said.get('operation')!r} at {said.get('site')!r}; here a vector is "
            f"{OPERATION}ed at the {SITE}."
        )
    if not found:
        raise ValueError(f"{source} names no vector with a layer: tensors end in one, as layer_17.")
    if missing := sorted(set(wanted or []) - set(found)):
        raise ValueError(f"{source} has no layer {missing[0]}; it has {', '.join(map(str, sorted(found)))}.")
    base = model_digest(model)
    if said.get("base_digest", base) != base:
        warnings.warn(
            f"{source.name} was made on another base model ({said.get('base_model') or 'unnamed'}, digest "
            f"{said['base_digest'][:12]}...) than this one ({base[:12]}...), or on one of another type.",
            stacklevel=2,
        )
    details |= {"tokens": said["tokens"]} if said.get("tokens", "all") != "all" else {}
    terms = []
    for layer in sorted(found if wanted is None else wanted):
        v = _one(found[layer], row, f"the vector of layer {layer} in {source.name}")
        width = resolve_sites(model, check_layer(model, layer)).width
        if len(v) != width:
            raise ValueError(
                f"the vector of layer {layer} in {source.name} has {len(v)} numbers, this model's residual "
                f"stream {width}: it belongs to another model."
            )
        terms.append(Intervention("vector", "imported", layer, {"vector": v}, base, dict(details)))
    return terms[0] if len(terms) == 1 else InterventionSum(tuple((1.0, term) for term in terms))


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name, and what the file says of them."""
    if source.suffix not in _ENDINGS:
        raise ValueError(
            f"{source.name} is of no kind that is read: files end in {' or '.join(_ENDINGS)}. A file of "
            "torch is a pickle, which can run code. Where you trust it, load it yourself and hand over its "
            "vectors: sk.import_intervention({17: torch.load(file, weights_only=True)}, model), 17 being "
            "the layer."
        )
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}.")
    return read_control_vector(source) if source.suffix == ".gguf" else read_safetensors(source)


def _by_layer(tensors: Mapping[Any, Any], source: Path) -> dict[int, Tensor]:
    if "layer_activations" in tensors:
        if (kind := tensors.get("layer_type", "decoder_block")) != "decoder_block":
            raise ValueError(
                f"{source.name} steers the {kind} of layers; here a vector is added to what leaves a layer, "
                "decoder_block."
            )
        tensors = tensors["layer_activations"]
    if {"lora_A", "weight", "delta_weight"} & set(map(str, tensors)):
        raise ValueError(
            f"{source.name} holds a LoRA or a weight of EasyEdit, which only its vectors are read of: "
            "make a splitkit.Intervention of its tensors."
        )
    return {
        whole_number("a layer", int(number[1])): tensor
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor) and (number := _NUMBERED.fullmatch(str(name)))
    }


def _one(tensor: Tensor, row: int, name: str) -> Tensor:
    """One vector (hidden) in float32 of what a file has for a layer."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise ValueError(f"{name} is no tensor of floats.")
    rows = tensor.detach().reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor.reshape(1, 1)
    if not 0 <= row < len(rows):
        raise ValueError(f"{name} is {len(rows)} vectors: row {row} is none of 0 to {len(rows) - 1}.")
    return rows[row].float().clone()
