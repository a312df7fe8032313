"""Adapters' folders: what peft saves of a fine-tuned model, beside the base model that it belongs to."""

import json
from pathlib import Path

from transformers import PreTrainedModel

CONFIG = "adapter_config.json"


def base_of(folder: Path) -> str:
    """Name of the base model that an adapter was trained on; a path may be relative to the adapter's folder.

    Raises: ValueError for a config that names none.
    """
    path = folder / CONFIG
    try:
        base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, it names no base model: {error!r}.") from error
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"{path} names no base model (base_model_name_or_path is {base!r}): write its name there."
        )
    return str(folder / base) if not Path(base).is_absolute() and (folder / base).exists() else base


def merged(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`base` with the adapter's change added to its weights: an ordinary model, with a digest of its own.

    Raises:
        ModuleNotFoundError: without the package peft.
        ValueError: for an adapter that is no change of weights (learned prompts), or fits another base model.
    """
    try:
        from peft import PeftModel
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{folder} is an adapter, which peft reads: pip install peft.") from error
    try:
        adapted = PeftModel.from_pretrained(base, folder)
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"the adapter {folder} does not load on its base model: {error}") from error
    if adapted.active_peft_config.is_prompt_learning:
        raise ValueError(
            f"the adapter {folder} is learned prompts, which no weight can hold: load its base model instead."
        )
    return adapted.merge_and_unload()  # type: ignore[operator]
