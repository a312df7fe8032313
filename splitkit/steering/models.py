"""Loading: a causal language model and its tokenizer, by name, from a folder, a file or an adapter."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from splitkit.steering.formats import adapters
from splitkit.steering.formats.gguf_files import as_ordinary, check_gguf, read_once
from splitkit.steering.formats.hub import CHOICES, hub_file, hub_folder
from splitkit.steering.formats.released import RELEASED
from splitkit.steering.formats.shipped import MODELS, check_release
from splitkit.steering.formats.sources import note_source
from splitkit.steering.memory import DeviceMap, auto_class, check_memory, devices_of
from splitkit.steering.model_files import check_whole, current_name, digest, fetch, gguf_file
from splitkit.steering.model_state.placement import check_device, check_dtype
from splitkit.steering.prompts.settings import note_bos
from splitkit.storage import paths

_SHORT = ("header too small", "header length", "not fully covered", "cannot reshape", "must be a divisor")
"""What readers of safetensors and of GGUF say of a file that ends too early."""


def load_model(
    name: str | Path,
    *,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device = "cpu",
    device_map: DeviceMap | None = None,
    quantization_config: Any = None,
    progress: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in evaluation mode, and its tokenizer.

    Args:
        name: a name of `MODELS`; one of `RELEASED` ("SmolLM2-135M-Instruct"), a file that `python -m
            splitkit.models` fetches; a local folder ("~" is the home folder); a GGUF file
            ("model.Q4_K_M.gguf", also by its name below the folder SPLITKIT_MODELS, or on the hub as
            "owner/name/model.gguf"), which is dequantised (extra `gguf`); the folder of an adapter that peft
            saved, which is merged into the base model that it names; or a hub id ("owner/name"), which is
            looked up below the folder that SPLITKIT_MODELS names, if it is set, else in the hub's local
            cache, whose revision is kept; see `model_files.fetch`. Of folders only safetensors are read, and
            no code that comes with a model is ever run. HF_HUB_OFFLINE, HF_HOME and HF_TOKEN are respected.
        dtype: a name of `placement.DTYPES`, or "auto" for the type that the model's config names (float32 for
            GGUF).
        device: "cpu", "cuda", "cuda:1", "mps".
        device_map: instead of a device, how to spread the model over several: "auto" for all GPUs, or a dict
            of module names and devices. No part can be left on the CPU or the disk beside a GPU.
        quantization_config: passed on to transformers, as BitsAndBytesConfig(load_in_4bit=True); whether the
            weights fit into memory is then not checked. No packed weights are among the tests of this
            project, which run without bitsandbytes: prove such a model at m = 0 first.
        progress: show transformers' bar of the weights.

    Raises:
        ValueError: for an unknown name (lists `MODELS` and `RELEASED`), type or device, a model that needs
            code of its own, damaged weights, or when the weights of a shipped model, of a copy of one, or of
            one of `RELEASED` are not the ones that were released.
        FileNotFoundError: when a shipped model or a local folder is not there, or holds no whole model.
        ModuleNotFoundError: for a GGUF file or an adapter without the package that reads it.
        ConnectionError: for a hub model that is not, or not whole, in the local cache when the hub does not
            give it.
        MemoryError: when the model's weights do not fit into the free memory.
    """
    place = check_device(device, device_map)
    wanted = check_dtype(dtype)
    if quantization_config is not None and not hasattr(quantization_config, "quant_method"):
        raise TypeError(
            "quantization_config is one of transformers' own, as BitsAndBytesConfig(load_in_4bit=True), not "
            f"a {type(quantization_config).__name__}."
        )
    if not isinstance(name, (str, os.PathLike)) or not str(name).strip():
        given = repr(name) if isinstance(name, (str, int, float, type(None))) else f"a {type(name).__name__}"
        raise (ValueError if isinstance(name, str) else TypeError)(f"{given} names no model; {CHOICES}.")
    name = current_name(str(name))
    shipped = name in MODELS
    source = MODELS[name].folder if shipped else fetch(name) if name in RELEASED else gguf_file(name)
    source = source or paths.expanded(name)
    if shipped or (source / "splitkit.json").is_file():
        check_release(source)
    if not source.exists():
        source = hub_file(name) if name.endswith(".gguf") else hub_folder(name)
    # over a file of a few MB it is noise in a notebook
    bars = transformers.utils.logging
    (bars.enable_progress_bar if progress else bars.disable_progress_bar)()
    if (source / adapters.CONFIG).is_file() and not (source / "config.json").is_file():
        if quantization_config is not None:
            raise ValueError("an adapter is merged into plain weights: leave quantization_config out.")
        base = adapters.base_of(source)
        try:
            model, tokenizer = load_model(
                base, dtype=dtype, device=device, device_map=device_map, progress=progress
            )
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
        with read_once(progress):
            model, tokenizer = _load(
                str(name), source.parent, wanted or torch.float32, place, device_map, None, options
            )
    except (ImportError, MemoryError):
        raise
    # a damaged file ends anywhere in it
    except Exception as error:
        raise ValueError(
            f"the GGUF file {source} is "
            f"{_fault(error, 'damaged, or of a kind that transformers does not read')} "
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
        model, found = auto_class(config).from_pretrained(
            str(source),
            config=config,
            dtype="auto" if wanted is None else wanted,
            device_map=device_map if device_map is not None or place.type == "cpu" else {"": place},
            use_safetensors="gguf_file" not in options,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
        # transformers fills these with random numbers
        if absent := sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}):
            raise ValueError(
                f"{options.get('gguf_file') or source} lacks {len(absent)} of the weights that its config "
                f"asks for, or has them in another shape: {', '.join(absent[:3])}"
                f"{', ...' * (len(absent) > 3)}."
            )
        options.pop("quantization_config", None)
        tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False, **options)
    except SafetensorError as error:
        raise ValueError(f"the weights of {source} are {_fault(error, 'damaged')}: {error}.") from error
    except (OSError, json.JSONDecodeError) as error:
        if isinstance(error, OSError) and "valid JSON" not in str(error):
            raise
        raise ValueError(
            f"a JSON file of {source} is damaged or cut short: fetch it again ({error})."
        ) from error
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(f"{source} needs code of its own, which splitkit never runs.") from error
    return model, tokenizer


def _fault(error: Exception, otherwise: str) -> str:
    """What an error of its reader says about a file of weights."""
    short = isinstance(error, (IndexError, struct.error)) or any(sign in str(error) for sign in _SHORT)
    return "cut short: fetch it again" if short else otherwise


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
