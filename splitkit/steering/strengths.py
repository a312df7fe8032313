"""Strengths m and other numbers as they are given, and m at each token of a forward pass."""

import math
import operator
import threading
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from splitkit.steering.model_state.token_choice import TokenChoice, Tokens
from splitkit.steering.prompts.settings import steered_tokens

Strength = float | Sequence[float] | np.ndarray | Tensor
"""The steering factor m: one number, or several: one per row of a batch, or a grid."""


def as_factors(m: Strength, several: str = "one per row of the batch") -> Float[Tensor, " rows"]:
    """m as a float32 tensor: () for one number, (batch,) for one per row.

    Args:
        m: the strengths as a caller gives them.
        several: the meaning of more than one number, for the errors.

    Raises:
        TypeError: when a value is not a number (a text, None, True).
        ValueError: when a value is not finite, when there is none, or for more than one axis.
    """
    try:
        factors = m if isinstance(m, Tensor) else torch.from_numpy(np.array(m))
        if factors.dtype == torch.bool or factors.is_complex():
            raise TypeError(f"values are {factors.dtype}")
    except (TypeError, ValueError) as error:
        raise TypeError(f"m is one real number or {several}, not {m!r}.") from error
    factors = factors.to(torch.float32)
    if factors.ndim > 1 or factors.numel() == 0:
        raise ValueError(f"m is one number or {several}, not of shape {tuple(factors.shape)}.")
    if not torch.isfinite(factors).all():
        raise ValueError(f"m must be finite, not {m!r}.")
    return factors


def as_factors_each(m: Strength | Mapping[int, Strength], parts: int) -> list[Float[Tensor, " rows"]]:
    """m of each of several parts: of all the same, or a dict of their numbers, as {0: 2.0, 1: [0.5, 1.0]}.

    Raises: ValueError for a dict that does not name each part once; besides, what `as_factors` raises.
    """
    if not isinstance(m, Mapping):
        return [as_factors(m)] * parts
    if set(m) != set(range(parts)):
        raise ValueError(
            f"m names the parts {sorted(m, key=str)}; it is one strength for all, or a dict with one for "
            f"each of {', '.join(map(str, range(parts)))}."
        )
    return [as_factors(m[part]) for part in range(parts)]


def as_grid(m: Strength) -> Float64[np.ndarray, " strength"]:
    """A grid of strengths as the caller's numbers, (strength,) in float64, whatever holds them.

    float32 is what they are applied in, but a table is looked up by what the caller wrote.

    Raises:
        TypeError: when a value is not a number (a text, None, True).
        ValueError: when a value is not finite or, in float32, there twice, when there is none, or for more
            than one axis.
    """
    factors = as_factors(m, "a grid of at least one").detach().reshape(-1)
    if len(factors.unique()) != len(factors):
        raise ValueError("the grid of m names a strength twice: each has its rows once.")
    given = m.detach().double().cpu().numpy() if isinstance(m, Tensor) else np.asarray(m, dtype=np.float64)
    return given.reshape(-1)


def is_steered(decoder: nn.Module) -> bool:
    """True while an intervention is applied to this decoder."""
    owners = (getattr(hook, "__self__", None) for hook in decoder._forward_pre_hooks.values())
    return any(isinstance(owner, Scale) for owner in owners)


class Scale(threading.local):
    """m at each token of the forward pass under way in this thread: (batch, token or 1, 1).

    It is 0 at BOS and where `tokens` leaves a token out.
    """

    def __init__(self, factors: Tensor, bos: tuple[int, ...], tokens: Tokens = "all") -> None:
        self.factors, self.bos, self.choice = factors, bos, TokenChoice(tokens)
        self.value = factors.reshape(-1, 1, 1)
        self._embedded: Tensor | None = None

    def attach(self, model: nn.Module, decoder: nn.Module, embedding: nn.Module) -> list[Any]:
        """Observe every pass of the decoder; the handles of the hooks that do."""
        return [
            model.register_forward_pre_hook(self._forget),
            embedding.register_forward_pre_hook(self._embed),
            decoder.register_forward_pre_hook(self.observe, with_kwargs=True),
            decoder.register_forward_hook(self._over, always_call=True),
        ]

    def _embed(self, embedding: nn.Module, args: tuple[Any, ...]) -> None:
        """What a multimodal model embeds itself, and hands to its decoder without the ids."""
        self._embedded = args[0] if args else None

    def _forget(self, *_: Any) -> None:
        self._embedded = None

    def _over(self, decoder: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A pass is over; its output has the cache."""
        self._forget()
        self.choice.keep(output)

    def observe(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A pre-hook of the decoder, which sees the token ids before any layer runs."""
        if decoder.training and torch.is_grad_enabled() and _checkpoints(decoder):
            raise ValueError(
                "gradient checkpointing runs layers once more in the backward pass, where they would not be "
                "steered alike: model.gradient_checkpointing_disable() or model.eval() first."
            )
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None and self._embedded is not None:
            ids = self._embedded if self._embedded.shape == kwargs["inputs_embeds"].shape[:2] else None
        given = kwargs["inputs_embeds"] if ids is None else ids
        rows = given.shape[0]
        if self.factors.ndim and len(self.factors) != rows:
            raise ValueError(
                f"m has {len(self.factors)} values, the batch has {rows} rows: give one number or one per "
                "row (beam search and returning several sequences make rows of their own: one number there)."
            )
        self.value = self.factors.reshape(-1, 1, 1)
        if ids is not None:
            self.value = self.value.to(ids.device) * steered_tokens(ids, self.bos).unsqueeze(-1)
        if self.choice.named or isinstance(self.choice.tokens, Tensor):
            self.value = self.value.to(given.device) * self.choice.here(given, kwargs).unsqueeze(-1)


def _checkpoints(decoder: nn.Module) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) for module in decoder.modules())


def whole_number(name: str, value: Any, least: int | None = 0) -> int:
    """`value` as an int; `name` is what an error calls it. numpy's whole numbers are some, 2.0 and True not.

    Raises:
        ValueError: for anything that is no whole number, or one below `least`, if there is one.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        bound = "" if least is None else f", {least} or more"
        raise ValueError(f"{name} must be a whole number{bound}, not {value!r}.")
    return number


def real_number(name: str, value: Any) -> float:
    """`value` as a float, or as an int where it is whole by type; `name` is what an error calls it.

    Raises:
        ValueError: for anything that is no finite real number (a text, None, True, NaN).
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}.")
    return int(value) if isinstance(value, Integral) else float(value)
