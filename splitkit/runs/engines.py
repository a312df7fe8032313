"""Engines: the processes that compute a run's cells, on this machine or on the workers of a dask cluster.

Workers share a folder with the run: a cell's result is its folder; its name and an error's text come back.
Start every worker from the same checkout, with SPLITKIT_CACHE naming the run's cache as its machine sees it,
and with one thread (`dask worker <address> --nthreads 1`): results then repeat bit for bit. Whoever reaches a
dask scheduler can run code on its workers: keep it on a private network, or use dask's TLS.

joblib's own dask backend is not used. With one worker it computes in the calling process, and it waits for
ever for a task whose workers all died or could not read it (joblib 1.6).
"""

import importlib
import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import joblib

from splitkit.storage import paths

Item = TypeVar("Item")
Outcome = tuple[Item, str | None]
"""An item and the text of its error, None where there was none."""
Work = Callable[[Item], tuple[Item, str | None]]
"""A function that gives the outcome of an item."""

PATIENCE = 20.0
"""Time for a dask scheduler to answer, in seconds."""

IDLE = 60.0
"""Time without a worker after which a run says so, in seconds."""

WORKERS: dict[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
"""Environment of this machine's processes: one thread each, and glibc's allocator, where it is that one,
keeps the memory of freed tensors (up to 32 MiB) for the next ones."""


def cores() -> int:
    """Default number of processes side by side: one per core, 8 at most, for memory's sake."""
    return int(min(8, joblib.cpu_count()))


def prepare_workers() -> None:
    """Set what the environment does not say of `WORKERS`, for the processes started from now on."""
    for name, value in WORKERS.items():
        os.environ.setdefault(name, value)


class EngineError(RuntimeError):
    """Nothing further can be computed; what is finished is kept."""


class Engine(Protocol):
    """Anything that works through a sequence of items side by side."""

    def map_unordered(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        """`work(item)` for every item, each as soon as it is done, in no order.

        EngineError when no further item can be worked on; an error of one item ends only that one.
        """


@dataclass(frozen=True)
class Loky:
    """Processes of this machine."""

    jobs: int = 2

    def map_unordered(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        """See `Engine.map_unordered`."""
        run = joblib.Parallel(n_jobs=self.jobs, backend="loky", return_as="generator_unordered", batch_size=1)
        try:
            yield from run(joblib.delayed(work)(item) for item in items)
        except BrokenProcessPool as error:
            raise EngineError(
                f"a worker process died, perhaps for want of memory: {error} What is finished is kept; the "
                "same command goes on from there."
            ) from error


@dataclass(frozen=True)
class Dask:
    """The workers of the dask cluster whose scheduler has this address, as in tcp://node17:8786.

    An item whose worker dies is given to another one, four times at most. With `gpu` an item goes only to a
    worker started with `--resources "GPU=1"`, which works on one at a time.
    """

    scheduler: str
    gpu: bool = False

    def map_unordered(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        """See `Engine.map_unordered`. EngineError also for a scheduler that does not answer or is lost."""
        distributed = _import("distributed")
        try:
            client = distributed.Client(self.scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EngineError(f"no dask scheduler answers at {self.scheduler}: {error}") from error
        paths.CACHE.mkdir(parents=True, exist_ok=True)
        # a worker that does not see this file shares no cache
        alone = tempfile.NamedTemporaryFile(dir=paths.CACHE, prefix=".run-")  # noqa: SIM115
        with client, alone as file, self._warn_without_workers(client):
            token = Path(file.name).name
            # keys of their own: two runs on one cluster do not take each other's outcomes for theirs
            keys = {f"{item}-{token}": item for item in items}
            # as_completed alone holds the futures, so that each is forgotten here and there once it is out
            done = distributed.as_completed(
                client.map(
                    partial(_on_worker, work, token),
                    list(keys.values()),
                    key=list(keys),
                    pure=False,
                    resources={"GPU": 1} if self.gpu else None,
                ),
                loop=client.loop,
                with_results=True,
                raise_errors=False,
            )
            for future, result in done:
                item = keys.pop(future.key)
                if future.cancelled():
                    # the client would log its vain attempts to reach the scheduler
                    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
                    raise EngineError(
                        f"the dask scheduler at {self.scheduler} was lost. What is finished is kept: start a "
                        "scheduler and workers, and the same command goes on from there."
                    )
                if future.status != "error":
                    yield result
                elif isinstance(result[1], EngineError):
                    raise result[1]
                else:
                    yield item, f"{type(result[1]).__name__}: {result[1]}"

    @contextmanager
    def _warn_without_workers(self, client: Any) -> Iterator[None]:
        """Log the command that starts a worker, at once if there is none, else after `IDLE` without one."""
        over = threading.Event()

        def watch() -> None:
            missed = 3
            while True:
                try:
                    workers = client.scheduler_info(n_workers=-1)["workers"].values()
                except Exception:  # a lost scheduler, in one of the client's many words: the run tells of it
                    return
                there = any(worker["resources"].get("GPU") or not self.gpu for worker in workers)
                missed = 0 if there else missed + 1
                if missed == 4:
                    tag = ' --resources "GPU=1"' if self.gpu else ""
                    logging.getLogger(__name__).warning(
                        "waiting for workers: dask worker %s --nthreads 1%s", self.scheduler, tag
                    )
                if over.wait(IDLE / 4):
                    return

        watcher = threading.Thread(target=watch, name="splitkit-workers", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join(PATIENCE)


@dataclass(frozen=True)
class Slurm:
    """Dask workers that SLURM starts for this run and that end with it: `jobs` jobs of one worker each.

    `options` are those of `dask_jobqueue.SLURMCluster`: memory, walltime, queue, account, ...; for `gpu` (see
    `Dask`) they have to ask for one, as in job_extra_directives: ["--gres=gpu:1"].
    """

    jobs: int
    options: dict[str, Any]
    gpu: bool = False

    def map_unordered(self, work: Work[Item], items: Sequence[Item]) -> Iterator[Outcome[Item]]:
        """See `Engine.map_unordered`. EngineError also for options that SLURM cannot be asked with."""
        with self.cluster() as cluster:
            cluster.scale(jobs=self.jobs)
            yield from Dask(cluster.scheduler_address, self.gpu).map_unordered(work, items)

    def cluster(self) -> Any:
        """The `SLURMCluster`, without a job yet."""
        cores = self.options.get("cores", 1)
        extra = [*self.options.get("worker_extra_args", ()), *(("--resources", "GPU=1") if self.gpu else ())]
        options = {**self.options, "cores": cores, "processes": cores, "worker_extra_args": extra}
        try:
            return _import("dask_jobqueue").SLURMCluster(**options)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise EngineError(f"no cluster can be made of these SLURM options: {error}") from error


def read_slurm(path: Path, gpu: bool = False) -> Slurm:
    """The engine that a JSON file describes: "jobs", "memory" and more options of `SLURMCluster`.

    ValueError names what is wrong with the file.
    """
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read SLURM settings from {path}: {error}") from error
    jobs = options.pop("jobs", None) if isinstance(options, dict) else None
    if type(jobs) is not int or jobs < 1 or "memory" not in options:
        raise ValueError(
            f'{path} has to be a JSON object with "jobs", the number of SLURM jobs, and "memory", what each '
            'gets, as in "32GB"'
        )
    return Slurm(jobs, options, gpu)


def _on_worker(work: Work[Item], token: str, item: Item) -> Outcome[Item]:
    from distributed import get_worker

    worker = get_worker()
    if worker.state.nthreads != 1:
        raise EngineError(
            f"dask worker {worker.address} has {worker.state.nthreads} threads: start it with --nthreads 1"
        )
    if not (paths.CACHE / token).exists():
        raise EngineError(
            f"the dask worker {worker.address} does not share the run's cache: its own is {paths.CACHE}. "
            "Start it with SPLITKIT_CACHE naming the run's, on a file system that both see."
        )
    return work(item)


def _import(name: str) -> Any:
    before = signal.getsignal(signal.SIGINT)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EngineError(f"this engine needs {name}: pip install -e '.[cluster]'") from error
    finally:
        # dask_jobqueue, once imported, would make a silent exit of Ctrl-C
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
