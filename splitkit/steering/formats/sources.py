"""Sources: the file that a model's weights come from, where it is not a model's own folder."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from splitkit.steering.formats.shipped import MODELS
from splitkit.steering.model_state.wrappers import plain_model

_sources: "WeakKeyDictionary[nn.Module, dict[str, str]]" = WeakKeyDictionary()


def note_source(model: Any, **source: str) -> None:
    """Keep in mind the file (`file`, its `sha256`) that a model was loaded from."""
    _sources[plain_model(model)] = source


def source_of(model: Any) -> dict[str, dict[str, str]]:
    """The entry "source" of an intervention's details: file and SHA-256; {} for a plain folder's model."""
    found = _sources.get(plain_model(model))
    return {} if found is None else {"source": dict(found)}


def base_name(model: Any) -> str:
    """The name by which `load_model` finds a model: shipped, file, hub id or folder; "" where unknown."""
    source = source_of(model).get("source", {})
    # an adapter that was merged has another model as its base
    if "base" not in source and "file" in source:
        return source["file"]
    given = str(plain_model(model).name_or_path or "")
    return next((name for name, one in MODELS.items() if str(one.folder) == given), given)
