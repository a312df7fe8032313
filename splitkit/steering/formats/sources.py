"""Sources: the file that a model's weights come from, where it is not a model's own folder."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from splitkit.steering.model_state.wrappers import plain_model

_sources: "WeakKeyDictionary[nn.Module, dict[str, str]]" = WeakKeyDictionary()


def note_source(model: Any, **source: str) -> None:
    """Keep in mind the file (`file`, its `sha256`) that a model was loaded from."""
    _sources[plain_model(model)] = source


def source_of(model: Any) -> dict[str, dict[str, str]]:
    """The entry "source" of an intervention's details: file and SHA-256; {} for a plain folder's model."""
    found = _sources.get(plain_model(model))
    return {} if found is None else {"source": dict(found)}
