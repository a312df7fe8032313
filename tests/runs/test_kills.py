"""Kills: a run that dies at any moment leaves whole cells and replies or none, and goes on from there."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from splitkit.judging.llm import LLMJudge
from splitkit.runs.cell_keys import STAGES
from splitkit.runs.cells import compute_cells
from splitkit.runs.profiles import Profile, strength_grid
from splitkit.storage import paths
from tests.judging.test_llm import Response, Server, answers, honest

SEED = 0
LIMIT = 300.0
"""Seconds after which a run hangs."""
KILLS = {"trained": 5, "curves": 4, "answers": 3}
"""How often a run is killed in each stage; with the one of two workers and those of the judge: 20."""
JUDGE_KILLS = 7
PROFILE = Profile(
    name="kills",
    models=("tiny-qwen2",),
    tasks=("psychopathy",),
    combinations=(("local_weight", "split"), ("lora", "sft"), ("vector", "split")),
    grid=strength_grid(24.0, 5),
    n_train=8,
    n_sweep=3,
    n_choose=1,
    n_test=2,
    answered=(("local_weight", "split"), ("lora", "sft"), ("vector", "split")),
    overrides={"epochs": 1},
)
CASES, AT_A_TIME = 200, 4
# a server that has imported everything makes processes in no time, so that kills fall into the work
FORKS = get_context("forkserver" if os.name == "posix" else "spawn")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "openai",
        "tests.judging.test_llm",
        "splitkit.steering.sweeps",
        "splitkit.steering.training",
        "splitkit.runs.world_answers",
    ]
)
RUN = f"""
import splitkit.steering.sweeps, splitkit.steering.training
from splitkit.runs.cells import compute_cells
from splitkit.runs.profiles import Profile
print("ready", flush=True)
compute_cells({PROFILE!r}, jobs=2, progress=False)
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups and SIGKILL")


def temporary(path: Path) -> bool:
    return path.name.startswith(".") or path.suffix == ".tmp"


def visible(cache: Path) -> list[Path]:
    """The files that a reader can find: those in no temporary folder, and no locks.

    Cells may be computed meanwhile: os.walk passes over a temporary folder that becomes a finished one.
    """
    found: list[Path] = []
    for folder, inner, names in os.walk(cache):
        inner[:] = [name for name in inner if not temporary(Path(name))]
        found += [Path(folder, name).relative_to(cache) for name in names if not temporary(Path(name))]
    return sorted(found)


def stamps(cache: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: ((cache / path).stat().st_ino, (cache / path).stat().st_mtime_ns) for path in visible(cache)
    }


def content(path: Path) -> Any:
    """A file's bytes; of a JSON file what does not tell when and where it was made."""
    if path.suffix != ".json":
        return path.read_bytes()
    values = json.loads(path.read_text(encoding="utf-8"))
    if path.name == "manifest.json":
        # meta.json holds a time
        return {name: entry for name, entry in values.items() if name != "meta.json"}
    return {k: v for k, v in values.items() if not k.startswith("seconds") and k != "provenance"}


def check_whole(cache: Path, undisturbed: Path) -> int:
    """How many folders there are for a reader to find: each whole, and as in the undisturbed run."""
    files, expected = visible(cache), visible(undisturbed)
    folders = {path.parts[:2] for path in files}
    assert files == [path for path in expected if path.parts[:2] in folders]
    for path in files:
        assert content(cache / path) == content(undisturbed / path), path
    return len(folders)


def cells_run(cache: Path, prepare: Callable[[], None] | None = None, said: Any = None) -> None:
    """All cells, in one process; what it ends with is sent to `said`."""
    paths.CACHE = cache
    if prepare is not None:
        prepare()
    try:
        compute_cells(PROFILE, jobs=1, progress=False)
    except Exception as error:
        if said is None:
            raise
        said.send(f"{type(error).__name__}: {error}")
    else:
        if said is not None:
            said.send("done")


def _seen(server: Server, moment: int) -> bool:
    return len(server.seen) >= moment


def judge_run(cache: Path, url: str) -> None:
    judge = LLMJudge(url=url, cache=cache, concurrency=AT_A_TIME, progress=False)
    judge.score("powerseeking", ["q"] * CASES, answers(CASES))


@contextmanager
def running(target: Callable[..., None], *arguments: object) -> Iterator[BaseProcess]:
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def finish(target: Callable[..., None], *arguments: object) -> None:
    """An undisturbed run."""
    with running(target, *arguments) as process:
        process.join(LIMIT)
        assert process.exitcode == 0


def begun(cache: Path, stage: str = "*", besides: Sequence[Path] = ()) -> list[Path]:
    """The temporary folders of a stage, besides those that earlier kills left."""
    return [path for path in cache.glob(f"{stage}/.*.tmp") if path not in besides]


