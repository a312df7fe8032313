"""The paper's public data files, by address and SHA-256: from a folder, the cache, or the network."""

import hashlib
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from splitkit.storage import paths
from splitkit.storage.files import check_writable, in_turn

ATTEMPTS = 3
"""The number of attempts at a download."""
TIMEOUT = 30.0
"""The silence after which an attempt has failed, in seconds."""

_RAW = "https://raw.githubusercontent.com"
_EVALS = f"{_RAW}/anthropics/evals/84fcc677e52e1902d696c32cd1a6b663e70d3993/persona"
_BIPO = f"{_RAW}/CaoYuanpu/BiPO/cef1d00ab108d0e265578589e6b344b200ea3db8/data/power-seeking"
_AXBENCH = f"{_RAW}/stanfordnlp/axbench/e9b8cd47/axbench/concept10/prod_9b_l20_v1/generate"


@dataclass(frozen=True)
class Source:
    """A file's address, and the digest of the only content that is taken."""

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


def fetch(name: str, *, progress: bool = True) -> Path:
    """A data file whose SHA-256 is the one in `SOURCES`.

    With SPLITKIT_DATA set, the file lies below that folder and the network is never asked. Otherwise it lies
    in the cache (`datasets` below SPLITKIT_CACHE), and is downloaded first where it is missing or damaged. A
    download that fails or is killed leaves no file under the file's name.

    Raises:
        ValueError: for an unknown name (lists them), or a file with another digest: both are named.
        FileNotFoundError: when SPLITKIT_DATA has no such folder or file.
        ConnectionError: when the download fails `ATTEMPTS` times.
        ImportError: when a download is needed and pooch is not installed.
        OSError: when the cache cannot be written (PermissionError) or the disk is full.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data file {name!r}; there are {', '.join(SOURCES)}.")
    own = os.environ.get("SPLITKIT_DATA")
    folder = paths.expanded(own).resolve() if own else paths.CACHE / "datasets"
    path, source = folder / name, SOURCES[name]
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    if found == source.sha256:
        return path
    if not own:
        return _download(folder, name, progress)
    if not found:
        raise FileNotFoundError(
            f"SPLITKIT_DATA is {str(folder)!r}, and there is no file {name} in it. It has to hold "
            f"{', '.join(SOURCES)}; without SPLITKIT_DATA the files are downloaded."
        )
    raise ValueError(
        f"{path} is not the released file: it has sha256 {found}, expected is {source.sha256}. Replace it by "
        f"{source.url}, or unset SPLITKIT_DATA to have it downloaded."
    )


def import_extra(module: str, purpose: str) -> Any:
    """An optional module, of the extra `data`; ImportError says how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {module}: pip install '.[data]'") from error


def _download(folder: Path, name: str, progress: bool) -> Path:
    pooch = import_extra("pooch", "Downloading the paper's data")
    from requests import RequestException

    check_writable(folder)
    pooch.get_logger().setLevel("WARNING")
    source = SOURCES[name]
    agent = pooch.create(
        path=folder,
        base_url="",
        registry={name: f"sha256:{source.sha256}"},
        urls={name: source.url},
        retry_if_failed=ATTEMPTS - 1,
    )
    try:
        downloader = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)
        with in_turn(folder):
            return Path(agent.fetch(name, downloader=downloader))
    except RequestException as error:
        raise ConnectionError(
            f"{name} could not be downloaded from {source.url} ({ATTEMPTS} attempts): {error}. Without a "
            "network, set SPLITKIT_DATA to a folder that holds it."
        ) from error
    except ValueError as error:
        raise ValueError(f"{source.url} is not the released {name} any more: {error}") from error
    except OSError as error:
        raise OSError(error.errno, f"{name} cannot be kept in {folder}: {error.strerror}") from error
