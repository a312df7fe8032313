"""Downloads, over real HTTP on this machine: whole, tampered, broken off, killed; and offline."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from splitkit.datasets import files
from splitkit.datasets.files import SOURCES, Source, fetch
from splitkit.storage import paths
from tests.madedata import METADATA, PSYCHOPATHY, TRAIN, made, sha256

CONTENT = made()[PSYCHOPATHY]


class Server(ThreadingHTTPServer):
    """Serves CONTENT in the manners of `plan`, one after the other, then whole."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[str] = []
        self.requests = 0
        self.halfway = threading.Event()
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/psychopathy.jsonl"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        manner = self.server.plan.pop(0) if self.server.plan else "whole"
        if manner == "missing":
            self.send_error(404)
            return
        body = CONTENT.replace(b"Statement", b"statement", 1) if manner == "tampered" else CONTENT
        half = len(body) // 2
        self.send_response(200)
        if manner != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:half])
        self.wfile.flush()
        if manner == "stalled":
            self.server.halfway.set()
            self.server.go_on.wait(60)
        if manner not in ("dropped", "no length"):
            self.wfile.write(body[half:])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setitem(SOURCES, PSYCHOPATHY, Source(server.url, sha256(CONTENT)))
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(files, "ATTEMPTS", 1)
    monkeypatch.delenv("SPLITKIT_DATA", raising=False)
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()


def kept() -> list[str]:
    """What there is in the cache, but for the lock."""
    cache = paths.CACHE / "datasets"
    found = (path.relative_to(cache).as_posix() for path in cache.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != ".lock")


def content() -> bytes:
    return fetch(PSYCHOPATHY, progress=False).read_bytes()