def wait_for(what: Callable[[], Any], process: BaseProcess | subprocess.Popen[str]) -> None:
    """Until there is something, or the process has ended."""
    end = time.monotonic() + LIMIT
    alive = process.is_alive if isinstance(process, BaseProcess) else lambda: process.poll() is None
    while not what() and alive():
        assert time.monotonic() < end, "nothing has happened"
        time.sleep(0.002)


def one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cells of an undisturbed run in one process, made once for all tests of a session."""
    cache = tmp_path_factory.getbasetemp() / "undisturbed"
    if not cache.exists():
        finish(cells_run, cache)
    return cache


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_process(tmp_path_factory)


def test_killed_in_every_stage_a_run_goes_on_where_it_was(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, hit, caches, killed = random.Random(SEED), Counter[str](), 1, 0
    left, cache = Counter(KILLS), tmp_path / "cache 1"
    while left.total():
        stage = next(name for name in (*STAGES[killed % 3 :], *STAGES) if left[name])
        kept, old = stamps(cache), begun(cache)
        with running(cells_run, cache) as process:
            wait_for(partial(begun, cache, stage, old), process)
            time.sleep(drawn.expovariate(10.0))
            alive = process.is_alive()
            process.kill()
            process.join()
        check_whole(cache, undisturbed)
        assert kept.items() <= stamps(cache).items(), "a finished file was written again"
        if alive:
            assert process.exitcode == -signal.SIGKILL
            killed += 1
            left[stage] -= 1
            hit.update(path.parent.name for path in begun(cache, besides=old))
        else:
            # it was done before its kill: from the start again
            caches += 1
            cache = tmp_path / f"cache {caches}"
    assert set(hit) == set(STAGES), "no kill fell into one of the stages"
    kept = stamps(cache)
    finish(cells_run, cache)
    assert kept.items() <= stamps(cache).items(), "a finished file was written again"
    assert check_whole(cache, undisturbed) == 3 * len(PROFILE.cells())
    # the cells as a reader gets them: nothing is left to compute
    monkeypatch.setattr(paths, "CACHE", cache)
    kept = stamps(cache)
    for result in compute_cells(PROFILE, jobs=1, progress=False):
        assert result.meta["matching_strength"] > 0
        assert result.intervention().form == result.cell.form
        assert len(result.answers("test")) == PROFILE.n_test
        for split in ("train", "test"):
            assert list(result.sweep(split).groupby("m").size()) == [PROFILE.n_sweep] * len(PROFILE.grid)
    assert stamps(cache) == kept


def test_two_workers_die_with_their_run(undisturbed: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN],
        env=os.environ | {"SPLITKIT_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert "ready\n" in iter(process.stdout.readline, "")
        wait_for(lambda: begun(tmp_path), process)
        time.sleep(random.Random(SEED).uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        # the pipe ends with the last process that holds it, so that no worker outlives this line
        said, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == -signal.SIGKILL, said
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = stamps(tmp_path)
    check_whole(tmp_path, undisturbed)
    finish(cells_run, tmp_path)
    assert kept.items() <= stamps(tmp_path).items(), "a finished file was written again"
    assert check_whole(tmp_path, undisturbed) == 3 * len(PROFILE.cells())


def table(cache: Path, url: str) -> pd.DataFrame:
    """What the kept replies say, and nothing else: no request is sent."""
    judge = LLMJudge(url=url, cache=cache, budget=0, progress=False)
    return judge.score("powerseeking", ["q"] * CASES, answers(CASES))


def test_killed_while_judging_no_reply_is_asked_for_twice(tmp_path: Path) -> None:
    server, drawn = Server(), random.Random(SEED)
    server.answer = lambda request: Response(honest(request).body, sleep=0.02)
    try:
        finish(judge_run, tmp_path / "undisturbed", server.url)
        assert len(server.seen) == CASES
        before = CASES
        for kill in range(JUDGE_KILLS):
            moment = before + drawn.randint(1, CASES // JUDGE_KILLS // 2)
            with running(judge_run, tmp_path / "killed", server.url) as process:
                wait_for(partial(_seen, server, moment), process)
                process.kill()
                process.join()
                assert process.exitcode == -signal.SIGKILL, f"done before kill {kill}"
            before = len(server.seen)
        finish(judge_run, tmp_path / "killed", server.url)
        # what was on its way at a kill is lost, and asked for again
        assert CASES <= len(server.seen) - CASES <= CASES + JUDGE_KILLS * AT_A_TIME
        judged = table(tmp_path / "killed", server.url)
        pd.testing.assert_frame_equal(judged, table(tmp_path / "undisturbed", server.url))
        assert judged["power"].tolist() == [2.0] * CASES
    finally:
        server.http.shutdown()
        server.http.server_close()
