"""Attached interventions: those that stay on a model beyond any `with`, until they are detached."""

import threading
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from splitkit.steering.model_state.wrappers import plain_model

_lock = threading.RLock()
_attached: "WeakKeyDictionary[nn.Module, list[tuple[Any, AbstractContextManager[Any]]]]" = WeakKeyDictionary()


def attach(intervention: Any, model: Any, applied: AbstractContextManager[Any]) -> None:
    """Enter `applied`, that of an intervention to a model, and keep it. RuntimeError where one is kept."""
    model = plain_model(model)
    with _lock:
        if any(one is intervention for one, _ in _attached.get(model, [])):
            raise RuntimeError(
                "this intervention is attached to this model already: detach it first, to attach it with "
                "another m."
            )
        applied.__enter__()
        _attached.setdefault(model, []).append((intervention, applied))


def detach(intervention: Any, model: Any) -> None:
    """Leave what `attach` entered. RuntimeError where nothing was."""
    model = plain_model(model)
    with _lock:
        kept = _attached.get(model, [])
        found = next((entry for entry in kept if entry[0] is intervention), None)
        if found is None:
            raise RuntimeError(f"this intervention is not attached to this {type(model).__name__}.")
        kept.remove(found)
        found[1].__exit__(None, None, None)
