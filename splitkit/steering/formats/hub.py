"""Hub models: the folder of one on this machine, fetched if it is not there."""

from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

from splitkit.steering.formats.released import RELEASED
from splitkit.steering.formats.shipped import MODELS
from splitkit.steering.model_files import VARIABLE, fetch, find
from splitkit.storage import paths

CHOICES = f"there are {', '.join([*MODELS, *RELEASED])}, hub ids (owner/name), local folders and GGUF files"


def hub_folder(name: str) -> Path:
    """A hub model's folder on this machine, whose digest is the one recorded; downloaded if it is not there.

    The hub is asked first whether it has the model: a download would retry for long.
    """
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"there is no model folder {str(paths.expanded(name))!r}.")
    if "/" not in name:
        raise ValueError(f"unknown model {name!r}; {CHOICES}.")
    if (found := find(name)) is not None:
        return found
    _ask(name)
    return fetch(name)


def hub_file(name: str) -> Path:
    """A GGUF file of a hub model, "owner/name/file.gguf", on this machine; downloaded if it is not there."""
    owner, _, rest = name.partition("/")
    model, _, file = rest.partition("/")
    if owner in ("", ".", "..", "~") or not file or Path(owner).is_dir():
        raise FileNotFoundError(
            f"there is no such GGUF file: {str(paths.expanded(name))!r}. It is named by its path, by its "
            f'name below the folder that {VARIABLE} names, or on the hub as "owner/name/file.gguf".'
        )
    repository = f"{owner}/{model}"
    if isinstance(cached := try_to_load_from_cache(repository, file), str):
        return Path(cached)
    _ask(repository)
    try:
        return Path(hf_hub_download(repository, file))
    except EntryNotFoundError as error:
        raise ValueError(f"the hub's {repository} has no file {file!r}: {error}") from error


def _ask(name: str) -> None:
    try:
        HfApi().model_info(name, timeout=10.0)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ValueError(f"no folder {name!r} and no such model on the hub; {CHOICES}. {error}") from error
    # each release of the hub's client has another transport, with errors of its own
    except Exception as error:
        raise ConnectionError(
            f"no folder {name!r}, and the hub does not answer ({type(error).__name__}); {CHOICES}. The names "
            "need no network; a hub id does (HF_HUB_OFFLINE unset) until all of it is in the local cache."
        ) from error
