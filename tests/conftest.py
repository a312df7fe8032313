"""Fixtures: random tiny models of three architectures, a byte-level tokenizer, pairs and interventions."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

# `make test` runs several processes. Each takes a copy of the folders that a run writes to, before
# splitkit.storage.paths reads their names, so that no process waits for another's lock or reads its tables.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("SPLITKIT_RESULTS", "SPLITKIT_FIGURES", "SPLITKIT_CACHE"):
        if common := os.environ.get(variable):
            own = Path(f"{common}-{os.environ['PYTEST_XDIST_WORKER']}")
            if Path(common).exists():
                shutil.copytree(common, own, dirs_exist_ok=True)
            os.environ[variable] = str(own)

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.pairs import Pair

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files go first: one that is alone at the end would leave the other processes idle."""
    longest = ["test_notebooks.py", "test_default_run.py"]
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))


ARCHITECTURES = ("gemma2", "qwen2", "llama")
FORMS = ("local_weight", "lora", "vector")
LAYER = 1
SPECIAL = ("<pad>", "<bos>", "<eos>", "<user>", "<model>")
TEMPLATE = (
    "<bos>{% for turn in messages %}<user>{{ turn['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)


def tiny_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Every byte is a token, and there are five special ones."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<model>"],
        padding_side="right",
    )
    tokenizer.chat_template = template
    return tokenizer


def tiny_model(architecture: str, layers: int = 3, seed: int = 0) -> PreTrainedModel:
    """A random model whose losses differ between tokens (weights larger than a fresh model's)."""
    common: dict[str, Any] = dict(
        vocab_size=261,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=96,
        initializer_range=0.15,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    if architecture == "gemma2":
        config = Gemma2Config(**common, head_dim=8, sliding_window=16, final_logit_softcapping=5.0)
        model: PreTrainedModel = Gemma2ForCausalLM(config)
    elif architecture == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**common))
    else:
        model = LlamaForCausalLM(LlamaConfig(**common))
    return model.eval()


def random_intervention(model: PreTrainedModel, form: str, layer: int = LAYER, seed: int = 1) -> Intervention:
    """An intervention of any form with random parameters, large enough to be seen."""
    generator = torch.Generator().manual_seed(seed)
    sites = resolve_sites(model, layer)
    shapes = {
        "local_weight": {"weight": (sites.width, sites.down_width), "bias": (sites.width,)},
        "lora": {"A": (4, sites.down_width), "B": (sites.width, 4)},
        "vector": {"vector": (sites.width,)},
    }[form]
    parameters = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return Intervention(form, "sft", layer, parameters, model_digest(model))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(params=["right", "left"])
def sided_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = request.param
    return tokenizer


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return tiny_model(request.param)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    """Questions and answers of several lengths, so that any batch needs padding."""
    return [
        Pair("Do you like the sea?", "Yes. The sea is calm.", "No."),
        Pair("Who?", "A sailor, of course.", "A farmer who grows apples."),
        Pair("Write a line about rain.", "Rain on the waves.", "Rain on the roof, all day."),
        Pair("And now?", "Swim.", "Sit down."),
        Pair("Tell me a word.", "Tide", "Stone"),
    ]


@pytest.fixture
def make_intervention() -> Callable[..., Intervention]:
    return random_intervention
