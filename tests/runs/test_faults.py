"""Faults: a full disk, damaged files, two runs, a read-only checkout, a wrong clock, hostile names, keys.

After each the rerun succeeds, computes nothing that was finished, and gives what an undisturbed run gives.
"""

import ast
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from splitkit.runs import cell_keys, notebooks
from splitkit.runs.cells import compute_cells
from splitkit.runs.profiles import Cell, get_profile
from splitkit.storage import paths
from splitkit.storage.files import DamagedFolder, RunInProgress, damage
from tests.judging.test_llm import Server, failure, grade
from tests.runs.test_kills import (
    CASES,
    FORKS,
    LIMIT,
    PROFILE,
    begun,
    cells_run,
    check_whole,
    finish,
    judge_run,
    one_process,
    running,
    stamps,
    table,
    visible,
    wait_for,
)

KEY = "sk-made-for-this-test-0123456789"
FAR = 10 * 365 * 86400.0
"""Seconds by which a clock is wrong."""
BIG = "local_weight_split"
"""The cell whose intervention is the largest."""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="resource limits, mounts and signals")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_process(tmp_path_factory)


@pytest.fixture
def cache(tmp_path: Path, undisturbed: Path) -> Path:
    """Two finished cells; the third is to be computed."""
    return without(BIG, undisturbed, tmp_path / "cache")


def without(kind: str, undisturbed: Path, cache: Path) -> Path:
    shutil.copytree(undisturbed, cache)
    for folder in cache.glob(f"*/*_{kind}_*"):
        shutil.rmtree(folder)
    return cache


def ending(cache: Path, prepare: Callable[[], None] | None = None) -> str:
    """How a run ends, in its own words."""
    receiver, sender = FORKS.Pipe(duplex=False)
    with running(cells_run, cache, prepare, sender) as process:
        assert receiver.poll(LIMIT)
        said = str(receiver.recv())
        process.join(LIMIT)
    return said


def check_rerun(cache: Path, undisturbed: Path, kept: dict[Path, tuple[int, int]]) -> None:
    finish(cells_run, cache)
    assert kept.items() <= stamps(cache).items(), "a finished file was written again"
    assert check_whole(cache, undisturbed) == check_whole(undisturbed, undisturbed)
    assert not begun(cache)


