"""Settings of the text part of a model, and the ids of BOS, which is never steered."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NESTED = ("text_config", "language_config", "llm_config", "decoder")
"""Where wrappers of a language model keep its config, if `get_text_config` does not find it."""

_NOTED = "_bos_of_tokenizers"
"""BOS by the tokenizers that were used with a model: an attribute of its embedding, which all its wrappers
share and copies take along."""


def text_config(config: Any) -> Any:
    """The config of the language model inside a model's config: nested in a wrapper's, or itself."""
    return next(_configs(config))


def text_setting(model: PreTrainedModel, name: str, default: Any = None) -> Any:
    """A setting of the model's text config, or of the whole one where that lacks it; then `default`."""
    found = (getattr(config, name, None) for config in _configs(model.config))
    return next((value for value in found if value is not None), default)


def _configs(config: Any) -> Iterator[Any]:
    """The text config, then the one around it; one and the same for most models."""
    try:
        inner = config.get_text_config()
    # a config class of its own, or several parts with text
    except (AttributeError, ValueError):
        inner = config
    if inner is config:
        inner = next((found for name in _NESTED if (found := getattr(config, name, None))), config)
        if not hasattr(inner, "hidden_size"):
            inner = config
    yield inner
    yield config


def stated_ids(model: PreTrainedModel, name: str) -> list[int]:
    """Ids of a special token in the configs and the generation config; a model can end in several ways."""
    sources = (*_configs(model.config), getattr(model, "generation_config", None))
    ids: dict[int, None] = {}
    for value in (getattr(source, name, None) for source in sources):
        ids |= dict.fromkeys(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return list(ids)


def bos_ids(model: PreTrainedModel) -> tuple[int, ...]:
    """The ids of BOS, in order: what the model's configs and the tokenizers noted for it call so."""
    return tuple(sorted({*stated_ids(model, "bos_token_id"), *_noted(model)}))


def note_bos(model: PreTrainedModel, bos: int | None) -> None:
    """Keep in mind the BOS of a tokenizer that is used with the model, whose config may lack it."""
    vars(model.get_input_embeddings())[_NOTED] = {*_noted(model), *(() if bos is None else (int(bos),))}


def check_bos(model: PreTrainedModel) -> None:
    """Warn, once per model, where neither the config nor a tokenizer has said which token is BOS, or none."""
    if not bos_ids(model) and _NOTED not in vars(model.get_input_embeddings()):
        note_bos(model, None)
        warnings.warn(
            "which token is BOS is not known here, so one would be steered like any other: set "
            "model.config.bos_token_id = tokenizer.bos_token_id (unless that is None), or pass tokens=mask.",
            stacklevel=5,
        )


def unstated_bos(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """BOS where the tokenizer alone knows it, as an entry of an intervention's details; else no entry."""
    bos = tokenizer.bos_token_id
    return {} if bos is None or bos in stated_ids(model, "bos_token_id") else {"bos_token_id": int(bos)}


def _noted(model: PreTrainedModel) -> set[int]:
    return vars(model.get_input_embeddings()).get(_NOTED, set())


def steered_tokens(ids: Int[Tensor, "*shape"], bos: tuple[int, ...]) -> Bool[Tensor, "*shape"]:
    """True at every token but BOS."""
    steered = torch.ones_like(ids, dtype=torch.bool)
    for one in bos:
        steered &= ids != one
    return steered
