"""Imports: steering vectors that other tools wrote, as interventions."""

import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
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

_TORCH = (".pt", ".pth", ".bin")
_ENDINGS = (".gguf", ".safetensors", *_TORCH)
_NUMBERED = re.compile(r"(?:.*[._])?(\d+)")
_CONVERT = (
    "write it anew as plain tensors where it was made: torch.save(v, 'layer_17.pt') for a vector, or of the "
    "library steering-vectors torch.save({'layer_activations': v.layer_activations, 'layer_type': "
    "v.layer_type}, file)"
)


def import_intervention(
    path: str | Path,
    model: PreTrainedModel,
    *,
    layers: int | Sequence[int] | None = None,
    row: int = 0,
) -> Intervention | InterventionSum:
    """h + m v behind each layer that a file names: a vector, or the sum of several, of `model`.

    At m = 1 it is what the file says at its own scale 1. Layers are counted from 0 everywhere here. Read are:

    * llama.cpp's control vectors (.gguf): "direction.i" is added behind layer i;
    * safetensors: of `export`, or tensors whose names end in the layer ("layer_17");
    * EasyEdit's: a file "layer_17.pt" with a vector (hidden) or several (concept, hidden), or their folder;
    * of the library steering-vectors, which has no format of its own: a dict with its `layer_activations`
      and `layer_type`, which has to be "decoder_block".

    A file of torch is read with `weights_only=True`: tensors, numbers and texts. Whole objects are never
    unpickled.

    Args:
        path: the file; of EasyEdit also the folder.
        model: the base model. That it is the file's, nobody but you can know where the file does not say.
        layers: the layers to take; all there are for None (of a folder, only where it has one), or, for a
            file that names none, its layer.
        row: of several vectors of a layer, the one to take (EasyEdit's concept).

    Raises:
        FileNotFoundError: when nothing is there.
        ValueError: for a file of another kind, one that needs unpickling (with the way out), a width or layer
            that the model has not, or an operation that is no addition.

    Warns:
        UserWarning: when the file says that it was made on another base model.
    """
    model, source = plain_model(model), paths.expanded(path)
    wanted = None if layers is None else [layers] if isinstance(layers, int) else list(layers)
    if not source.exists():
        raise FileNotFoundError(f"there is no file or folder {source}.")
    found, said = _read(source, wanted)
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
    details: dict[str, Any] = {"imported": {"file": source.name}}
    if source.is_file():
        details["imported"]["sha256"] = digest(source)
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


def _read(source: Path, wanted: list[int] | None) -> tuple[dict[int, Tensor], dict[str, Any]]:
    """Vectors by layer, and what the file says of them."""
    if source.is_dir():
        files = [file for ending in _TORCH for file in source.glob(f"*layer_*{ending}")]
        by_layer = {int(m[1]): file for file in files if (m := _NUMBERED.fullmatch(file.stem))}
        if not by_layer:
            raise ValueError(f"{source} has no file layer_<number>.pt, as EasyEdit writes them.")
        if wanted is None and len(by_layer) > 1:
            there = f"{len(by_layer)} layers, {min(by_layer)} to {max(by_layer)}"
            raise ValueError(f"{source} has vectors of {there}: say which, as layers=17.")
        return {n: _torch(file) for n, file in sorted(by_layer.items())}, {}
    if source.suffix not in _ENDINGS:
        raise ValueError(
            f"{source.name} is of no known kind; read are files that end in {', '.join(_ENDINGS)}."
        )
    said: dict[str, Any] = {}
    if source.suffix == ".gguf":
        tensors, said = read_control_vector(source)
    elif source.suffix == ".safetensors":
        tensors, said = read_safetensors(source)
    else:
        tensors = _torch(source)
    if isinstance(tensors, Tensor):
        number = _NUMBERED.fullmatch(source.stem)
        if number is None and (wanted is None or len(wanted) != 1):
            raise ValueError(f"{source.name} does not say its layer: give it, as layers=17.")
        return {wanted[0] if number is None else int(number[1]): tensors}, said  # type: ignore[index]
    return _by_layer(tensors, source), said


def _torch(file: Path) -> Any:
    """A file of torch with nothing but tensors, numbers and texts in it."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} holds Python objects, which are never unpickled here, since that runs whatever code is "
            f"in them; {_CONVERT}."
        ) from error
    except (EOFError, RuntimeError) as error:
        raise ValueError(f"{file} is damaged, or no file of torch: {error}.") from error


def _by_layer(tensors: Any, source: Path) -> dict[int, Tensor]:
    if not isinstance(tensors, dict):
        raise ValueError(f"{source.name} holds a {type(tensors).__name__}, no vectors by layer.")
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
