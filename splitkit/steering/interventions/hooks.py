"""Hooks: m dh is added to the output of one place of a model, and `generate` tells where its prompt ends."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from splitkit.steering.forms import Form, get_form
from splitkit.steering.strengths import Scale


class Term(Protocol):
    """What a sum has of an intervention; see `single.Intervention`, the only one."""

    form: str
    layer: int
    parameters: dict[str, Tensor]
    base_digest: str
    details: dict[str, Any]

    @property
    def tokens(self) -> str: ...

    def delta(self, x: Tensor) -> Tensor: ...

    def check_base(self, model: PreTrainedModel) -> None: ...

    def content(self) -> tuple[dict[str, Any], dict[str, Tensor]]: ...


def add_scaled(h: Tensor, dh: Tensor, scale: Tensor) -> Tensor:
    """h' = h + m dh (Eq. 5), in float32 at least; where the scale is 0, h itself, bit for bit.

    Shapes: h and dh (batch, token, hidden), scale (batch, token or 1, 1).
    """
    wide = torch.promote_types(h.dtype, torch.float32)
    moved = h.to(wide) + scale.to(wide) * dh.to(wide)
    return torch.where(scale == 0, h, moved.to(h.dtype))


def hook(site: nn.Module, acting: Sequence[tuple[Term, Scale]]) -> Any:
    """A hook that adds the terms that act at one place to its output."""
    device = next(site.parameters()).device
    # moved once, not at every token
    moved = [({name: p.to(device) for name, p in term.parameters.items()}, term, s) for term, s in acting]

    def steer(module: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
        # some architectures' layers return more than the residual stream
        h, *rest = output if isinstance(output, tuple) else (output,)
        changes = []
        for parameters, term, scale in moved:
            form = get_form(term.form)
            x = h if form.site == "layer" else args[0]
            changes.append((change(form, parameters, x), scale.value.to(h.device)))
        found = add_scaled(h, *(changes[0] if len(changes) == 1 else _total(changes)))
        return (found, *rest) if isinstance(output, tuple) else found

    return steer


def change(form: Form, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    """`Form.change` in the types that it asks for, whatever autocast would rather have."""
    if not torch.is_autocast_enabled(x.device.type):
        return form.change(parameters, x)
    with torch.autocast(x.device.type, enabled=False):
        return form.change(parameters, x)


def _total(changes: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """sum_i scale_i dh_i, and 1 where any scale is not 0."""
    dh = sum(scale.to(dh.dtype) * dh for dh, scale in changes)
    acts = sum((scale != 0).to(scale.dtype) for _, scale in changes)
    return dh, (acts != 0).to(acts.dtype)  # type: ignore[return-value,union-attr]


@contextmanager
def observed_generate(model: PreTrainedModel, scales: Sequence[Scale]) -> Iterator[None]:
    """`model.generate` tells where its prompt ends, for those scales that want to know.

    Continuous batching packs all prompts into one row, in which nothing tells rows and prompts apart: where
    that counts it is refused. So is `save_pretrained`, which knows nothing of a hook.
    """
    with ExitStack() as stack:
        stack.enter_context(_replaced(model, "save_pretrained", _refuse_saving, None))
        kinds = [(scale.factors.ndim, scale.choice.tokens) for scale in scales]
        if any(axes or isinstance(tokens, Tensor) or tokens != "all" for axes, tokens in kinds):
            stack.enter_context(_replaced(model, "init_continuous_batching", _refuse_packing, None))
        for scale in scales:
            if scale.choice.named:
                stack.enter_context(_replaced(model, "generate", _telling, scale))
        yield


def _refuse_packing(inner: Any, users: list[Any]) -> Any:
    def init_continuous_batching(*_: Any, **__: Any) -> Any:
        raise ValueError(
            "generate_batch packs all prompts into one row: it works with one m for all and tokens='all'. "
            "model.generate and splitkit.answers take one m per row and tokens."
        )

    return init_continuous_batching


def _refuse_saving(inner: Any, users: list[Any]) -> Any:
    def save_pretrained(*_: Any, **__: Any) -> Any:
        raise RuntimeError(
            "save_pretrained would write the unsteered model, since steering is no part of its weights: "
            "splitkit.export(intervention, model, folder, format='checkpoint', m=m) writes the steered one; "
            "outside of the `with`, or detached, save_pretrained writes the base model."
        )

    return save_pretrained


def _telling(inner: Any, users: list[Any]) -> Any:
    @wraps(inner)
    def generate(*args: Any, **kwargs: Any) -> Any:
        # those of now: one may come or go meanwhile
        choices = [scale.choice for scale in users]
        for choice in choices:
            choice.begin(args, kwargs)
        try:
            return inner(*args, **kwargs)
        finally:
            for choice in choices:
                choice.end()

    return generate


@contextmanager
def _replaced(model: PreTrainedModel, name: str, make: Any, user: Any) -> Iterator[None]:
    """A method of one model is `make(itself, users)` until its last user has left, in any order."""
    method = _shared(model, name, make)
    before = method._before
    method._users.append(user)
    try:
        yield
    finally:
        method._users.pop(next(n for n, one in enumerate(method._users) if one is user))
        if not method._users and vars(model).get(name) is method:
            delattr(model, name)
            if before is not None:
                setattr(model, name, before)


def _shared(model: PreTrainedModel, name: str, make: Any) -> Any:
    """The method that all users of `_replaced` share, made for the first of them."""
    found = vars(model).get(name)
    if hasattr(found, "_users"):
        return found
    users: list[Any] = []
    method = make(getattr(model, name), users)
    method._users, method._before = users, found
    setattr(model, name, method)
    return method
