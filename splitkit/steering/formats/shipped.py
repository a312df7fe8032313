"""The shipped models: their names and layers, and whether weights are the released ones."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from splitkit.storage import paths


@dataclass(frozen=True)
class ModelInfo:
    """A model that ships with the project: its folder and the layer its experiments steer."""

    name: str
    layer: int = 3

    @property
    def folder(self) -> Path:
        """Folder of its weights, tokenizer and model card."""
        return paths.MODELS / self.name


MODELS: dict[str, ModelInfo] = {name: ModelInfo(name) for name in ("tiny-gemma2", "tiny-qwen2")}


def is_shipped(folder: str | Path) -> bool:
    """Whether a model's folder is that of a shipped one."""
    return Path(folder).resolve() in {info.folder.resolve() for info in MODELS.values()}


def _released_digest(folder: Path) -> str:
    card = folder / "splitkit.json"
    try:
        return str(json.loads(card.read_text(encoding="utf-8"))["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{card} is damaged, it states no sha256: {error!r}.") from error


def check_release(folder: Path) -> None:
    """A shipped model's weights, or those of a copy, are the released ones, byte for byte."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"no {weights.name} in {folder}: restore it, or `make models`.")
    found, expected = hashlib.sha256(weights.read_bytes()).hexdigest(), _released_digest(folder)
    if found != expected:
        raise ValueError(
            f"the weights of {folder.name} are not the released ones: {weights} has sha256 {found[:12]}..., "
            f"splitkit.json says {expected[:12]}...; restore the file, or run `make models` and recompute. "
            "Trained further, it is another model: remove its splitkit.json."
        )
