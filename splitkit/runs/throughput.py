"""Throughput: tokens per second of this machine on a model, as `splitkit.runs.cost` divides by."""

import time
from collections.abc import Callable

import torch

from splitkit.runs.answers import load
from splitkit.runs.cells import own_threads
from splitkit.runs.judged_answers import BATCH_SIZE as GRADED
from splitkit.runs.profiles import Profile
from splitkit.runs.world_answers import BATCH_SIZE as EVALUATED
from splitkit.steering.model_files import is_shipped

TOKENS, ROWS = 64, 64
"""Of the texts that run through the model: a pass of about as many tokens as cells have."""
START, NEW = 16, 32
"""Tokens of a text that is gone on with, and of how it goes on."""


def throughput(profile: Profile, name: str) -> tuple[float, float]:
    """Tokens per second: through all layers of a model, and written by it.

    Random tokens, in the profile's dtype, on its device and in as many threads as a cell has; the second of
    two runs is timed. Raises: see `material.load`.
    """
    model, rows = load(profile, name)[0], EVALUATED if is_shipped(name) else GRADED
    ids = torch.randint(10, model.config.vocab_size, (max(ROWS, rows), TOKENS)).to(model.device)
    start = ids[:rows, :START]

    def write() -> None:
        model.generate(start, attention_mask=torch.ones_like(start), min_new_tokens=NEW, max_new_tokens=NEW)  # type: ignore[operator]

    def run() -> None:
        model(ids[:ROWS], use_cache=False, logits_to_keep=1)

    with torch.inference_mode(), own_threads():
        return ROWS * TOKENS / _seconds(run), rows * NEW / _seconds(write)


def _seconds(work: Callable[[], None]) -> float:
    for _ in range(2):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begun
    return seconds
