"""Files and folders that are written whole or not at all, and the lock that keeps two runs apart."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

MANIFEST = "manifest.json"
"""The file with size and SHA-256 of all others in a folder of `whole_folder`."""


class RunInProgress(RuntimeError):
    """Another process is writing to the same folder."""


class DamagedFolder(RuntimeError):
    """A file of a finished folder is not as it was written."""


def _flush(path: Path) -> None:
    """Ask the disk to keep `path` (a file or a folder) before anything points at it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file (a text in UTF-8) so that a reader, or a killed run, never leaves or sees a part of it."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
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

    A manifest of its files comes with it, by which `damage` and `read_kept` find damage. A `target` that is
    already there wins, so that two writers of the same content cannot disturb a reader.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))
    made = temporary.stat()
    try:
        yield temporary
        write_manifest(temporary)
        for path in temporary.rglob("*"):
            _flush(path)
        _flush(temporary)
        temporary.chmod(0o755)
        if not os.path.samestat(made, temporary.stat()):
            # a writer makes missing folders: what it wrote before is gone
            raise FileNotFoundError(f"{temporary} was removed while it was written to")
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.exists():
                raise
        _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_manifest(folder: Path) -> None:
    """Write the manifest of a folder's files as they are now, whole or not at all."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    entries = {}
    for path in files:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        entries[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": digest}
    write_whole(folder / MANIFEST, json.dumps(entries, indent=1) + "\n")


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """ValueError where it cannot be read."""
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {name: {"size": int(e["size"]), "sha256": str(e["sha256"])} for name, e in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{MANIFEST} cannot be read") from error


def damage(folder: Path) -> str:
    """The damage of a folder of `whole_folder`, in words, by its files' presence and size; empty without any.

    Reading contents would take minutes for a large model's interventions: `read_kept` checks them.
    """
    if not folder.is_dir():
        return "it is not there"
    try:
        for name, entry in _manifest(folder).items():
            path = folder / name
            if not path.is_file():
                return f"{name} is not there"
            if (size := path.stat().st_size) != entry["size"]:
                return f"{name} has {size} bytes, not {entry['size']}"
    except ValueError as error:
        return str(error)
    return ""


def read_kept(folder: Path, name: str) -> bytes:
    """A file of a folder of `whole_folder`, byte for byte as it was written; DamagedFolder if it is not."""
    try:
        content = (folder / name).read_bytes()
        fine = hashlib.sha256(content).hexdigest() == _manifest(folder)[name]["sha256"]
    except (OSError, ValueError, KeyError):
        fine = False
    if not fine:
        raise DamagedFolder(
            f"{folder / name} is not as it was written. Remove {folder}: the next run makes it anew."
        )
    return content


def discard(folder: Path) -> None:
    """Remove a folder so that no reader finds a part of it."""
    grave = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    # another process may have removed it before
    with suppress(FileNotFoundError):
        os.rename(folder, grave / folder.name)
    shutil.rmtree(grave, ignore_errors=True)


def safe_name(text: str) -> str:
    """A file name of any text, not unique: it leads out of no folder, and no system refuses its length."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".")[:150] or "-"


def remove_temporaries(folder: Path) -> None:
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


def held(folder: Path) -> bool:
    """Whether a process that is still there holds `folder` by `exclusive`."""
    try:
        said = (folder / ".lock.owner").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    number = re.match(r"process (\d+)", said)
    return number is not None and psutil.pid_exists(int(number[1]))
