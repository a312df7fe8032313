"""Files and folders that are written whole or not at all, and the lock that keeps two runs apart."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class RunInProgress(RuntimeError):
    """Another process is writing to the same folder."""


def _flush(path: Path) -> None:
    """Ask the disk to keep `path` (a file or a folder) before anything points at it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a killed run, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp's files are private; a result is as readable as any other file of the project
        temporary.chmod(0o644)
        os.replace(temporary, path)
        _flush(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes `target` when the block succeeds, else vanishes.

    A `target` that is already there wins: the block's folder is dropped, so that two writers of the same
    content cannot disturb a reader.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    try:
        yield temporary
        for path in temporary.rglob("*"):
            _flush(path)
        _flush(temporary)
        temporary.chmod(0o755)
        if not target.exists():
            os.rename(temporary, target)
            _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep_away(folder: Path) -> None:
    """Remove the temporary folders that killed writers left in `folder`; only for who holds it."""
    for temporary in folder.glob(".*.tmp"):
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(*folders: Path) -> None:
    """PermissionError, naming the folder and what to do, unless a file can be written in every folder."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, suffix=".tmp"):
                pass
        except OSError as error:
            raise PermissionError(
                f"cannot write to {folder}: {error.strerror or error}. Nothing was computed. Give yourself "
                "write permission there, or point SPLITKIT_RESULTS, SPLITKIT_FIGURES and SPLITKIT_CACHE at "
                "folders of yours."
            ) from error


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, waiting until others that ask for it the same way have let it go."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        yield


@contextmanager
def exclusive(folder: Path, purpose: str) -> Iterator[None]:
    """Hold `folder` for this process; RunInProgress, naming the other process, when another one holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / ".lock.owner"
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        holder = owner.read_text(encoding="utf-8").strip() if owner.exists() else "unknown"
        raise RunInProgress(
            f"another run is using {folder} ({holder}). Two runs would write the same files: wait until it "
            "has ended, or stop it; what it finished is kept."
        ) from None
    try:
        owner.write_text(f"process {os.getpid()}, {purpose}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
