"""Model files: the folder of a model's weights and tokenizer on this machine, and its digest."""

import hashlib
import json
import os
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from splitkit.steering.formats.released import RELEASED
from splitkit.storage import paths
from splitkit.storage.files import write_whole

VARIABLE = "SPLITKIT_MODELS"
"""Environment variable: a folder with models as `<owner>/<name>` or `<name>`; then the hub is not asked."""

READ = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""Patterns of the files that are read of a model: no weights of another format, and no code."""

RENAMED = {"embedded-gemma2": "tiny-gemma2", "embedded-qwen2": "tiny-qwen2"}
"""Names that shipped models had before, and theirs of today."""


def current_name(name: str) -> str:
    """Today's name of a shipped model that had another one before, with a warning; else the name itself."""
    if name in RENAMED and not paths.expanded(name).exists():
        warnings.warn(f"{name!r} is called {RENAMED[name]!r} now.", FutureWarning, stacklevel=3)
        return RENAMED[name]
    return name


def is_shipped(name: str) -> bool:
    """True where a model of this name ships with the project."""
    return name not in ("", ".", "..") and Path(name).name == name and (paths.MODELS / name).is_dir()


def gguf_file(name: str) -> Path | None:
    """The GGUF file of that path, else of that path or name below SPLITKIT_MODELS; None where there is none.

    ValueError for a name that several files have there.
    """
    if not name.endswith(".gguf"):
        return None
    if paths.expanded(name).is_file():
        return paths.expanded(name)
    if not (own := os.environ.get(VARIABLE)) or _leads_out(name):
        return None
    root = paths.expanded(own).resolve()
    found = [root / name] if "/" in name else sorted(root.rglob(name))
    if len(found) > 1:
        there = ", ".join(str(path.relative_to(root)) for path in found)
        raise ValueError(f"{VARIABLE} has {len(found)} files {name!r}: name one of {there}.")
    return found[0] if found and found[0].is_file() else None


def _leads_out(name: str) -> bool:
    """True for a path that may lead out of a folder of models: it is no model's name there."""
    return name.startswith((".", "/", "~")) or ".." in Path(name).parts


def full_name(name: str) -> str:
    """A model's name from wherever it is read: a folder's whole path, since notebooks run in another folder.

    ValueError for a name that is no folder and can be neither a shipped model's nor a hub id.
    """
    name = current_name(name)
    file = gguf_file(name)
    if file is not None or paths.expanded(name).is_dir():
        return str((file or paths.expanded(name)).resolve())
    if "/" not in name and not is_shipped(name) and name not in RELEASED:
        shipped = sorted(path.name for path in paths.MODELS.iterdir() if path.is_dir())
        known = ", ".join([*shipped, *RELEASED])
        raise ValueError(f"no model {name!r}: give a folder, a hub id (owner/name), or one of {known}")
    return name


def find(name: str) -> Path | None:
    """A model's folder or GGUF file: shipped, as named, below SPLITKIT_MODELS or in the hub's local cache.

    None where the hub, or `python -m splitkit.models`, has to be asked. FileNotFoundError when
    SPLITKIT_MODELS is set and has no such model, naming what was looked for.
    """
    if is_shipped(name):
        return paths.MODELS / name
    if name in RELEASED:
        return _released_file(name)
    if (file := gguf_file(name)) is not None:
        return file
    if paths.expanded(name).is_dir():
        return paths.expanded(name)
    own = os.environ.get(VARIABLE)
    if own and "/" in name and not _leads_out(name):
        root = paths.expanded(own).resolve()
        wanted = [root / name, root / name.rpartition("/")[2]]
        found = next((folder for folder in wanted if (folder / "config.json").is_file()), None)
        if found is None:
            there = sorted(path.parent.relative_to(root).as_posix() for path in root.glob("**/config.json"))
            raise FileNotFoundError(
                f"{VARIABLE} has no model {name!r}: neither {wanted[0]} nor {wanted[1]} holds a config.json; "
                f"below {root} there are {', '.join(there) or 'none'}."
            )
        return found
    return _in_hub_cache(name)


def released_folder() -> Path:
    """The folder that released models are fetched to: SPLITKIT_MODELS, else `models` below the cache."""
    own = os.environ.get(VARIABLE)
    return paths.expanded(own).resolve() if own else paths.CACHE / "models"


def _released_file(name: str) -> Path | None:
    file = RELEASED[name].file
    places = [
        root / part
        for root in (released_folder(), paths.CACHE / "models")
        for part in (file, f"{name}/{file}")
    ]
    return next((path for path in places if path.is_file()), None)


