"""Workers: a run on a cluster says so while there are none, and goes on when one comes."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

IDLE = 60.0
"""Seconds without any worker after which a run says what it waits for."""
PATIENCE = 20.0
"""Seconds that the watch has to end in."""


@contextmanager
def told_of_absence(client: Any, scheduler: str, gpu: bool) -> Iterator[None]:
    """Warn, with the command to start one, at once when there is no worker, and when all are gone for `IDLE`.

    Args:
        client: of dask.distributed.
        scheduler: its address.
        gpu: whether only a worker with a GPU's tag is one.
    """
    over = threading.Event()
    watcher = threading.Thread(
        target=_watch, args=(client, scheduler, gpu, over), name="splitkit-workers", daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(PATIENCE)


def _watch(client: Any, scheduler: str, gpu: bool, over: threading.Event) -> None:
    seen, told = time.monotonic() - IDLE, False
    while True:
        try:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
        except Exception:  # a lost scheduler, in one of the client's many words: the run itself tells of it
            return
        now = time.monotonic()
        if any(worker["resources"].get("GPU") or not gpu for worker in workers):
            seen, told = now, False
        elif not told and now - seen >= IDLE:
            tag = ' --resources "GPU=1"' if gpu else ""
            logging.getLogger(__name__).warning(
                "waiting for workers: dask worker %s --nthreads 1%s", scheduler, tag
            )
            told = True
        if over.wait(IDLE / 4):
            return
