"""Models and their tokenizers: the registry of those that are shipped, with their layers, and loading."""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from splitkit.steering.formats import adapters
from splitkit.steering.formats.gguf_files import as_ordinary, check_gguf, read_once
from splitkit.steering.formats.sources import note_source
from splitkit.steering.memory import DeviceMap, auto_class, check_memory, devices_of
from splitkit.steering.model_files import check_whole, current_name, digest, fetch, find
from splitkit.steering.prompts.settings import note_bos
from splitkit.storage import paths


@dataclass(frozen=True)
class ModelInfo:
    """A model that ships with the project: its folder and the layer its experiments steer."""

    name: str
    layer: int = 3

    @property
    def folder(self) -> Path:
        """Folder of its weights, tokenizer and model card."""
        return paths.MODELS / self.name


MODELS: dict[str, ModelInfo] = {name: ModelInfo(name) for name in ("tiny-gemma2", "tiny-qwen2")}


DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
"""Types that weights can have. An intervention computes in float32 at least on any of them."""


def load_model(
    name: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    device_map: DeviceMap | None = None,
    quantization_config: Any = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in evaluation mode, and its tokenizer.

    Args:
        name: a name of `MODELS`; a local folder ("~" is the home folder); a GGUF file ("model.Q4_K_M.gguf"),
            which is dequantised (extra `gguf`); the folder of an adapter that peft saved, which is merged
            into the base model that it names; or a hub id ("owner/name"), which is looked up below the
            folder that SPLITKIT_MODELS names, if it is set, else in the hub's local cache, whose revision is
            kept; see `model_files.fetch`. Of folders only safetensors are read, and no code that comes
            with a model is ever run. HF_HUB_OFFLINE, HF_HOME and HF_TOKEN are respected.
        dtype: a name of `DTYPES`, or "auto" for the type that the model's config names (float32 for GGUF).
        device: "cpu", "cuda", "cuda:1", "mps".
        device_map: instead of a device, how to spread the model over several: "auto" for all GPUs, or a dict
            of module names and devices. No part can be left on the CPU or the disk beside a GPU.
        quantization_config: passed on to transformers, as BitsAndBytesConfig(load_in_4bit=True); whether the
            weights fit into memory is then not checked.

    Raises:
        ValueError: for an unknown name (lists `MODELS`), type or device, a model that needs code of its own,
            damaged weights, or when the weights of a shipped model, or of a copy of one, are not the ones
            that were released.
        FileNotFoundError: when a shipped model or a local folder is not there, or holds no whole model.
        ModuleNotFoundError: for a GGUF file or an adapter without the package that reads it.
        ConnectionError: for a hub model that is not, or not whole, in the local cache when the hub does not
            give it.
        MemoryError: when the model's weights do not fit into the free memory.
    """
    place = check_device(device, device_map)
    wanted = _check_dtype(dtype)
    name = current_name(str(name))
    shipped = name in MODELS
    source = MODELS[name].folder if shipped else paths.expanded(name)
    if shipped or (source / "splitkit.json").is_file():
        _check_release(source)
    if not source.exists():
        if str(name).startswith((".", "/", "~")) or str(name).count("/") > 1 or source.suffix == ".gguf":
            raise FileNotFoundError(f"there is no model folder {str(source)!r}, and no such GGUF file.")
        source = _hub_folder(str(name))
    # its bar over a file of a few MB is noise in a notebook
    transformers.utils.logging.disable_progress_bar()
    if (source / adapters.CONFIG).is_file() and not (source / "config.json").is_file():
        if quantization_config is not None:
            raise ValueError("an adapter is merged into plain weights: leave quantization_config out.")
        base = adapters.base_of(source)
        try:
            model, tokenizer = load_model(base, dtype=dtype, device=device, device_map=device_map)
        except (ConnectionError, FileNotFoundError) as error:
            error.add_note(f"It is the base model of the adapter in {source}, by its {adapters.CONFIG}.")
            raise
        model = adapters.merged(model, source)
        note_source(model, file=source.name, base=base, sha256=digest(source))
        if (source / "tokenizer_config.json").is_file():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        return _finished(model, tokenizer)
    if source.is_dir():
        check_whole(source)
        return _finished(*_load(str(name), source, wanted, place, device_map, quantization_config, {}))
    check_gguf(source)
    if quantization_config is not None:
        raise ValueError("a GGUF file is dequantised when it is loaded: leave quantization_config out.")
    options = {"gguf_file": source.name}
    try:
        with read_once():
            model, tokenizer = _load(
                str(name), source.parent, wanted or torch.float32, place, device_map, None, options
            )
    # a damaged file ends anywhere in it
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ValueError(
            f"the GGUF file {source} is damaged, or of a kind that transformers does not read "
            f"({type(error).__name__}: {error})."
        ) from error
    note_source(as_ordinary(model), file=source.name, sha256=digest(source))
    return _finished(model, tokenizer)


def _load(
    name: str,
    source: Path,
    wanted: torch.dtype | None,
    place: torch.device,
    device_map: DeviceMap | None,
    quantization_config: Any,
    options: dict[str, Any],
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer by transformers from a folder, of which `options` may name one GGUF file."""
    try:
        config = AutoConfig.from_pretrained(str(source), trust_remote_code=False, **options)
        held = (getattr(config, "dtype", None) or torch.float32) if wanted is None else wanted
        if quantization_config is None:
            check_memory(name, config, held, devices_of(place, device_map))
        else:
            options = options | {"quantization_config": quantization_config}
        model = auto_class(config).from_pretrained(
            str(source),
            config=config,
            dtype="auto" if wanted is None else wanted,
            device_map=device_map if device_map is not None or place.type == "cpu" else {"": place},
            use_safetensors="gguf_file" not in options,
            trust_remote_code=False,
            **options,
        )
        options.pop("quantization_config", None)
        tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, **options)
    except SafetensorError as error:
        raise ValueError(f"the weights of {source} are damaged: {error}.") from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(f"{source} needs code of its own, which splitkit never runs.") from error
    return model, tokenizer