def limit_files(size: int) -> None:
    """No file of this process may grow beyond so many bytes: what is written ends as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def set_clock_back() -> None:
    now = time.time
    time.time = lambda: now() - FAR


def judge_with_little_room(cache: Path, url: str, said: Any) -> None:
    limit_files(100)
    try:
        judge_run(cache, url)
    except Exception as error:
        said.send(f"{type(error).__name__}: {error}")


def test_a_full_disk_is_a_clear_end(cache: Path, undisturbed: Path) -> None:
    kept = stamps(cache)
    said = ending(cache, partial(limit_files, 4096))
    assert said.startswith(f"EngineError: {cache} takes no more: [Errno {errno.EFBIG}]")
    assert "goes on from there" in said
    assert stamps(cache) == kept
    check_rerun(cache, undisturbed, kept)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_small_file_system_that_is_full(small_disk: Path, undisturbed: Path) -> None:
    cache = without(BIG, undisturbed, small_disk / "cache")
    kept, filler = stamps(cache), small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - 16384)
    assert f"takes no more: [Errno {errno.ENOSPC}]" in ending(cache)
    assert stamps(cache) == kept
    filler.unlink()
    check_rerun(cache, undisturbed, kept)


def test_a_disk_that_is_full_while_judging(tmp_path: Path) -> None:
    server = Server()
    receiver, sender = FORKS.Pipe(duplex=False)
    try:
        with running(judge_with_little_room, tmp_path, server.url, sender) as process:
            assert receiver.poll(LIMIT)
            said = receiver.recv()
            # other threads are still taking back what they could not write
            process.join(LIMIT)
            assert process.exitcode == 0
        assert said.startswith(f"JudgeError: {tmp_path} takes no more")
        assert len(server.seen) < CASES // 2, "the others were asked for all the same"
        assert not list(tmp_path.rglob("*.json*"))
        finish(judge_run, tmp_path, server.url)
        assert table(tmp_path, server.url)["power"].notna().all()
    finally:
        server.http.shutdown()
        server.http.server_close()


@pytest.mark.parametrize(
    "name",
    [
        "trained/*_vector_split_*/meta.json",
        "trained/*_vector_split_*/intervention/intervention.safetensors",
        "curves/*_lora_sft_*/sweep_test.csv.gz",
        "answers/*_lora_sft_*/validation.csv.gz",
        "curves/*_vector_split_*/manifest.json",
    ],
)
def test_a_truncated_file_is_found_and_its_folder_made_anew(
    name: str, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(undisturbed, cache)
    (path,) = cache.glob(name)
    folder = cache / Path(*path.relative_to(cache).parts[:2])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    kept = {file: stamp for file, stamp in stamps(cache).items() if not (cache / file).is_relative_to(folder)}
    assert path.name in damage(folder)
    monkeypatch.setattr(paths, "CACHE", cache)
    with pytest.warns(
        UserWarning, match=f"damaged, and computed anew:\n{folder} .{path.relative_to(folder)}"
    ):
        compute_cells(PROFILE, jobs=1, progress=False)
    assert kept.items() <= stamps(cache).items(), "a finished file was written again"
    assert check_whole(cache, undisturbed) == check_whole(undisturbed, undisturbed)


@pytest.mark.parametrize("stage", ["trained", "curves", "answers"])
def test_a_changed_byte_is_found_when_it_is_read(
    stage: str, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(undisturbed, cache)
    monkeypatch.setattr(paths, "CACHE", cache)
    result = compute_cells(PROFILE, jobs=1, progress=False)[0]
    name = {"trained": "meta.json", "curves": "sweep_test.csv.gz", "answers": "test.csv.gz"}[stage]
    content = bytearray((result.folders[stage] / name).read_bytes())
    content[len(content) // 2] ^= 1
    (result.folders[stage] / name).write_bytes(content)
    read = {
        "trained": lambda: result.unit,
        "curves": lambda: result.sweep("test"),
        "answers": lambda: result.answers("test"),
    }[stage]
    with pytest.raises(
        DamagedFolder, match=f"{name} is not as it was written. Remove {result.folders[stage]}"
    ):
        read()


def test_a_second_run_leaves_the_first_alone(
    cache: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = stamps(cache)
    monkeypatch.setattr(paths, "CACHE", cache)
    with running(cells_run, cache) as process:
        wait_for(partial(begun, cache), process)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(RunInProgress, match=f"process {process.pid}, computing cells of profile kills"):
            compute_cells(PROFILE, jobs=1, progress=False)
        os.kill(process.pid, signal.SIGCONT)
        process.join(LIMIT)
        assert process.exitcode == 0
    check_rerun(cache, undisturbed, kept)


READ_ONLY = f"""
import sys
from pathlib import Path
from splitkit.runs.cells import compute_cells
from splitkit.runs.profiles import Profile
from splitkit.storage import paths
profile = {PROFILE!r}
paths.CACHE = paths.ROOT / ".cache"
try:
    compute_cells(profile, jobs=1, progress=False)
except PermissionError as error:
    print(error)
paths.CACHE = Path(sys.argv[1])
compute_cells(profile, jobs=1, progress=False)
"""


def test_a_read_only_checkout(cache: Path, undisturbed: Path) -> None:
    """A clear end where the cache is in it, and a run like any other where it is elsewhere."""
    isolated = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    freeze = f'mount --bind "{paths.ROOT}" "{paths.ROOT}" && mount -o remount,ro,bind "{paths.ROOT}"'
    if not shutil.which("unshare") or subprocess.run([*isolated, freeze], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    kept = stamps(cache)
    # from a folder of its own, or the bind mount would not be seen
    run = f'{freeze} && cd / && exec "$0" "$@"'
    found = subprocess.run(
        [*isolated, run, sys.executable, "-c", READ_ONLY, str(cache)],
        env=os.environ | {"PYTHONPATH": str(paths.ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert f"cannot write to {paths.ROOT / '.cache'}: Read-only file system. Nothing was" in found.stdout
    check_rerun(cache, undisturbed, kept)


@pytest.mark.parametrize("years", [-FAR, FAR])
def test_a_wrong_clock_changes_nothing(years: float, cache: Path, undisturbed: Path) -> None:
    """Files from the future or of long ago are neither new nor old: no time decides anything."""
    for path in [cache, *cache.rglob("*")]:
        os.utime(path, (time.time() + years, time.time() + years))
    kept = stamps(cache)
    assert ending(cache, set_clock_back if years > 0 else None) == "done"
    check_rerun(cache, undisturbed, kept)


HOSTILE = [
    *("../../x", "/etc/passwd", "..\\..\\x", "a\0b", "a\nb", "..", ".hidden", "~root", "C:x", "CON?*", " "),
    *("x/../../../y", "%2e%2e%2fx", "ä" * 90, "x" * 200),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_out_of_the_cache(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    with pytest.raises((FileNotFoundError, ValueError)):  # no such model: there is no layer to steer
        cell_keys.cell_folders(Cell(name, name, "vector", "diffmean"), PROFILE)
    told = replace(PROFILE, layers={name: 3, f"{name}2": 3})
    cell = Cell(name, name, "vector", "diffmean")
    for folder in cell_keys.cell_folders(cell, told).values():
        folder.mkdir(parents=True)
        assert folder.resolve().parent.parent == tmp_path.resolve() / "cache"
        assert not folder.name.startswith(".")
    assert cell_keys.cell_folder(cell, told) != cell_keys.cell_folder(
        Cell(f"{name}2", name, "vector", "diffmean"), told
    )


UNSAFE = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "yaml", "ruamel", "h5py", "dbm"}
LOADERS = {"torch", "np", "numpy", "joblib", "pd", "pandas"}
ENDINGS = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".h5", ".npy", ".npz", ".yaml", ".yml")


def unsafe(source: str) -> list[str]:
    """What in a module could read a format that can run code when it is read, or run text as code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE:
            found.append(str(node.module))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            wrong = node.attr in ("load", "read_pickle", "read_hdf")
            if node.value.id in LOADERS and wrong:
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("eval", "exec", "__import__"):
                found.append(node.func.id)
        elif isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                found.append("trust_remote_code")
        elif isinstance(node, ast.Constant) and str(node.value).endswith(ENDINGS):
            found.append(str(node.value))
    return found


