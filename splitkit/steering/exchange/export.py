"""Export: an intervention at one strength as a file or folder that other tools load."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.exchange.checkpoints import write_checkpoint
from splitkit.steering.exchange.peft_adapters import write_adapter
from splitkit.steering.exchange.vector_files import write_control_vector, write_safetensors
from splitkit.steering.formats.sources import base_name
from splitkit.steering.interventions import Steering
from splitkit.steering.model_state.digest import active_adapters
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.strengths import real_number
from splitkit.storage import paths
from splitkit.storage.files import write_whole

FORMATS: dict[str, tuple[str, Callable[..., None]]] = {
    "peft": ("", write_adapter),
    "checkpoint": ("", write_checkpoint),
    "safetensors": (".safetensors", write_safetensors),
    "gguf": (".gguf", write_control_vector),
}
"""Ending of the file ("" for a folder) and writer, by format."""


def export(
    intervention: Steering,
    model: PreTrainedModel,
    path: str | Path,
    *,
    format: str,
    m: float,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Path:
    """m dh, written for other tools: what is loaded without any strength there is `applied(model, m)` here.

    The file's own scale multiplies m: at 2 it is 2 m. Nothing outside of splitkit leaves tokens out, so every
    token is steered there, BOS too, and every one where `tokens` says less than "all" here (a warning).

    Args:
        intervention: one, or a sum of several.
        model: its base model, which stays as it is.
        path: the folder or file to write; see `format`.
        format: "peft", a folder for `PeftModel.from_pretrained`: a LoRA as it is, a local weight as a LoRA of
            full rank with a bias (`lora_bias`), a vector as that bias where nothing follows the
            down-projection. "checkpoint", a folder for transformers' `from_pretrained`: the whole model,
            changed; bias and vector only where the architecture can have a bias there (Llama's `mlp_bias`,
            GPT-2, GPT-NeoX). "safetensors", a file of vectors, one for each layer ("layer_17"). "gguf", a
            control vector for llama.cpp. Layer, site, operation, m and the base's digest are in the metadata.
        m: the strength, any finite number.
        tokenizer: saved beside a checkpoint.

    Returns:
        The path that was written. A folder gets a README.md, `Steering.card`, unless it has one.

    Raises:
        TypeError: for no intervention.
        ValueError: for another base model, an unknown format or ending, or a form that the format cannot
            hold, with the reason and what holds it.
        RuntimeError: for a checkpoint of a model that is being steered.
        FileExistsError: for a folder that holds weights already.
        ModuleNotFoundError: for GGUF without the package gguf.
    """
    if not isinstance(intervention, Steering):
        raise TypeError(f"an Intervention is exported, not a {type(intervention).__name__}.")
    if not isinstance(format, str) or format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; there are {', '.join(FORMATS)}.")
    m, model, target = real_number("m", m), plain_model(model), paths.expanded(path)
    ending, write = FORMATS[format]
    if ending and target.suffix != ending:
        raise ValueError(f"a {format} export is a file that ends in {ending}, not {target.name!r}.")
    if not ending and target.is_file():
        raise ValueError(f"{target} is a file; a {format} export is a folder.")
    if not ending and target.is_dir() and any(target.glob("*.safetensors")):
        raise FileExistsError(f"{target} holds weights already: name another folder, or remove them.")
    if names := active_adapters(model):
        raise ValueError(
            f"the adapter {', '.join(names)} acts on this model: an export speaks of plain weights. Merge it "
            "(merge_and_unload) and train on what that gives, or disable it."
        )
    intervention.check_base(model)
    if chosen := sorted({term.tokens for _, term in intervention.terms} - {"all"}):
        warnings.warn(
            f"this was trained to steer the tokens {chosen[0]!r} alone; what is written steers all of them.",
            stacklevel=2,
        )
    about: dict[str, Any] = {"base_model": base_name(model), "m": m}
    write(
        intervention, model, target, m, about, **({"tokenizer": tokenizer} if format == "checkpoint" else {})
    )
    if not ending and not (target / "README.md").exists():
        write_whole(target / "README.md", intervention.card(m=m, base_model=about["base_model"]))
    return target