def _finished(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Both as they are used: all weights in memory, a PAD token, in evaluation mode."""
    left = [key for key, parameter in model.named_parameters() if parameter.device.type == "meta"]
    if left:
        raise ValueError(
            f"device_map leaves {len(left)} parameters off the GPUs ({left[0]}, ...), where they cannot be "
            'read or steered: take more GPUs, a smaller model or dtype="bfloat16".'
        )
    note_bos(model, tokenizer.bos_token_id)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.eval(), tokenizer


def _check_dtype(dtype: str | torch.dtype) -> torch.dtype | None:
    """The type itself, None for "auto"."""
    if dtype == "auto":
        return None
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    raise ValueError(f"unknown dtype {dtype!r}; there are {', '.join(DTYPES)} and auto.")


def check_device(device: str | torch.device, device_map: DeviceMap | None) -> torch.device:
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"unknown device {device!r}; there are {', '.join(there)}.") from error
    if str(place) not in there and not (str(place) == "cuda" and len(there) > 1):
        raise ValueError(f"this machine has no device {str(place)!r}; there are {', '.join(there)}.")
    if device_map is not None and place.type != "cpu":
        raise ValueError(f"device {str(place)!r} and a device_map were given: one of them places the model.")
    return place


def _hub_folder(name: str) -> Path:
    """A hub model's folder on this machine, whose digest is the one recorded; downloaded if it is not there.

    The hub is asked first whether it has the model: a download would retry for long.
    """
    choices = f"there are {', '.join(MODELS)}, hub ids (owner/name), local folders and GGUF files"
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


def _released_digest(folder: Path) -> str:
    card = folder / "splitkit.json"
    try:
        return str(json.loads(card.read_text(encoding="utf-8"))["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{card} is damaged, it states no sha256: {error!r}.") from error


def _check_release(folder: Path) -> None:
    """A shipped model's weights, or those of a copy, are the released ones, byte for byte."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"no {weights.name} in {folder}: restore it, or `make models`.")
    found, expected = hashlib.sha256(weights.read_bytes()).hexdigest(), _released_digest(folder)
    if found != expected:
        raise ValueError(
            f"the weights of {folder.name} are not the released ones: {weights} has sha256 {found[:12]}..., "
            f"splitkit.json says {expected[:12]}...; restore the file, or run `make models` and recompute. "
            "Trained further, it is another model: remove its splitkit.json."
        )


def dtype_name(model: PreTrainedModel) -> str:
    """The type of a model's weights as `load_model` takes it: "float32", "bfloat16"."""
    return str(model.dtype).removeprefix("torch.")
