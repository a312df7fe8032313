"""Scale: m at each token of a forward pass, 0 at BOS."""

from typing import Any

from torch import Tensor, nn


def is_steered(decoder: nn.Module) -> bool:
    """Whether an intervention is applied to this decoder at the moment."""
    owners = (getattr(hook, "__self__", None) for hook in decoder._forward_pre_hooks.values())
    return any(isinstance(owner, Scale) for owner in owners)


class Scale:
    """m at each token of the forward pass that is under way: (batch, token or 1, 1), 0 at BOS."""

    def __init__(self, factors: Tensor, bos: int | None) -> None:
        self.factors, self.bos = factors, bos
        self.value = factors.reshape(-1, 1, 1)

    def observe(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A pre-hook of the decoder, which sees the token ids before any layer runs."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        rows = (kwargs["inputs_embeds"] if ids is None else ids).shape[0]
        if self.factors.ndim and len(self.factors) != rows:
            raise ValueError(
                f"m has {len(self.factors)} values, the batch has {rows} rows: give one number or one per "
                "row (beam search and returning several sequences make rows of their own: one number there)."
            )
        self.value = self.factors.reshape(-1, 1, 1)
        if ids is not None and self.bos is not None:
            self.value = self.value.to(ids.device) * (ids != self.bos).unsqueeze(-1)
