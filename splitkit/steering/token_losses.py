"""Token losses: the losses of an answer's tokens straight from the last hidden states, chunk by chunk.

No (tokens, vocabulary) matrix of a whole batch is ever held. The logits of `ROWS` tokens or more come of one
product, and a chunk of them stays in the processor's cache while it is capped, normalised and differentiated.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

CHUNK = {"cpu": 2**19, "cuda": 2**27}
"""Number of logits handled at once, by kind of device: a core's cache full, or enough to keep a GPU busy."""

ROWS = 128
"""Fewest tokens of a product with the head's weights: below it, reading them costs more than multiplying."""


def token_losses_from_hidden(
    hidden: Float[Tensor, "token hidden"],
    head: nn.Linear,
    targets: Int[Tensor, " token"],
    cap: float | None = None,
) -> Float[Tensor, " token"]:
    """-log P(target) at each position, with logits = cap tanh(W hidden / cap) where there is a soft cap.

    Args:
        hidden: (token, hidden), the head's input at the position before each target.
        head: the model's output embedding; its weights get no gradient.
        targets: (token,), the ids to predict.
        cap: Gemma2's soft cap on the logits, or None.

    Returns:
        (token,) in nats, float32 at least; differentiable in `hidden`.
    """
    return _TokenLosses.apply(hidden, head.weight, head.bias, targets, cap)  # type: ignore[no-any-return]


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, cap: float | None
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        losses = torch.empty(len(hidden), dtype=wide, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        few = max(1, CHUNK.get(hidden.device.type, CHUNK["cpu"]) // len(weight))
        rows = max(few, ROWS)
        # one buffer for all products: a new one each time would cost the time of clearing it
        logits = hidden.new_empty(min(rows, len(hidden)), len(weight))
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            found = logits[: len(hidden[part])]  # (rows, vocabulary)
            if bias is None:
                torch.mm(hidden[part], weight.T, out=found)
            else:
                torch.addmm(bias, hidden[part], weight.T, out=found)
            target = targets[part].unsqueeze(1)
            for loss, block, index in zip(
                losses[part].split(few), found.split(few), target.split(few), strict=True
            ):
                loss[:], slope = _from_logits(block.to(wide), index, cap, gradient is not None)
                if slope is not None:
                    block.copy_(slope)
            if gradient is not None:
                torch.mm(found, weight, out=gradient[part])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.unsqueeze(1).to(gradient.dtype), None, None, None, None


def _from_logits(
    scores: Float[Tensor, "chunk vocabulary"], target: Int[Tensor, "chunk 1"], cap: float | None, sloped: bool
) -> tuple[Float[Tensor, " chunk"], Float[Tensor, "chunk vocabulary"] | None]:
    """Losses, and if `sloped` their derivatives by the logits before the cap; `scores` are overwritten."""
    gate = None
    if cap is not None:
        # tanh(x) = 2 sigmoid(2x) - 1, which is many times faster here
        gate = scores.mul_(2 / cap).sigmoid_()
        scores = (gate - 0.5).mul_(2 * cap)
    chosen, top = scores.gather(1, target), scores.amax(1)
    shares = torch.softmax(scores, 1)
    # the likeliest token's share is 1 over the sum of exp(score - top), and never rounds to 0
    losses = top - shares.amax(1).log() - chosen.squeeze(1)
    if not sloped:
        return losses, None
    # P(v) - [v = target], times the cap's slope 1 - tanh^2 = 4 gate (1 - gate)
    shares.scatter_add_(1, target, shares.new_full((), -1.0).expand_as(target))
    if gate is not None:
        shares.mul_(torch.addcmul(gate, gate, gate, value=-1).mul_(4))
    return losses, shares
