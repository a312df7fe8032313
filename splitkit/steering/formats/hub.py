"""Hub models: the folder of one on this machine, fetched if it is not there."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

from splitkit.steering.formats.released import RELEASED
from splitkit.steering.formats.shipped import MODELS
from splitkit.steering.model_files import fetch, find


def hub_folder(name: str) -> Path:
    """A hub model's folder on this machine, whose digest is the one recorded; downloaded if it is not there.

    The hub is asked first whether it has the model: a download would retry for long.
    """
    named = ", ".join([*MODELS, *RELEASED])
    choices = f"there are {named}, hub ids (owner/name), local folders and GGUF files"
    if "/" not in name:
        raise ValueError(f"unknown model {name!r}; {choices}.")
    if (found := find(name)) is not None:
        return found
    try:
        HfApi().model_info(name, timeout=10.0)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ValueError(f"no folder {name!r} and no such model on the hub; {choices}. {error}") from error
    # each release of the hub's client has another transport, with errors of its own
    except Exception as error:
        raise ConnectionError(
            f"no folder {name!r}, and the hub does not answer ({type(error).__name__}); {choices}. The names "
            "need no network; a hub id does (HF_HUB_OFFLINE unset) until all of it is in the local cache."
        ) from error
    return fetch(name)