def _in_hub_cache(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    folder = Path(cached).parent if isinstance(cached, str) else None
    # a download that was interrupted is gone on with
    return folder if folder is not None and _has_weights(folder) else None


def check_whole(folder: Path) -> None:
    """Raises FileNotFoundError for a folder that is no whole model's, saying what is there or missing."""
    if not (folder / "config.json").is_file():
        files = sorted(path.name for path in folder.glob("*.gguf"))
        hint = f": it holds GGUF files, name one: {folder / files[0]}" if files else ", it has no config.json"
    elif not _has_weights(folder):
        hint = ": weights are missing, which have to be safetensors (model.safetensors, or all its parts)"
    else:
        return
    raise FileNotFoundError(f"{folder} is no whole model's folder{hint}.")


def _has_weights(folder: Path) -> bool:
    """True where every file of weights is there that a model's folder should have."""
    index = folder / "model.safetensors.index.json"
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        names = {"model.safetensors"}
    return all((folder / name).is_file() for name in names)


def fetch(name: str) -> Path:
    """A model's folder on this machine, downloaded from the hub first where it is not there.

    A model of `RELEASED` is its GGUF file, which `python -m splitkit.models` fetches and nothing else.

    Raises:
        FileNotFoundError: see `find`; for a model of `RELEASED` that was not fetched.
        ValueError: for a file of `RELEASED` with another SHA-256 than the released one.
        ConnectionError: when it has to be downloaded and the hub does not give it, or not whole.
    """
    found = find(name)
    if name in RELEASED:
        return _checked(name, found)
    if found is not None:
        return found
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(READ)))
        # without a network it gives what an interrupted download left
        if not _has_weights(folder):
            raise FileNotFoundError(f"{folder} lacks weights, which have to be safetensors")
    # each release of the hub's client has another transport, with errors of its own
    except Exception as error:
        raise ConnectionError(
            f"{name} is not on this machine and the hub does not give it ({type(error).__name__}: {error}). "
            f"Download it where there is a network, or set {VARIABLE} to a folder that holds it."
        ) from error
    return folder


def _checked(name: str, found: Path | None) -> Path:
    """The file of a released model, byte for byte the one that was released."""
    one = RELEASED[name]
    if found is None:
        raise FileNotFoundError(
            f"{name} is not on this machine: there is no {one.file} in {released_folder()}. "
            f"`python -m splitkit.models {name}` fetches it; {VARIABLE} names the folder of a file you have."
        )
    if (have := digest(found)) != one.sha256:
        size = found.stat().st_size
        raise ValueError(
            f"{found} is not the released {name}: it has {size:,} bytes and SHA-256 {have[:16]}..., expected "
            f"are {one.size:,} bytes and {one.sha256[:16]}...; remove it and fetch it anew by "
            f"`python -m splitkit.models {name}`."
        )
    return found


def config(name: str) -> dict[str, Any]:
    """A model's config.json. FileNotFoundError without files on this machine, ValueError for damaged ones."""
    folder = find(name)
    if folder is None:
        raise FileNotFoundError(f"{name} is not on this machine; load it once, or set {VARIABLE}.")
    if folder.is_file():
        return _gguf_config(folder)
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{folder} is no model's folder: it has no config.json.") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it is no JSON object")
    return content


def _gguf_config(path: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    from splitkit.steering.formats.gguf_files import check_gguf, read_once

    check_gguf(path)
    with read_once():
        return AutoConfig.from_pretrained(str(path.parent), gguf_file=path.name).to_dict()


def architecture(name: str) -> str:
    """The model type that a model's config states, as in "gemma2". Raises: see `config`; KeyError without."""
    return str(config(name)["model_type"])


def depth(name: str) -> int:
    """Number of layers in a model's config. Raises: see `config`; ValueError where it does not say."""
    content = config(name)
    text = content.get("text_config") or content  # nested in a wrapper
    found = text.get("num_hidden_layers", text.get("n_layer"))
    if not isinstance(found, int) or found < 1:
        raise ValueError(f"the config of {name} does not say how many layers there are")
    return found


def digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files that are read of a model; of a GGUF file its own.

    Gigabytes take a minute, so the digest of a file is remembered (`digests` below SPLITKIT_CACHE) under its
    path, size and time of change.
    """
    if folder.is_file():
        return _remembered(folder.resolve())
    files = sorted({path for pattern in READ for path in folder.glob(pattern)})
    lines = "".join(f"{path.name} {_remembered(path.resolve())}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def named_model_digest(name: str) -> str:
    """The digest that a shipped model states in its `splitkit.json`, another model's from its files.

    'absent' for a model that is not on this machine.
    """
    card = paths.MODELS / name / "splitkit.json"
    if is_shipped(name) and card.exists():
        return str(json.loads(card.read_text(encoding="utf-8"))["sha256"])
    folder = find(name)
    return "absent" if folder is None else digest(folder)


def _remembered(path: Path) -> str:
    state = path.stat()
    return _file_digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, modified: int) -> str:
    key = hashlib.sha256(f"{path} {size} {modified}".encode()).hexdigest()
    memory = paths.CACHE / "digests" / key
    try:
        known = memory.read_text(encoding="ascii")
        if len(known) == 64 and all(letter in "0123456789abcdef" for letter in known):
            return known
    except (OSError, ValueError):
        pass
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    # a cache that cannot be written costs time and no more
    with suppress(OSError):
        write_whole(memory, found)
    return found
