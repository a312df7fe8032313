"""The learning rate that a training gets when its caller names none, by how far its steps could reach."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from splitkit.steering.forms import Form
from splitkit.steering.replay import Replay
from splitkit.steering.tokenization import Encoded

TOKENS = 256
"""The answers' tokens that norms are taken from."""


def scaled_rate(
    replay: Replay,
    sequences: Sequence[Encoded],
    rows: Sequence[dict[str, Tensor]],
    steps: int,
    factor: float,
    rank: int,
) -> tuple[float, str]:
    """lr with m dh(lr (steps + 1) / 2) = `Form.reach` |h|: how far steps that go one way could push.

    AdamW moves every parameter by about its rate at each step, and the rate falls to 0, so that none moves
    further than lr (steps + 1) / 2. dh(a) is the median length of the change whose parameters have all moved
    by a; |h| is that of what it is added to (see `matching_strength`), m the mean factor of training.
    Wider models, more steps and larger factors so get a smaller rate, larger activations a larger one.

    Args:
        sequences, rows: the training's sequences and their recorded activations.
        steps: of the training. factor: the mean of the factors that it draws. rank: of a LoRA.

    Returns:
        The rate, and a sentence that says what it comes from.
    """
    form = replay.form
    x, h = (
        torch.cat([row[name][s.prompt_length :] for s, row in zip(sequences, rows, strict=True)])[
            :TOKENS
        ].float()
        for name in ("output" if form.site == "layer" else "down_input", replay.added_to)
    )
    wanted = form.reach * h.norm(dim=-1).median().item()
    low, high = -30.0, 10.0  # of log a
    for _ in range(50):
        middle = (low + high) / 2
        small = factor * _moved(form, math.exp(middle), x, rank, replay.sites.width) < wanted
        low, high = (middle, high) if small else (low, middle)
    rate = float(f"{2 * math.exp(low) / (steps + 1):.2g}")
    return rate, (
        f"lr {rate:g}, with which {steps} steps push by at most {form.reach:g} |h| at the mean factor "
        f"{factor:g} (|h| {wanted / form.reach:.3g}, width {replay.sites.width})"
    )


def _moved(form: Form, a: float, x: Tensor, rank: int, width: int) -> float:
    """Median |dh| over tokens where every parameter has moved by `a` in the direction that adds up."""
    start = form.fresh(x.shape[-1], 1, rank, torch.Generator().manual_seed(0))
    # each row of the down-projection changes alike: one stands for all
    dh = form.change({name: p.abs().to(x.device) + a for name, p in start.items()}, x.abs())
    return dh.norm(dim=-1).median().item() * math.sqrt(width)
