"""Exclusive use: one thread or task at a time changes what a model computes, and nothing runs compiled."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

_lock = threading.RLock()
_users: "WeakKeyDictionary[nn.Module, list[tuple[object, object]]]" = WeakKeyDictionary()


@contextmanager
def exclusive(model: nn.Module) -> Iterator[None]:
    """No other thread or asyncio task steers, trains or measures `model` while the `with` lasts.

    The same one may enter again. Compiled models run as they are written meanwhile, in this whole process:
    a graph that was compiled before knows nothing of a hook, and one that is compiled now would keep it.

    Raises:
        RuntimeError: when another thread or task is inside.
    """
    me = (threading.current_thread(), _task())
    with _lock:
        inside = _users.setdefault(model, [])
        if any(user != me for user in inside):
            raise RuntimeError(
                "this model is being steered, trained or measured in another thread or task: wait until that "
                "is done (a generator left half way inside its `with` counts: close it), or load the model "
                "once more. Several strengths at once are one m per row."
            )
        _eager.enter()
        inside.append(me)
    try:
        yield
    finally:
        with _lock:
            inside.remove(me)
            _eager.leave()


def _task() -> object:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return None


class _Eager:
    """The stance of torch.compile, one for the whole process, which threads enter and leave in any order."""

    count = 0
    stance: Any = None

    def enter(self) -> None:
        if not self.count:
            self.stance = torch.compiler.set_stance("force_eager")
        self.count += 1

    def leave(self) -> None:
        self.count -= 1
        if not self.count:
            # back to what it was before
            self.stance.__exit__(None, None, None)


_eager = _Eager()