def test_a_download_is_kept_and_not_repeated(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch(PSYCHOPATHY).read_bytes() == CONTENT
    assert "100%" in capsys.readouterr().err
    assert kept() == [PSYCHOPATHY]
    assert fetch(PSYCHOPATHY).read_bytes() == CONTENT
    assert server.requests == 1


def test_without_progress_it_draws_no_bar(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(PSYCHOPATHY, progress=False)
    assert "%" not in capsys.readouterr().err


def test_a_tampered_download_names_both_digests_and_is_not_kept(server: Server) -> None:
    server.plan = ["tampered"]
    wrong = sha256(CONTENT.replace(b"Statement", b"statement", 1))
    with pytest.raises(ValueError, match=f"not the released {PSYCHOPATHY}") as caught:
        fetch(PSYCHOPATHY, progress=False)
    assert sha256(CONTENT) in str(caught.value)
    assert wrong in str(caught.value)
    assert kept() == []
    assert content() == CONTENT


@pytest.mark.parametrize(("manner", "error"), [("dropped", ConnectionError), ("no length", ValueError)])
def test_what_breaks_off_leaves_nothing(server: Server, manner: str, error: type[Exception]) -> None:
    """Without a stated length the end looks like one: then the digest finds it."""
    server.plan = [manner]
    with pytest.raises(error, match=PSYCHOPATHY):
        fetch(PSYCHOPATHY, progress=False)
    assert kept() == []
    assert content() == CONTENT
    assert kept() == [PSYCHOPATHY]


def test_a_second_attempt_follows_a_dropped_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ATTEMPTS", 2)
    server.plan = ["dropped"]
    assert content() == CONTENT
    assert server.requests == 2


def test_no_such_address_and_no_server_say_what_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan = ["missing"]
    with pytest.raises(ConnectionError, match=r"404.*SPLITKIT_DATA"):
        fetch(PSYCHOPATHY, progress=False)
    monkeypatch.setitem(SOURCES, PSYCHOPATHY, Source("http://127.0.0.1:9/x", sha256(CONTENT)))
    with pytest.raises(ConnectionError, match=r"1 attempts.*SPLITKIT_DATA"):
        fetch(PSYCHOPATHY, progress=False)
    assert kept() == []


@pytest.mark.parametrize("damage", [b"", CONTENT[: len(CONTENT) // 2], CONTENT + b"\n"])
def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, damage: bytes) -> None:
    path = paths.CACHE / "datasets" / PSYCHOPATHY
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    assert content() == CONTENT
    assert path.read_bytes() == CONTENT


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_in_mid_download_it_leaves_nothing_that_counts(server: Server, tmp_path: Path) -> None:
    server.plan = ["stalled"]
    code = (
        "from splitkit.datasets.files import *\n"
        f"SOURCES[{PSYCHOPATHY!r}] = Source({server.url!r}, {sha256(CONTENT)!r})\n"
        f"fetch({PSYCHOPATHY!r}, progress=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"SPLITKIT_CACHE": str(paths.CACHE)}
    )
    try:
        assert server.halfway.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (paths.CACHE / "datasets" / PSYCHOPATHY).exists()
    assert kept() != [], "it was killed before there was anything to leave"
    assert content() == CONTENT


def test_two_at_once_download_once(server: Server) -> None:
    server.plan = ["stalled"]
    found: list[bytes] = []
    one, other = (threading.Thread(target=lambda: found.append(content())) for _ in range(2))
    one.start()
    assert server.halfway.wait(60)
    other.start()
    time.sleep(0.2)
    assert server.requests == 1, "the second one waits"
    server.go_on.set()
    one.join()
    other.join()
    assert found == [CONTENT, CONTENT]
    assert server.requests == 1


def test_a_cache_that_cannot_be_written_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.CACHE.write_text("a file where the folder should be")
    with pytest.raises(PermissionError, match=r"cache/datasets.*SPLITKIT_CACHE"):
        fetch(PSYCHOPATHY, progress=False)
    assert server.requests == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_cache_is_named_and_still_read(server: Server) -> None:
    cache = paths.CACHE / "datasets"
    fetch(PSYCHOPATHY, progress=False)
    cache.chmod(0o555)
    try:
        assert content() == CONTENT
        with pytest.raises(PermissionError, match="SPLITKIT_CACHE"):
            fetch(TRAIN, progress=False)
    finally:
        cache.chmod(0o755)


def test_a_full_disk_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "move", full)
    with pytest.raises(OSError, match="No space left") as caught:
        fetch(PSYCHOPATHY, progress=False)
    assert PSYCHOPATHY in str(caught.value)
    assert str(paths.CACHE) in str(caught.value)
    assert kept() == []


def test_what_is_in_the_cache_needs_no_pooch(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(PSYCHOPATHY, progress=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert content() == CONTENT
    with pytest.raises(ImportError, match=r"needs pooch: pip install '\.\[data\]'"):
        fetch(METADATA, progress=False)


def test_offline_the_network_is_never_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    monkeypatch.setenv("SPLITKIT_DATA", str(folder))
    with pytest.raises(FileNotFoundError, match=rf"no file {PSYCHOPATHY}.*powerseeking/test\.csv"):
        fetch(PSYCHOPATHY)
    (folder / "psychopathy").mkdir(parents=True)
    (folder / PSYCHOPATHY).write_bytes(CONTENT)
    assert fetch(PSYCHOPATHY).read_bytes() == CONTENT
    (folder / PSYCHOPATHY).write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match="not the released file") as caught:
        fetch(PSYCHOPATHY)
    assert sha256(CONTENT) in str(caught.value)
    assert sha256(CONTENT[:-1]) in str(caught.value)
    assert server.requests == 0
    assert not paths.CACHE.exists()


def test_an_unknown_file_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown data file '\.\./x'; there are psychopathy/"):
        fetch("../x")


def test_every_address_names_a_commit() -> None:
    for source in SOURCES.values():
        commit = source.url.split("/")[5]
        assert source.url.startswith("https://raw.githubusercontent.com/")
        assert int(commit, 16)
        assert len(commit) >= 8
        assert len(source.sha256) == 64
