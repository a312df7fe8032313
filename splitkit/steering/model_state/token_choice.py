"""The tokens that an intervention acts on: all, the answer's, the prompt's, or the prompt's last one."""

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool
from torch import Tensor

TOKENS = ("all", "answer", "prompt", "last")
"""All tokens; those of the answer; those of the prompt; the prompt's last one. None of them is BOS."""

Tokens = str | Tensor
"""A name of `TOKENS`, or the positions themselves: True where to act, (batch, token)."""


def check_tokens(tokens: Any) -> None:
    """Raises ValueError for an unknown name, TypeError for a tensor that is no mask."""
    if isinstance(tokens, Tensor):
        if tokens.ndim != 2 or tokens.dtype != torch.bool:
            raise TypeError(
                "tokens as a tensor are a mask of True and False, (batch, token), not "
                f"{tokens.dtype} of shape {tuple(tokens.shape)}."
            )
    elif tokens not in TOKENS:
        raise ValueError(
            f"unknown tokens {tokens!r}; there are {', '.join(TOKENS)}, or a mask (batch, token)."
        )


def check_names(tokens: Any) -> None:
    """Raises ValueError for anything but a name of `TOKENS`."""
    if not isinstance(tokens, str) or tokens not in TOKENS:
        raise ValueError(f"unknown tokens {tokens!r}; there are {', '.join(TOKENS)}.")


def chosen_tokens(answer: Bool[Tensor, "batch token"], tokens: str) -> Bool[Tensor, "batch token"]:
    """The positions that a name of `TOKENS` means where the answer's are known, padding aside."""
    if tokens == "answer":
        return answer
    if tokens == "prompt":
        return ~answer
    if tokens == "last":
        last = torch.zeros_like(answer)
        last[:, :-1] = answer[:, 1:] & ~answer[:, :-1]
        return last
    return torch.ones_like(answer)


class TokenChoice:
    """The positions that `tokens` mean in each forward pass of a decoder, one pass after the other.

    In `generate` the prompt is what it was given. Elsewhere it is what the first pass holds: a later one that
    goes on, with its cache or with the same ids at its beginning, holds tokens of the answer behind it.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        # end of the prompt (a column), and its attention mask
        self._generating: tuple[int, Tensor | None] | None = None
        self._of_caches: WeakKeyDictionary[Any, tuple[int, Tensor | None]] = WeakKeyDictionary()
        self._before: tuple[Tensor, tuple[int, Tensor | None]] | None = None

    @property
    def named(self) -> bool:
        """True where a name says less than all tokens, so that the prompt's end has to be known."""
        return isinstance(self.tokens, str) and self.tokens != "all"

    def begin(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """`generate` starts with these arguments."""
        given = [kwargs.get("inputs_embeds"), kwargs.get("input_ids"), kwargs.get("inputs"), *args[:1]]
        # without any prompt it starts from BOS
        end = next((prompt.shape[1] for prompt in given if prompt is not None), 1)
        self._generating = end, _plain(kwargs.get("attention_mask"))

    def end(self) -> None:
        """`generate` is done."""
        self._generating = None

    def here(self, given: Tensor, kwargs: Mapping[str, Any]) -> Bool[Tensor, "rows tokens"]:
        """The positions of the pass that begins: (batch or 1, token).

        Args:
            given: ids (batch, token) or embeddings (batch, token, hidden).
            kwargs: the decoder's other arguments.

        Raises:
            ValueError: when a mask was given and the pass has another shape.
        """
        rows, length = given.shape[:2]
        if isinstance(self.tokens, Tensor):
            if tuple(self.tokens.shape) != (rows, length):
                raise ValueError(
                    f"tokens is a mask of shape {tuple(self.tokens.shape)}, the forward pass has "
                    f"{rows} rows of {length} tokens; names, as 'answer', fit any pass."
                )
            return self.tokens.to(given.device)
        start = _cached(kwargs, length)
        end, mask = self._prompt(given, start, kwargs)
        column = torch.arange(start, start + length, device=given.device)
        if self.tokens == "answer":
            return (column >= end)[None]
        if self.tokens == "prompt":
            return (column < end)[None]
        if mask is None:
            return (column == end - 1)[None]
        # padded on the right, rows end at columns of their own
        last = (mask[:, :end].to(column.device) * torch.arange(1, end + 1, device=column.device)).amax(1) - 1
        return column == last.repeat_interleave(rows // len(last))[:, None]

    def keep(self, output: Any) -> None:
        """A pass is over: the cache that it gives out belongs to its prompt."""
        parts = output if isinstance(output, tuple) else (getattr(output, "past_key_values", None),)
        cache = next((part for part in parts if hasattr(part, "get_seq_length")), None)
        if cache is not None and self._before is not None and self._generating is None:
            self._of_caches.setdefault(cache, self._before[1])

    def _prompt(self, given: Tensor, start: int, kwargs: Mapping[str, Any]) -> tuple[int, Tensor | None]:
        if self._generating is not None:
            return self._generating
        cache = kwargs.get("past_key_values")
        if start and cache in self._of_caches:
            return self._of_caches[cache]
        prompt = start + given.shape[1], _plain(kwargs.get("attention_mask"))
        if not start and self._before is not None and _goes_on(self._before[0], given):
            prompt = self._before[1]
        self._before = given, prompt
        if cache is not None:
            self._of_caches[cache] = prompt
        return prompt


def _goes_on(before: Tensor, given: Tensor) -> bool:
    length = before.shape[1]
    same_kind = before.ndim == given.ndim and len(before) == len(given) and length < given.shape[1]
    return same_kind and torch.equal(given[:, :length], before)


def _cached(kwargs: Mapping[str, Any], length: int) -> int:
    """Number of columns before those of a pass, which a cache holds."""
    cache, mask = kwargs.get("past_key_values"), _plain(kwargs.get("attention_mask"))
    if cache is not None and hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    return 0 if mask is None else mask.shape[1] - length


def _plain(mask: Any) -> Tensor | None:
    """A mask of rows and columns; None for those that say what each token sees."""
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
