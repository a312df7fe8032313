"""Kills: a run of cells that dies at any moment leaves whole cells or none, and goes on where it was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from splitkit import paths
from splitkit.cells import compute_cells
from splitkit.profiles import Profile, strength_grid

KILLS = 6
SEED = 0
LIMIT = 300.0
"""Seconds after which a run hangs."""
PROFILE = Profile(
    name="kills",
    models=("embedded-qwen2",),
    tasks=("psychopathy",),
    kinds=(("local_weight", "split"), ("lora", "sft"), ("vector", "split")),
    grid=strength_grid(24.0, 5),
    n_train=8,
    n_sweep=3,
    overrides={"epochs": 1},
)
# the imports come before "ready", so that the kills fall into the work and not into Python's start
RUN = f"""
import sys
import splitkit.sweeps, splitkit.training
from splitkit.cells import compute_cells
from splitkit.profiles import Profile
print("ready", flush=True)
compute_cells({PROFILE!r}, jobs=int(sys.argv[1]), progress=False)
"""


def temporary(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix == ".tmp"


def visible(cache: Path) -> list[Path]:
    """The files that a reader can find: those in no temporary folder, and no locks."""
    relative = (path.relative_to(cache) for path in cache.rglob("*") if path.is_file())
    return sorted(path for path in relative if not any(map(temporary, (path, *path.parents[:-1]))))


@contextmanager
def running(cache: Path, jobs: int) -> Iterator[subprocess.Popen[str]]:
    """A run in a process group of its own, about to look for its first missing cell; none of it stays."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(jobs)],
        env=os.environ | {"SPLITKIT_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert "ready\n" in iter(process.stdout.readline, "")
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finish(cache: Path) -> float:
    """Seconds that an undisturbed run needs."""
    with running(cache, jobs=1) as process:
        begin = time.perf_counter()
        said, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, said
        return time.perf_counter() - begin


def kill(cache: Path, jobs: int, delay: float) -> bool:
    """Kill a run and its workers after some seconds; whether it was still at work then."""
    with running(cache, jobs) as process:
        if jobs > 1:
            # workers take seconds to start: the clock runs from the moment when one of them has begun a cell
            end = time.monotonic() + LIMIT
            while not any(cache.glob("*/*.tmp")) and process.poll() is None:
                assert time.monotonic() < end, "no worker has begun"
                time.sleep(0.01)
        time.sleep(delay)
        alive = process.poll() is None
        if alive:
            os.killpg(process.pid, signal.SIGKILL)
        # the pipe ends with the last process that holds it, so that no worker outlives this line
        said, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == (-signal.SIGKILL if alive else 0), said
        return alive


def stamps(cache: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: ((cache / path).stat().st_ino, (cache / path).stat().st_mtime_ns) for path in visible(cache)
    }


def content(path: Path) -> Any:
    """A file's bytes; of a JSON file what does not tell when and where it was made."""
    if path.suffix != ".json":
        return path.read_bytes()
    values = json.loads(path.read_text(encoding="utf-8"))
    return {k: v for k, v in values.items() if not k.startswith("seconds") and k != "provenance"}


def check_whole(cache: Path, undisturbed: Path) -> int:
    """How many folders there are for a reader to find: each whole, and as in the undisturbed run."""
    files, expected = visible(cache), visible(undisturbed)
    folders = {path.parts[:2] for path in files}
    assert files == [path for path in expected if path.parts[:2] in folders]
    for path in files:
        assert content(cache / path) == content(undisturbed / path), path
    return len(folders)


def kill_often(cache: Path, undisturbed: Path, seconds: float, drawn: random.Random, kills: int) -> int:
    """Run and kill until there were so many kills, or a run was done before its kill; how many there were.

    `seconds` is what the undisturbed run needed.
    """
    kept, total, killed, alive = stamps(cache), check_whole(undisturbed, undisturbed), 0, True
    while alive and killed < kills:
        left = 1 - check_whole(cache, undisturbed) / total
        delay = drawn.uniform(0, 0.8 * seconds * left)
        # the first with two workers, which have to die with the run
        alive = kill(cache, jobs=1, delay=delay) if killed else kill(cache, jobs=2, delay=delay / 4)
        check_whole(cache, undisturbed)
        assert kept.items() <= stamps(cache).items(), "a finished file was written again"
        kept, killed = stamps(cache), killed + alive
    if alive:
        finish(cache)
    assert kept.items() <= stamps(cache).items(), "a finished file was written again"
    assert check_whole(cache, undisturbed) == total
    return killed


@pytest.mark.skipif(os.name != "posix", reason="process groups and SIGKILL")
def test_killed_at_random_moments_a_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, drawn, killed = tmp_path / "undisturbed", random.Random(SEED), 0
    seconds = finish(undisturbed)
    while killed < KILLS:
        cache = tmp_path / f"killed after {killed}"
        killed += kill_often(cache, undisturbed, seconds, drawn, KILLS - killed)
        # where a run was done before its kill, the others come sooner
        seconds /= 2
    # the last one's cells as a reader gets them: nothing is left to compute
    monkeypatch.setattr(paths, "CACHE", cache)
    before = stamps(cache)
    found = compute_cells(PROFILE, jobs=1, progress=False)
    assert stamps(cache) == before
    assert [result.cell for result in found] == PROFILE.cells()
    for result in found:
        assert result.meta["matching_strength"] > 0
        assert result.intervention().form == result.cell.form
        for split in ("train", "test"):
            assert list(result.sweep(split).groupby("m").size()) == [PROFILE.n_sweep] * len(PROFILE.grid)
