"""Head: losses of an answer's tokens straight from the last hidden states, a chunk at a time.

No (tokens, vocabulary) matrix of a whole batch is ever held, so memory does not grow with the vocabulary, and
a chunk's logits stay in the processor's cache while they are capped, normalised and differentiated.
"""

from typing import Any

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
            scores = functional.linear(hidden[part], weight, bias).to(wide)  # (chunk, vocabulary)
            if cap is None:
                slope, chosen = None, scores.gather(1, target)
                # the largest is taken off before exp, as in logsumexp
                top = scores.amax(dim=1, keepdim=True)
                scores.sub_(top).exp_()
            else:
                # capped logits need nothing taken off; exp(30) is far from float32's end
                slope = scores.div_(cap).tanh_()
                chosen, top = cap * slope.gather(1, target), scores.new_zeros(())
                scores = (cap * slope).exp_()
            total = scores.sum(dim=1, keepdim=True)
            losses[part] = (total.log() + top - chosen).squeeze(1)
            if gradient is not None:
                # P(v) - [v = target], times the cap's slope; the sum is divided by at the narrow end
                scores.scatter_add_(1, target, -total)
                if slope is not None:
                    scores.addcmul_(scores, slope.square_(), value=-1)
                gradient[part] = (scores.to(weight.dtype) @ weight) / total.to(weight.dtype)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.unsqueeze(1).to(gradient.dtype), None, None, None, None
