"""Head: losses of an answer's tokens straight from the last hidden states, a chunk at a time.

No (tokens, vocabulary) matrix of a whole batch is ever held, so memory does not grow with the vocabulary, and
a chunk's logits stay in the processor's cache while they are capped, normalised and differentiated.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

CHUNK = {"cpu": 2**19, "cuda": 2**27}
"""Logits held at a time, by kind of device: about what a core's cache holds, or what keeps a GPU busy."""


def token_losses_from_hidden(
    hidden: Float[Tensor, "token hidden"],
    head: nn.Linear,
    targets: Int[Tensor, " token"],
    cap: float | None = None,
) -> Float[Tensor, " token"]:
    """-log P(target) at each position, with logits = cap tanh(W hidden / cap) where there is a soft cap.

    Args:
        hidden: (token, hidden), what the head reads at the position before each target.
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
            logits = functional.linear(hidden[part], weight, bias).to(wide)  # (chunk, vocabulary)
            if cap is not None:
                logits.div_(cap).tanh_()
                slope = (1 - logits.square()) if gradient is not None else None
                logits.mul_(cap)
            chosen = logits.gather(1, target)
            # the largest is taken off before exp, as in logsumexp, but exp is done once and in place
            top = logits.amax(dim=1, keepdim=True)
            total = logits.sub_(top).exp_().sum(dim=1, keepdim=True)
            losses[part] = (total.log() + top - chosen).squeeze(1)
            if gradient is not None:
                logits.div_(total)
                logits.scatter_add_(1, target, -torch.ones_like(chosen))
                if cap is not None:
                    logits.mul_(cast(Tensor, slope))
                gradient[part] = logits.to(weight.dtype) @ weight
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.unsqueeze(1).to(gradient.dtype), None, None, None, None
