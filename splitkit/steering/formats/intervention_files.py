"""The two files of a saved intervention: `config.json`, and its tensors, whose digest the config states."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from splitkit.storage import paths
from splitkit.storage.files import write_whole

_CONFIG_KEYS = ["base_digest", "details", "form", "layer", "objective", "sha256"]


def as_folder(given: Any) -> Path:
    """The folder of an intervention. Raises: TypeError for no path; NotADirectoryError for a file."""
    if not isinstance(given, (str, os.PathLike)) or not str(given):
        raise TypeError(f"an intervention's folder is a path, not {given!r}.")
    folder = paths.expanded(str(given))
    if file := next((path for path in (folder, *folder.parents) if path.is_file()), None):
        raise NotADirectoryError(f"{file} is a file; an intervention is saved as a folder of two: name one.")
    return folder


def write(target: Path, config: dict[str, Any], parameters: Mapping[str, Tensor]) -> Path:
    """Write both files into a folder, made if needed; each whole or not at all.

    Raises: TypeError, before anything is written, for a config that is not JSON.
    """
    content = safetensors.save({name: p.detach().cpu().contiguous() for name, p in parameters.items()})
    # config.json names its tensors by their digest: damage and mixed-up files are found at loading
    config["sha256"] = hashlib.sha256(content).hexdigest()
    try:
        text = json.dumps(config, indent=2) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"details are plain numbers, texts, lists and dicts, to be kept as JSON: {error}."
        ) from error
    write_whole(target / "intervention.safetensors", content)
    write_whole(target / "config.json", text)
    return target


def read(source: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config, without the digest, and the tensors that `write` wrote into a folder.

    Raises:
        FileNotFoundError: when a file is not there.
        ValueError: when a file is damaged or has no digest.
    """
    missing = [n for n in ("config.json", "intervention.safetensors") if not (source / n).is_file()]
    if missing:
        raise FileNotFoundError(f"{source} is no saved intervention: {' and '.join(missing)} not there.")
    path, tensors = source / "config.json", source / "intervention.safetensors"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text at all
        raise ValueError(f"{path} is damaged: {error}.") from error
    keys = sorted(config) if isinstance(config, dict) else config
    if keys not in (_CONFIG_KEYS, ["sha256", "terms"]):
        hint = " An older version wrote it: train and save anew." if keys == _CONFIG_KEYS[:-1] else ""
        raise ValueError(f"{path} has the keys {keys}, not {_CONFIG_KEYS}.{hint}")
    content, stated = tensors.read_bytes(), config.pop("sha256")
    found = hashlib.sha256(content).hexdigest()
    if found != stated:
        raise ValueError(f"{tensors} is damaged: it has sha256 {found}, config.json says {stated}.")
    try:
        return config, safetensors.load(content)
    except SafetensorError as error:
        raise ValueError(f"{source} is no intervention's folder: {error}.") from error
