"""Stand-ins: an architecture in small, where copies of the model itself in float64 would not fit.

The identity of notebook 01 (Eq. 1 and 5) is about an architecture and holds for any weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from splitkit.steering import model_files
from splitkit.steering.memory import count_parameters, inner_width
from splitkit.steering.models import MODELS, load_model

LARGE = 50_000_000
"""Parameters from which on a stand-in is taken."""
SMALL: dict[str, int] = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}


def subject(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """A model that copies in float64 fit of, its tokenizer, and what has to be said about it, if anything.

    It is the model itself in float32, or from `LARGE` parameters on one of its architecture with `SMALL`
    sizes, its own vocabulary and random weights. Raises: see `modelfiles.fetch` and `load_model`.
    """
    if name in MODELS:
        return *load_model(name), ""
    folder = model_files.fetch(name)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    count = count_parameters(config)
    if count < LARGE:
        return *load_model(folder), ""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_in_small(config), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    said = f"{name} has {count / 1e9:.2g} billion parameters, too many for copies in float64: here its "
    said += "architecture in small, with random weights, stands for it."
    return model.eval(), tokenizer, said


def subjects(
    names: Sequence[str],
) -> tuple[dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]], list[str]]:
    """`subject` of each of some models: models and tokenizers by name, and a line for each that has one."""
    found = {name: subject(name) for name in names}
    models = {name: (model, tokenizer) for name, (model, tokenizer, _) in found.items()}
    return models, [f"{said}\n" for *_, said in found.values() if said]


def layer_size(name: str) -> tuple[int, int]:
    """(d_in, d_out) of a model's down-projections: width of the feed-forward network, hidden size."""
    folder = model_files.fetch(name)
    text = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    return inner_width(text), int(text.hidden_size)


def _in_small(config: Any) -> Any:
    text = config.get_text_config()
    for key, value in SMALL.items():
        if getattr(text, key, None) is not None:
            # layers only ever fewer: each has a type in the config
            setattr(text, key, min(value, text.num_hidden_layers) if key == "num_hidden_layers" else value)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    return config
