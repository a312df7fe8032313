"""Random 2-layer models of every architecture whose sites are known, as small as they can be."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

_ROTARY: dict[str, Any] = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=96,
)
_SLIDING: dict[str, Any] = dict(
    head_dim=8, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
)
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("gemma2", _ROTARY | _SLIDING | {"final_logit_softcapping": 5.0}),
    "gemma3": (
        "gemma3_text",
        _ROTARY
        | _SLIDING
        | {
            "rope_parameters": {
                "full_attention": _ROPE | {"rope_theta": 50.0},
                "sliding_attention": _ROPE,
            }
        },
    ),
    "qwen2": ("qwen2", _ROTARY),
    "qwen3": ("qwen3", _ROTARY | {"head_dim": 8}),
    "llama": ("llama", _ROTARY),
    "llama_bias": ("llama", _ROTARY | {"mlp_bias": True, "attention_bias": True}),
    "mistral": ("mistral", _ROTARY | {"sliding_window": 8, "head_dim": 8}),
    "phi3": ("phi3", _ROTARY),
    "olmo2": ("olmo2", _ROTARY),
    "gpt_neox_parallel": ("gpt_neox", _ROTARY | {"use_parallel_residual": True}),
    "gpt_neox_sequential": ("gpt_neox", _ROTARY | {"use_parallel_residual": False}),
    "gpt2": ("gpt2", dict(n_embd=32, n_inner=48, n_layer=2, n_head=4, n_positions=96)),
}
"""Name: (model type, what its config takes besides the vocabulary)."""


def architecture(name: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A model of this architecture, in evaluation mode; norms and biases are random too."""
    kind, settings = ARCHITECTURES[name]
    common = dict(vocab_size=261, initializer_range=0.15, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common | settings | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()
