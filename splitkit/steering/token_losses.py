"""Token losses: the losses of an answer's tokens straight from the last hidden states, chunk by chunk.

No (tokens, vocabulary) matrix of a whole batch is ever held, so memory does not grow with the vocabulary, and
a chunk's logits stay in the processor's cache while they are capped, normalised and differentiated.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

CHUNK = {"cpu": 2**19, "cuda": 2**27}
"""Number of logits held at a time, by kind of device: a core's cache full, or enough to keep a GPU busy."""


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
        step = max(1, CHUNK.get(hidden.device.type, CHUNK["cpu"]) // len(weight))
        for start in range(0, len(hidden), step):
            part = slice(start, start + step)
            target = targets[part].unsqueeze(1)
            scores = functional.linear(hidden[part], weight, bias).to(wide)  # (chunk, vocabulary)
            gate = None
            if cap is not None:
                # tanh(x) = 2 sigmoid(2x) - 1, which is many times faster here
                gate = scores.mul_(2 / cap).sigmoid_()
                scores = (gate - 0.5).mul_(2 * cap)
            chosen, top = scores.gather(1, target), scores.amax(1)
            shares = torch.softmax(scores, 1)
            # the likeliest token's share is 1 over the sum of exp(score - top), and never rounds to 0
            losses[part] = top - shares.amax(1).log() - chosen.squeeze(1)
            if gradient is not None:
                # P(v) - [v = target], times the cap's slope 1 - tanh^2 = 4 gate (1 - gate)
                shares.scatter_add_(1, target, shares.new_full((), -1.0).expand_as(target))
                if gate is not None:
                    shares.mul_(torch.addcmul(gate, gate, gate, value=-1).mul_(4))
                gradient[part] = shares.to(weight.dtype) @ weight
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.unsqueeze(1).to(gradient.dtype), None, None, None, None
