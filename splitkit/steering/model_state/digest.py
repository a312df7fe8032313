"""The digest of a model: all that it computes with, adapters that are loaded and not merged included."""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from splitkit.steering.model_state.wrappers import plain_model

_PIECE = 2**22

_SAMPLE = 16

_Stamp = tuple[tuple[tuple[int, int], ...], bytes, str]
_digests: "WeakKeyDictionary[nn.Module, tuple[_Stamp, str]]" = WeakKeyDictionary()


def model_digest(model: PreTrainedModel) -> str:
    """sha256 (hex) over names, shapes and values of all parameters: the same model, or not.

    Values are taken as float32, so that a model cast to a wider type is still itself. Buffers that are saved
    with a model count, and so do adapters (peft's, transformers' `add_adapter`) while they are active and not
    merged: their parameters and scales. With all adapters disabled it is the base model's digest. Wrappers
    change nothing (see `plain_model`).

    Computed once per model and again when a value was replaced or written to. A write through `.data`, of
    which torch keeps no count, is seen where it changes one of some 16 evenly spaced values of the parameter.

    Raises: TypeError for anything but a loaded model.
    """
    model = plain_model(model)
    tensors, settings = _parts(model)
    stamp = (*_stamp(tensors), settings)
    known = _digests.get(model)
    if known is None or known[0] != stamp:
        known = _digests[model] = (stamp, _hash(tensors, settings))
    return known[1]


def base_digest(model: PreTrainedModel) -> str:
    """`model_digest` of a model as it is without its adapters, whether or not they are active."""
    return _hash(_base_tensors(plain_model(model)), "")


def active_adapters(model: PreTrainedModel) -> list[str]:
    """Names of the adapters that take part in what a model computes and are not merged into its weights."""
    found = (name for _, layer in _adapted(plain_model(model)) for name in _active(layer))
    return list(dict.fromkeys(found))


def _parts(model: PreTrainedModel) -> tuple[dict[str, Tensor], str]:
    """Every tensor that counts, the base model's first, and the adapters' settings as a text."""
    tensors, settings = _base_tensors(model), []
    for path, layer in _adapted(model):
        # by their order, since the same adapter may be loaded under another name
        for number, adapter in enumerate(_active(layer)):
            own = {
                f"{path}.{kind}.{number}{name}": tensor
                for kind in layer.adapter_layer_names
                for name, tensor in _tensors_of(getattr(layer, kind, None), adapter)
            }
            if own:
                tensors |= dict(sorted(own.items()))
                plain = {name: _setting(layer, name, adapter) for name in layer.other_param_names}
                said = {name: value for name, value in plain.items() if value is not None}
                settings.append(f"{path} {number} {type(layer).__name__} {said}\n")
    return tensors, "".join(settings)


def _base_tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and saved buffers by name, in the order of the names, as if no adapter were there."""
    adapters, inner = set(), []
    for path, layer in _adapted(model):
        inner += [f"{path}.base_layer.", f"{path}.original_module."]
        for kind in layer.adapter_layer_names:
            held: Any = getattr(layer, kind, None)
            names = list(held.keys()) if hasattr(held, "keys") else []
            adapters |= {id(tensor) for name in names for _, tensor in _tensors_of(held, name)}
    saved = (
        (f"{path}.{name}".lstrip("."), buffer)
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    )
    found = {}
    for name, tensor in [*model.named_parameters(), *saved]:
        if id(tensor) not in adapters:
            name = name.replace("_orig_mod.", "")
            if name.startswith(tuple(inner)):
                name = re.sub(r"\b(base_layer|original_module)\.", "", name)
            found[name] = tensor
    return dict(sorted(found.items()))


def _adapted(model: PreTrainedModel) -> list[tuple[str, Any]]:
    """Path and module of every layer that an adapter was put around."""
    if "peft" not in sys.modules:
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    return [
        (path.replace("_orig_mod.", ""), module)
        for path, module in model.named_modules()
        if isinstance(module, kinds)
    ]


def _active(layer: Any) -> list[str]:
    """Names of a layer's adapters that act on its output."""
    if layer.disable_adapters:
        return []
    return [name for name in layer.active_adapters if name not in layer.merged_adapters]


def _tensors_of(held: Any, adapter: str) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of one adapter in one of a layer's dicts of them."""
    part = held[adapter] if hasattr(held, "keys") and adapter in held else None
    if isinstance(part, Tensor):
        yield "", part
    elif isinstance(part, nn.Module):
        for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
            yield f".{name}", tensor


def _setting(layer: Any, name: str, adapter: str) -> object:
    """One of a layer's plain settings (its scale) for an adapter; None where that is no number or text."""
    held = getattr(layer, name, None)
    value = held.get(adapter) if isinstance(held, dict) else None
    if isinstance(value, Tensor):
        return value.tolist()
    return value if isinstance(value, (bool, int, float, str)) else None


def _stamp(tensors: Mapping[str, Tensor]) -> tuple[tuple[tuple[int, int], ...], bytes]:
    """Address and number of writes of each tensor, and a sample of their values."""
    samples: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors.values():
        values = tensor.detach().reshape(-1)
        samples.setdefault(values.device, []).append(values[:: max(1, len(values) // _SAMPLE)].float())
    # one wait per device, not per parameter
    drawn = b"".join(torch.cat(some).cpu().numpy().tobytes() for some in samples.values())
    # tensors made under inference_mode keep no count of writes
    writes = ((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors.values())
    return tuple(writes), drawn


def _hash(tensors: Mapping[str, Tensor], settings: str) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        # a piece at a time: an embedding of a large vocabulary is not held once more in float32
        for piece in tensor.detach().reshape(-1).split(_PIECE):
            digest.update(piece.cpu().float().numpy())  # type: ignore[arg-type]
    digest.update(settings.encode())
    return digest.hexdigest()
