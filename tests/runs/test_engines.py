"""Engines: cells on processes of this machine and on a dask cluster of separate worker processes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from splitkit import reproduce
from splitkit.runs import cells, engines
from splitkit.runs.cell_results import CellResult
from splitkit.runs.cells import compute_cells
from splitkit.runs.engines import Dask, EngineError, Loky, Slurm, read_slurm
from splitkit.runs.profiles import Profile
from splitkit.storage import paths
from tests.runs.test_kills import PROFILE, begun, check_whole, one_process, stamps, visible

Work = Callable[[Any], tuple[Any, str | None]]

LIMIT = 300.0
"""Seconds after which a cluster hangs."""
HOST = "127.0.0.1"


def outcome(item: int) -> tuple[int, str | None]:
    return item, "even numbers fail" if item % 2 == 0 else None


def who(item: int) -> tuple[int, str | None]:
    """The process that works on it, where an error's text would be."""
    return item, str(os.getpid())


def die(item: int) -> tuple[int, str | None]:
    os.kill(os.getpid(), signal.SIGKILL)
    return item, None


def die_in_mid_cell(deaths: Path, work: Work, item: Any) -> tuple[Any, str | None]:
    """The first two processes that come to a cell's curves are killed there, whichever they are."""
    make = cells._MAKERS["curves"]

    def begin(result: CellResult, profile: Profile, model: Any, tokenizer: Any, folder: Path) -> None:
        for death in ("first", "second"):
            with suppress(FileExistsError):
                (deaths / death).mkdir()
                os.kill(os.getpid(), signal.SIGKILL)
        make(result, profile, model, tokenizer, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(cells._MAKERS, "curves", begin)
        return work(item)


@dataclass(frozen=True)
class Deadly:
    """A cluster that loses two workers."""

    engine: Dask
    deaths: Path

    def map_unordered(self, work: Work, items: Sequence[Any]) -> Iterator[tuple[Any, str | None]]:
        return self.engine.map_unordered(partial(die_in_mid_cell, self.deaths, work), items)


def refuse(item: int) -> tuple[int, str | None]:
    raise EngineError(f"no room for {item}")


def raise_(item: int) -> tuple[int, str | None]:
    raise LookupError(f"lost {item}")


class Cluster:
    """A scheduler and workers, each a process of its own, that share a cache."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.file = folder / "cache", folder / "scheduler.json"
        self.cache.mkdir()
        path = str(paths.ROOT)
        self.environment = os.environ | {
            "SPLITKIT_CACHE": str(self.cache),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": path,
        }
        self.scheduler = self.start("scheduler", "--host", HOST, "--port", "0")
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, kind: str, *options: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
        return subprocess.Popen(
            [*command, "--scheduler-file", str(self.file), *options],
            env=self.environment,
            cwd=self.file.parent,
            stderr=subprocess.DEVNULL,
        )

    def worker(self, name: str, *options: str) -> None:
        self.workers[name] = self.start(
            "worker", "--name", name, "--nthreads", "1", "--no-nanny", "--death-timeout", "120", *options
        )

    @property
    def address(self) -> str:
        end = time.monotonic() + LIMIT
        while not self.file.exists() or not self.file.read_text().strip():
            assert time.monotonic() < end, "the scheduler has not started"
            time.sleep(0.05)
        return str(json.loads(self.file.read_text())["address"])

    def empty(self) -> None:
        for folder in self.cache.iterdir():
            shutil.rmtree(folder)

    def stop(self) -> None:
        for process in [self.scheduler, *self.workers.values()]:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers, one of them with a GPU's tag."""
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    found.worker("plain")
    found.worker("tagged", "--resources", "GPU=1")
    yield found
    found.stop()


@pytest.fixture
def cache(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cluster's cache, empty, and this process's."""
    cluster.empty()
    monkeypatch.setattr(paths, "CACHE", cluster.cache)
    return cluster.cache


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_process(tmp_path_factory)


@contextmanager
def meanwhile(work: object, *arguments: object) -> Iterator[None]:
    thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
    thread.start()
    try:
        yield
    finally:
        thread.join(LIMIT)


@pytest.fixture(autouse=True)
def ends_in_time() -> Iterator[None]:
    """A run waits for workers as long as it takes; a test does not."""

    def give_up(number: int, frame: Any) -> None:
        raise TimeoutError(f"no end after {int(2 * LIMIT)} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(2 * LIMIT))
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_loky_gives_every_outcome() -> None:
    found = dict(Loky(1).map_unordered(outcome, range(5)))
    assert found == {0: "even numbers fail", 1: None, 2: "even numbers fail", 3: None, 4: "even numbers fail"}
    with pytest.raises(EngineError, match="no room for 3"):
        list(Loky(1).map_unordered(refuse, [3]))


def test_a_killed_process_of_this_machine_is_a_clear_end() -> None:
    with pytest.raises(EngineError, match="a worker process died(?s:.*)goes on from there"):
        list(Loky(2).map_unordered(die, range(2)))


def test_one_item_that_fails_ends_no_other(cluster: Cluster, cache: Path) -> None:
    engine = Dask(cluster.address)
    assert dict(engine.map_unordered(outcome, range(4))) == dict(Loky(1).map_unordered(outcome, range(4)))
    assert dict(engine.map_unordered(raise_, range(2))) == {i: f"LookupError: lost {i}" for i in range(2)}
    with pytest.raises(EngineError, match="no room for 3"):
        list(engine.map_unordered(refuse, [3]))


def test_a_cell_that_asks_for_a_gpu_gets_a_worker_with_one(cluster: Cluster, cache: Path) -> None:
    found = {pid for _, pid in Dask(cluster.address, gpu=True).map_unordered(who, range(8))}
    assert found == {str(cluster.workers["tagged"].pid)}


def test_nothing_is_left_on_the_cluster(cluster: Cluster, cache: Path) -> None:
    import distributed

    assert len(list(Dask(cluster.address).map_unordered(who, range(100)))) == 100
    with distributed.Client(cluster.address, set_as_default=False) as client:
        end = time.monotonic() + LIMIT
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            assert time.monotonic() < end, "the scheduler keeps finished tasks"
            time.sleep(0.05)
    assert not visible(cache)


def die_once(deaths: Path, item: int) -> tuple[int, str | None]:
    """The first process that comes here is killed."""
    with suppress(FileExistsError):
        (deaths / "death").mkdir()
        os.kill(os.getpid(), signal.SIGKILL)
    return item, None


def test_a_run_whose_workers_have_all_died_says_so_and_goes_on_when_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = Cluster(tmp_path)
    monkeypatch.setattr(paths, "CACHE", own.cache)
    try:
        own.worker("mortal")
        address = own.address
        assert list(Dask(address).map_unordered(outcome, [1])) == [outcome(1)]  # it is there
        monkeypatch.setattr(engines, "IDLE", 0.4)
        caplog.clear()

        def replace() -> None:
            end = time.monotonic() + LIMIT
            while "waiting for workers" not in caplog.text and time.monotonic() < end:
                time.sleep(0.05)
            own.worker("next")

        with meanwhile(replace):
            found = dict(Dask(address).map_unordered(partial(die_once, tmp_path), range(3)))
    finally:
        own.stop()
    assert found == dict.fromkeys(range(3))
    assert (tmp_path / "death").exists()
    said = [r.getMessage() for r in caplog.records if "waiting for workers" in r.getMessage()]
    assert said == [f"waiting for workers: dask worker {address} --nthreads 1"]


def test_a_worker_with_another_cache_is_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "elsewhere")
    with pytest.raises(EngineError, match=f"its own is {cluster.cache}. Start it with SPLITKIT_CACHE"):
        list(Dask(cluster.address).map_unordered(outcome, range(3)))


def test_a_worker_with_several_threads_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    monkeypatch.setattr(paths, "CACHE", tmp_path)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as own,
        pytest.raises(EngineError, match="has 2 threads: start it with --nthreads 1"),
    ):
        list(Dask(own.scheduler_address).map_unordered(outcome, range(3)))


def test_a_worker_with_other_code_is_refused() -> None:
    task = cells._Task(PROFILE.cells()[0], ("trained-by-other-code",))
    with pytest.raises(EngineError, match="would compute other numbers for tiny-qwen2 psychopathy"):
        cells._attempt(PROFILE, task)


def test_no_scheduler_is_a_clear_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "PATIENCE", 0.5)
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    with pytest.raises(EngineError, match=f"no dask scheduler answers at tcp://{HOST}:9"):
        list(Dask(f"tcp://{HOST}:9").map_unordered(outcome, [1]))
    with pytest.raises(EngineError, match="no dask scheduler answers at nonsense://x"):
        list(Dask("nonsense://x").map_unordered(outcome, [1]))


def test_the_same_cells_as_in_one_process(cluster: Cluster, cache: Path, undisturbed: Path) -> None:
    found = compute_cells(PROFILE, progress=False, engine=Dask(cluster.address))
    assert [result.cell for result in found] == PROFILE.cells()
    assert check_whole(cache, undisturbed) == check_whole(undisturbed, undisturbed)


def test_a_worker_killed_in_mid_cell_is_replaced(
    cluster: Cluster, cache: Path, undisturbed: Path, tmp_path: Path
) -> None:
    cluster.worker("spare")
    compute_cells(PROFILE, progress=False, engine=Deadly(Dask(cluster.address), tmp_path))
    assert [worker.poll() for worker in cluster.workers.values()].count(-signal.SIGKILL) == 2
    assert len(begun(cache, "curves")) == 2, "no worker was in the middle of a cell"
    assert check_whole(cache, undisturbed) == check_whole(undisturbed, undisturbed)


def test_a_lost_scheduler_is_a_clear_end_and_the_rerun_computes_the_rest(
    cluster: Cluster, cache: Path, undisturbed: Path
) -> None:
    """Comes last: it ends the cluster."""

    def kill() -> None:
        """Once a cell is whole."""
        end = time.monotonic() + LIMIT
        while not visible(cache) and time.monotonic() < end:
            time.sleep(0.002)
        cluster.scheduler.kill()

    with (
        meanwhile(kill),
        pytest.raises(EngineError, match="was lost. What is finished is kept(?s:.*)goes on from there"),
    ):
        compute_cells(PROFILE, progress=False, engine=Dask(cluster.address))
    cluster.stop()
    kept = stamps(cache)
    assert 0 < check_whole(cache, undisturbed) < check_whole(undisturbed, undisturbed)
    compute_cells(PROFILE, jobs=1, progress=False)
    assert kept.items() <= stamps(cache).items(), "a finished cell was computed again"
    assert check_whole(cache, undisturbed) == check_whole(undisturbed, undisturbed)


def test_slurm_starts_the_workers_and_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made `sbatch`, which runs the job's script on this machine."""
    commands = tmp_path / "bin"
    commands.mkdir()
    # the script is removed as soon as it is submitted: the copy is what runs
    job = tmp_path / "job.sh"
    submit = f'cp "$1" {job}\nsh {job} >/dev/null 2>&1 &\necho "Submitted batch job $!"\n'
    for name, text in {"sbatch": submit, "scancel": 'kill "$@"\n'}.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    monkeypatch.setenv("SPLITKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "slurm.json"
    file.write_text(json.dumps({"jobs": 1, "memory": "1GB", "job_extra_directives": ["--gres=gpu:1"]}))
    found = dict(read_slurm(file, gpu=True).map_unordered(who, range(4)))
    assert len(found) == 4 and len(set(found.values())) == 1
    script = job.read_text()
    assert "#SBATCH --gres=gpu:1" in script
    assert "--nthreads 1 " in script
    assert "--resources GPU=1" in script
    worker = int(str(found[0]))
    end = time.monotonic() + LIMIT
    while Path(f"/proc/{worker}").exists() and Path("/proc").exists():
        assert time.monotonic() < end, "the worker outlives the run"
        time.sleep(0.05)


def test_slurm_settings_that_cannot_work_are_named(tmp_path: Path) -> None:
    file = tmp_path / "slurm.json"
    with pytest.raises(ValueError, match=r"cannot read SLURM settings from .*slurm\.json"):
        read_slurm(file)
    for text, said in (("[1]", '"jobs"'), ('{"jobs": 0}', '"jobs"'), ('{"jobs": 2}', '"memory"')):
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_slurm(file)
    with pytest.raises(EngineError, match="SLURM options(?s:.*)wall_time"):
        Slurm(1, {"memory": "1GB", "wall_time": "1:00"}).cluster()


def test_the_options_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    def engine(*arguments: str) -> engines.Engine:
        return reproduce._engine(reproduce._options().parse_args(arguments))

    assert engine("--jobs", "3") == Loky(3)
    assert engine("--engine", "dask", "--scheduler", "tcp://a:1", "--gpu") == Dask("tcp://a:1", gpu=True)
    with pytest.raises(ValueError, match="one of them"):
        engine("--engine", "dask")
    assert reproduce.main(["--scheduler", "tcp://a:1"]) == 1
    assert "are for --engine dask" in capsys.readouterr().err


def test_make_starts_workers_as_the_engine_does() -> None:
    """The Makefile exports what processes of this machine are to start with."""
    exported = dict(
        re.findall(r"^export (\w+) := (.*)$", (paths.ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    assert engines.WORKERS.items() <= exported.items()
