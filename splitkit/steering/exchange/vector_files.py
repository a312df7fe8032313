"""Vector files: vectors by layer as safetensors, and as llama.cpp's control vectors (GGUF).

Both hold m v, and say in their metadata what no tensor says: `site`, the residual stream that leaves the
layer; `operation`, it is added (other programs project it out); `m`; and the base model's digest.
"""

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor
from transformers import PreTrainedModel

from splitkit.steering.architectures import layer_list
from splitkit.steering.interventions.sums import Steering
from splitkit.steering.prompts.settings import text_config
from splitkit.storage.files import write_whole

SITE, OPERATION = "layer_output", "add"
ARCHITECTURE = "controlvector"
"""What a control vector's GGUF file calls itself."""

KEY = "splitkit"
"""The metadata that are ours, a JSON text."""

Vectors = dict[int, Tensor]
"""A vector (hidden) in float32 for each layer, counted from 0."""


def write_safetensors(
    intervention: Steering, model: PreTrainedModel, file: Path, m: float, about: dict[str, Any]
) -> None:
    """Tensors "layer_17", (hidden) in float32, with m v."""
    vectors = _vectors(intervention, m)
    tensors = {f"layer_{layer}": v.contiguous() for layer, v in vectors.items()}
    write_whole(file, safetensors.save(tensors, {KEY: _metadata(intervention, vectors, about)}))


def write_control_vector(
    intervention: Steering, model: PreTrainedModel, file: Path, m: float, about: dict[str, Any]
) -> None:
    """llama.cpp's control vector: h + s m v behind layer i, from the tensor "direction.i" at its scale s.

    llama.cpp counts layers from 0, as we do, and adds direction.i to what leaves layer i: common/common.cpp
    (`common_control_vector_load_one`) puts it at i - 1 of a buffer that begins with layer 1, and
    src/llama-adapter.cpp (`llama_adapter_cvec::apply`) hands that to layer i, whose graph adds it last
    (`build_cvec(cur, il)`). So layer 0 has none. It steers BOS, too.

    Raises: ModuleNotFoundError without the package gguf; ValueError for layer 0.
    """
    if find_spec("gguf") is None:
        raise ModuleNotFoundError("the package gguf writes control vectors: pip install '.[gguf]'.")
    import gguf

    vectors = _vectors(intervention, m)
    if 0 in vectors:
        raise ValueError("llama.cpp has no control vector at layer 0: steer layer 1 or a later one.")
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.tmp")
    writer = gguf.GGUFWriter(part, ARCHITECTURE)
    writer.add_string(f"{ARCHITECTURE}.model_hint", text_config(model.config).model_type)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(layer_list(model)) - 1)
    writer.add_string(KEY, _metadata(intervention, vectors, about))
    for layer, v in sorted(vectors.items()):
        writer.add_tensor(f"direction.{layer}", v.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(file)


def read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name and our metadata, {} where another program wrote the file."""
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, _ours((opened.metadata() or {}).get(KEY))
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or is damaged: {error}.") from error


def read_control_vector(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors by name and our metadata, {} where another program wrote the file.

    Raises: ModuleNotFoundError without the package gguf; ValueError for a GGUF file of another kind.
    """
    if find_spec("gguf") is None:
        raise ModuleNotFoundError("the package gguf reads control vectors: pip install '.[gguf]'.")
    import gguf

    try:
        reader = gguf.GGUFReader(file)
    except (ValueError, IndexError, struct.error) as error:
        raise ValueError(f"{file} is no GGUF file, or is damaged: {error}.") from error
    said = reader.get_field("general.architecture")
    if said is None or said.contents() != ARCHITECTURE:
        kind = None if said is None else said.contents()
        raise ValueError(f"{file} is no control vector but {kind!r}: a model's file goes to load_model.")
    tensors = {one.name: torch.tensor(one.data) for one in reader.tensors}
    ours = reader.get_field(KEY)
    return tensors, _ours(None if ours is None else ours.contents())


def _vectors(intervention: Steering, m: float) -> Vectors:
    """m times the vector of each layer. ValueError for another form, which is no vector."""
    found: Vectors = {}
    for weight, term in intervention.terms:
        if term.form != "vector":
            raise ValueError(
                f"a {term.form} is no vector: what it adds depends on the activations. Export it as 'peft' "
                "or 'checkpoint'."
            )
        v = m * weight * term.parameters["vector"].detach().float().cpu()
        found[term.layer] = found[term.layer] + v if term.layer in found else v
    return found


def _metadata(intervention: Steering, vectors: Vectors, about: dict[str, Any]) -> str:
    """What the tensors do not say, as JSON."""
    first = intervention.terms[0][1]
    said = {"layers": sorted(vectors), "site": SITE, "operation": OPERATION}
    return json.dumps({**about, **said, "tokens": first.tokens, "base_digest": first.base_digest})


def _ours(text: str | None) -> dict[str, Any]:
    try:
        said = json.loads(text or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