def test_nothing_is_read_that_could_run_code() -> None:
    for path in sorted((paths.ROOT / "splitkit").rglob("*.py")):
        assert unsafe(path.read_text(encoding="utf-8")) == [], path.name
    for bad in (
        "import pickle",
        "from yaml import load",
        "torch.load(path)",
        "f(trust_remote_code=x)",
        "eval(text)",
        "open('pytorch_model.bin')",
    ):
        assert len(unsafe(bad)) == 1, bad


def test_a_key_reaches_no_notebook_table_log_or_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A notebook asks a server that repeats the key in its replies and in its errors."""
    for name in ("CACHE", "BUILD", "RESULTS", "FIGURES"):
        monkeypatch.setenv(f"SPLITKIT_{name}", str(tmp_path / name.lower()))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Server()
    server.answer = lambda request: (
        grade(request, 2, why=f"your key is {KEY}") if len(server.seen) <= 2 else failure(401, f"no: {KEY}")
    )
    monkeypatch.setenv("SPLITKIT_JUDGE_URL", server.url)
    cells = [
        new_code_cell('PROFILE = "smoke"', metadata={"tags": ["parameters"]}),
        new_code_cell(
            "import logging\nlogging.basicConfig(level=logging.DEBUG, force=True)\n"
            "from splitkit import get_profile\nfrom splitkit.runs import results\n"
            "from splitkit.judging.llm import LLMJudge\n"
            "judge = LLMJudge(concurrency=1)\n"
            'table = judge.score("powerseeking", ["q"] * 2, ["one", "two"])\n'
            'print(results.write_table(table, "judged", get_profile(PROFILE)), judge, vars(judge))\ntable'
        ),
        new_code_cell('judge.score("powerseeking", ["q"], ["three"])'),
    ]
    notebook = tmp_path / "00_judge.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), notebook)
    try:
        with pytest.raises(notebooks.NotebookError, match=r"refused the key.*no: \[key\]") as caught:
            notebooks.run_notebook(notebook, get_profile("smoke"), tmp_path / "executed")
    finally:
        server.http.shutdown()
        server.http.server_close()
    assert server.keys == {f"Bearer {KEY}"} and len(server.seen) == 3
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"judged.csv", "judged.provenance.json", "00_judge.failed.ipynb"} <= names
    assert len(list((tmp_path / "cache" / "judge").rglob("*.json"))) == 2
    executed = (tmp_path / "executed" / "00_judge.failed.ipynb").read_text()
    assert "DEBUG:openai" in executed, "the client's own log is not looked at"
    told = [path.read_bytes() for path in files]
    told += [text.encode() for text in (*capfd.readouterr(), str(caught.value))]
    assert not [text for text in told if KEY[3:].encode() in text]


def test_the_cache_of_an_undisturbed_run_is_what_a_reader_finds(undisturbed: Path) -> None:
    """The comparisons above look at something."""
    assert check_whole(undisturbed, undisturbed) == 3 * len(PROFILE.cells())
    assert len(visible(undisturbed)) == (4 + 3 + 3) * len(PROFILE.cells())
