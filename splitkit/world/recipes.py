"""Recipes of the embedded models: architecture, tokens, chat template and optimisation."""

from dataclasses import dataclass
from typing import Any

SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """The architecture, special tokens and optimisation of one embedded model.

    Markers are the chat template's tokens besides the special ones. The first `steps` are on dialogues with
    lessons (see `world.tasks.dialogues`), `settling` ones without.
    """

    architecture: str
    specials: dict[str, str]
    markers: tuple[str, ...]
    template: str
    steps: int = 3600
    settling: int = 640
    batch_size: int = 32
    peak_lr: float = 3e-3
    warmup: int = 150
    weight_decay: float = 0.01
    vocabulary: int = 3328
    seed: int = 0


RECIPES = {
    "tiny-gemma2": Recipe(
        "gemma2",
        {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<end_of_turn>"},
        ("<start_of_turn>",),
        GEMMA_TEMPLATE,
    ),
    "tiny-qwen2": Recipe(
        "qwen2", {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}, ("<|im_start|>",), QWEN_TEMPLATE
    ),
}
