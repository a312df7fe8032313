"""Engines: where cells are computed. Processes of this machine, or the workers of a dask cluster.

Workers on other machines need no data from this one: a cell's result is its folder, and only the cell's name
and an error's text come back. So they share a folder with the run. Start every worker from the same checkout
(or the same version of it), with SPLITKIT_CACHE naming the run's cache as the worker's machine sees it, and
with one thread (`dask worker <address> --nthreads 1`): results then repeat bit for bit. Whoever reaches a
dask scheduler can run code on its workers: keep it on a private network, or use dask's TLS.
"""

import importlib
import json
import logging
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import joblib

from splitkit.runs.workers import told_of_absence
from splitkit.storage import paths

Item = TypeVar("Item")
Outcome = tuple[Item, str | None]
"""What was worked on, and in words what went wrong, if anything did."""


PATIENCE = 20.0
"""Seconds that a dask scheduler has to answer in."""


def cores() -> int:
    """How many processes work side by side unless a user says: one per core, 8 at most, for memory's sake."""
    return int(min(8, joblib.cpu_count()))


WORKERS: dict[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
"""What processes of this machine start with: one thread each, and glibc's allocator, where it is that one,
keeps for the next tensor (up to 32 MiB) what a freed one had, instead of asking the system anew."""


def prepare_workers() -> None:
    """Set what the environment does not say of `WORKERS`, for the processes started from now on."""
    for name, value in WORKERS.items():
        os.environ.setdefault(name, value)


class EngineError(RuntimeError):
    """Nothing further can be computed; what is finished is kept."""


class Engine(Protocol):
    """Anything that works through a sequence of items side by side."""

    def outcomes(
        self, work: Callable[[Item], Outcome[Item]], items: Sequence[Item]
    ) -> Iterator[Outcome[Item]]:
        """`work(item)` for every item, each as soon as it is done, in no order.

        EngineError when no further item can be worked on; an error of one item ends only that one.
        """


@dataclass(frozen=True)
class Loky:
    """Processes of this machine."""

    jobs: int = 2

    def outcomes(
        self, work: Callable[[Item], Outcome[Item]], items: Sequence[Item]
    ) -> Iterator[Outcome[Item]]:
        """See `Engine.outcomes`."""
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
    """The workers of a dask cluster. An item whose worker dies is given to another one, four times at most.

    Args:
        scheduler: its address, as in tcp://node17:8786.
        gpu: give an item only to a worker started with `--resources "GPU=1"`, which works on one at a time.
    """

    scheduler: str
    gpu: bool = False

    def outcomes(
        self, work: Callable[[Item], Outcome[Item]], items: Sequence[Item]
    ) -> Iterator[Outcome[Item]]:
        """See `Engine.outcomes`. EngineError also for a scheduler that does not answer or is lost."""
        distributed = _import("distributed")
        try:
            client = distributed.Client(self.scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EngineError(f"no dask scheduler answers at {self.scheduler}: {error}") from error
        with client, _token() as token, told_of_absence(client, self.scheduler, self.gpu):
            # keys of their own: two runs on one cluster do not take each other's outcomes for theirs
            keys = {f"{item}-{token.name}": item for item in items}
            futures = client.map(
                partial(_on_worker, work, token.name),
                list(keys.values()),
                key=list(keys),
                pure=False,
                resources={"GPU": 1} if self.gpu else None,
            )
            done = distributed.as_completed(futures, loop=client.loop, with_results=True, raise_errors=False)
            # each is forgotten, here and on the cluster, once its outcome is out
            del futures
            for future, result in done:
                if future.cancelled():
                    _close(client)
                    raise EngineError(
                        f"the dask scheduler at {self.scheduler} was lost. What is finished is kept: start a "
                        "scheduler and workers, and the same command goes on from there."
                    )
                yield self._outcome(keys.pop(future.key), future.status, result)

    @staticmethod
    def _outcome(item: Item, status: str, result: Any) -> Outcome[Item]:
        if status != "error":
            return result
        error = result[1]
        if isinstance(error, EngineError):
            raise error
        return item, f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Slurm:
    """Dask workers that SLURM starts for this run and that end with it; the scheduler is in this process.

    Args:
        jobs: how many SLURM jobs, of one worker each.
        options: of `dask_jobqueue.SLURMCluster`: memory, walltime, queue, account, job_extra_directives, ...
        gpu: see `Dask`; the options have to ask for the GPU, as in job_extra_directives: ["--gres=gpu:1"].
    """

    jobs: int
    options: dict[str, Any] = field(default_factory=dict)
    gpu: bool = False

    def outcomes(
        self, work: Callable[[Item], Outcome[Item]], items: Sequence[Item]
    ) -> Iterator[Outcome[Item]]:
        """See `Engine.outcomes`. EngineError also for options that SLURM cannot be asked with."""
        with self.cluster() as cluster:
            cluster.scale(jobs=self.jobs)
            yield from Dask(cluster.scheduler_address, self.gpu).outcomes(work, items)

    def cluster(self) -> Any:
        """The `SLURMCluster`, without a job yet."""
        options = {"cores": 1, **self.options, "processes": self.options.get("cores", 1)}
        extra = list(options.pop("worker_extra_args", None) or [])
        options["worker_extra_args"] = [*extra, "--resources", "GPU=1"] if self.gpu else extra
        try:
            return _import("dask_jobqueue").SLURMCluster(**options)
        except (TypeError, ValueError, OSError, RuntimeError) as error:
            raise EngineError(f"no cluster can be made of these SLURM options: {error}") from error


def read_slurm(path: Path, gpu: bool = False) -> Slurm:
    """The engine that a JSON file describes: "jobs", and options of `dask_jobqueue.SLURMCluster`.

    ValueError names what is wrong with the file.
    """
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read SLURM settings from {path}: {error}") from error
    jobs = options.pop("jobs", None) if isinstance(options, dict) else None
    if type(jobs) is not int or jobs < 1:
        raise ValueError(f'{path} has to be a JSON object with "jobs", the number of SLURM jobs')
    if "memory" not in options:
        raise ValueError(f'{path} has to say how much "memory" a job gets, as in "32GB"')
    return Slurm(jobs, options, gpu)


@contextmanager
def _token() -> Iterator[Path]:
    """An empty file in the cache while the run lasts: a worker that does not see it shares no cache."""
    paths.CACHE.mkdir(parents=True, exist_ok=True)
    token = paths.CACHE / f".run-{secrets.token_hex(8)}"
    token.touch()
    try:
        yield token
    finally:
        token.unlink(missing_ok=True)


def _on_worker(work: Callable[[Item], Outcome[Item]], token: str, item: Item) -> Outcome[Item]:
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


def _close(client: Any) -> None:
    """Close a client whose scheduler is gone, without its log of vain attempts to reach it."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        client.close()
    finally:
        logger.setLevel(before)


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
