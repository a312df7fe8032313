"""Downloads: the paper's public data files, by address and SHA-256, or offline from a folder of yours."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock

from splitkit.storage import paths
from splitkit.storage.files import check_writable, sweep_away

ATTEMPTS = 3
"""How often a download is tried before it is an error."""
TIMEOUT = 30.0
"""Seconds without a sign of life after which an attempt has failed."""

_RAW = "https://raw.githubusercontent.com"
_EVALS = f"{_RAW}/anthropics/evals/84fcc677e52e1902d696c32cd1a6b663e70d3993/persona"
_BIPO = f"{_RAW}/CaoYuanpu/BiPO/cef1d00ab108d0e265578589e6b344b200ea3db8/data/power-seeking"
_AXBENCH = f"{_RAW}/stanfordnlp/axbench/e9b8cd47/axbench/concept10/prod_9b_l20_v1/generate"


@dataclass(frozen=True)
class Source:
    """Where a file comes from, and the digest of the only content that is taken."""

    url: str
    sha256: str


SOURCES: dict[str, Source] = {
    "psychopathy/psychopathy.jsonl": Source(
        f"{_EVALS}/psychopathy.jsonl", "299a6307e2d40a82f2667e2db3dc118fbe588e4cf80194be1e09748709bf1fce"
    ),
    "powerseeking/train.csv": Source(
        f"{_BIPO}/train.csv", "6e09e0e2eed1ef3a98449a97e04bc07d638b47f93365b8cfaff7b2e3ab47bfab"
    ),
    "powerseeking/test.csv": Source(
        f"{_BIPO}/test.csv", "085fb8ec3cca4975e6d12a1b4633b0e7c35372300a8aa6e0add6707452800088"
    ),
    "axbench_concept10/train_data.parquet": Source(
        f"{_AXBENCH}/train_data.parquet", "f45f775c971fd2123adc9f93aa6d56f09a442da2893a96a07307056abc782bc5"
    ),
    "axbench_concept10/metadata.jsonl": Source(
        f"{_AXBENCH}/metadata.jsonl", "e564d8e1e7d986084771a000a87eecc56865338c652030ca77003f0ab83d8bae"
    ),
}
"""Every file by its name below SPLITKIT_DATA and below the cache; the addresses name one commit each."""


def fetch(name: str, *, progress: bool = True) -> bytes:
    """A data file's content, whose SHA-256 is the one in `SOURCES`.

    With SPLITKIT_DATA set, the file is read below that folder and the network is never asked. Otherwise it
    is read from the cache (`datasets` below SPLITKIT_CACHE), downloaded first where it is missing or damaged.
    A download that fails or is killed leaves no file behind under the file's name.

    Raises:
        ValueError: for an unknown name (lists them); for a file below SPLITKIT_DATA, or a download, with
            another digest: both digests are named.
        FileNotFoundError: when SPLITKIT_DATA has no such folder or file.
        ConnectionError: when the download fails `ATTEMPTS` times.
        ImportError: when a download is needed and pooch is not installed.
        OSError: when the cache cannot be written (PermissionError) or the disk is full.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data file {name!r}; there are {', '.join(SOURCES)}.")
    own = os.environ.get("SPLITKIT_DATA")
    if own:
        return _offline(Path(own).expanduser().resolve(), name)
    cache = paths.CACHE / "datasets"
    content = _whole(cache / name, name)
    if content is not None:
        return content
    pooch = import_extra("pooch", "Downloading the paper's data")
    check_writable(cache)
    # another process may be downloading the same file: wait, then take what it has fetched
    with FileLock(cache / ".lock"):
        content = _whole(cache / name, name)
        if content is None:
            # what killed downloads left
            sweep_away(cache)
            content = _download(pooch, cache, name, progress)
    return content


def import_extra(module: str, purpose: str) -> Any:
    """A module of the extra `paper`; ImportError says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {package}: pip install '.[paper]'") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _whole(path: Path, name: str) -> bytes | None:
    """The file's content if it is there and is the released one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if _digest(content) == SOURCES[name].sha256 else None


def _offline(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(
            f"SPLITKIT_DATA is {str(folder)!r}, and there is no file {name} in it. It has to hold "
            f"{', '.join(SOURCES)}; without SPLITKIT_DATA the files are downloaded."
        )
    content = path.read_bytes()
    found, expected = _digest(content), SOURCES[name].sha256
    if found != expected:
        raise ValueError(
            f"{path} is not the released file: it has sha256 {found}, expected is {expected}. Replace it by "
            f"{SOURCES[name].url}, or unset SPLITKIT_DATA to have it downloaded."
        )
    return content


def _download(pooch: Any, cache: Path, name: str, progress: bool) -> bytes:
    """Download into a temporary folder of the cache, check, and only then move to the file's own name."""
    # it comes with pooch
    requests = import_extra("requests", "Downloading the paper's data")
    source, target = SOURCES[name], cache / name
    # pooch announces the temporary folder, which is no news
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download.", suffix=".tmp") as folder:
        agent = pooch.create(
            path=folder,
            base_url="",
            registry={target.name: f"sha256:{source.sha256}"},
            urls={target.name: source.url},
            retry_if_failed=ATTEMPTS - 1,
        )
        downloader = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)
        try:
            content = Path(agent.fetch(target.name, downloader=downloader)).read_bytes()
            target.parent.mkdir(exist_ok=True)
            os.replace(Path(folder) / target.name, target)
        except requests.RequestException as error:
            raise ConnectionError(
                f"{name} could not be downloaded from {source.url} ({ATTEMPTS} attempts): {error}. Without a "
                "network, set SPLITKIT_DATA to a folder that holds it."
            ) from error
        except ValueError as error:
            raise ValueError(f"{source.url} is not the released {name} any more: {error}") from error
        except OSError as error:
            raise OSError(error.errno, f"{name} cannot be kept in {cache}: {error.strerror}") from error
        finally:
            logger.setLevel(level)
    return content
