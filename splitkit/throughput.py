"""Throughput: tokens per second of this machine on a model, as `splitkit.cost` divides by."""

import time
from collections.abc import Callable

import torch

from splitkit.material import load
from splitkit.profiles import Profile

TOKENS, BATCH = 256, 8
"""Of the texts that run through the model; a text to be gone on with has a sixteenth."""
NEW = 32


def throughput(profile: Profile, name: str) -> tuple[float, float]:
    """Tokens per second: through all layers of a model, and written by it.

    Random tokens, in the profile's dtype and on its device; the second of two runs is timed. Raises: see
    `material.load`.
    """
    model = load(profile, name)[0]
    ids = torch.randint(10, model.config.vocab_size, (BATCH, TOKENS)).to(model.device)
    start = ids[:, : TOKENS // 16]

    def write() -> None:
        model.generate(start, attention_mask=torch.ones_like(start), min_new_tokens=NEW, max_new_tokens=NEW)  # type: ignore[operator]

    def run() -> None:
        model(ids, use_cache=False, logits_to_keep=1)

    with torch.inference_mode():
        return BATCH * TOKENS / _seconds(run), BATCH * NEW / _seconds(write)


def _seconds(work: Callable[[], None]) -> float:
    for _ in range(2):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
    return seconds
