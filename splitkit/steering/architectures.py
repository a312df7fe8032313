"""Architectures: the modules of a layer that steering changes and reads, for each model type."""

import operator
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from splitkit.steering.model_state.wrappers import plain_model, uncompiled, without_adapter
from splitkit.steering.prompts.settings import text_config, text_setting


@dataclass(frozen=True)
class SitePaths:
    """Paths to the modules of an architecture that steering needs, as dotted attribute names.

    Of an architecture that `SITES` does not list they are looked for. What is steered is always exact: where
    the paths do not rebuild what the model computes, `Replay` runs all layers instead of the last ones.

    layer_path: the list of decoder layers, from the model; the others but the last start at a layer.
    down_path: the FFN's down-projection, a Linear or a Conv1D; a vector does not need it.
    residual_path: the module whose input is the stream that the FFN's output is added to (the norm before the
    FFN, or the FFN itself where no norm is); None where no module reads it (attention and FFN in parallel):
    then it is the layer's output without the FFN's.
    after_down_path: a norm between the down-projection and the residual stream, where there is one (Gemma2).
    position_path: from the decoder, the learned embedding of positions, where there is one (GPT-2).
    """

    layer_path: str = "model.layers"
    down_path: str = "mlp.down_proj"
    residual_path: str | None = None
    after_down_path: str | None = None
    position_path: str | None = None


_LLAMA = SitePaths(residual_path="post_attention_layernorm")
_GEMMA = SitePaths(residual_path="pre_feedforward_layernorm", after_down_path="post_feedforward_layernorm")

SITES: dict[str, SitePaths] = {
    "exaone4": SitePaths(residual_path="mlp", after_down_path="post_feedforward_layernorm"),
    "gemma": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "glm4": replace(_LLAMA, after_down_path="post_mlp_layernorm"),
    "gpt2": SitePaths("transformer.h", "mlp.c_proj", residual_path="ln_2", position_path="wpe"),
    "gpt_neox": SitePaths("gpt_neox.layers", "mlp.dense_4h_to_h", residual_path="post_attention_layernorm"),
    "llama": _LLAMA,
    "ministral": _LLAMA,
    "ministral3": _LLAMA,
    "mistral": _LLAMA,
    "olmo2": SitePaths(residual_path="mlp", after_down_path="post_feedforward_layernorm"),
    "olmo3": SitePaths(residual_path="mlp", after_down_path="post_feedforward_layernorm"),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "smollm3": _LLAMA,
}
"""Paths by the `model_type` of a model's config. An entry of your own says what is not found by itself."""

_PROVEN = dict(SITES)

_DOWN_PATHS = (
    *("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "mlp.fc_out", "mlp.w2"),
    *("feed_forward.down_proj", "feed_forward.w2", "ffn.down_proj"),
)
"""Usual names of a down-projection, in architectures that `SITES` does not list."""


@dataclass(frozen=True)
class Sites:
    """The modules of one layer that an intervention or a recording touches."""

    decoder: nn.Module
    layer: nn.Module
    down: Any
    """The down-projection; None where the layer has none and only the layer itself is to be steered."""
    residual: nn.Module | None
    after_down: nn.Module | None
    width: int
    """Size of the residual stream, and of the down-projection's output: `hidden`."""
    down_width: int
    """Size of the down-projection's input; 0 without one."""
    transposed: bool
    """True where the down-projection keeps its weight as (inner, hidden), as GPT-2's Conv1D does."""
    paths: SitePaths
    proven: bool
    """True where the project's tests cover the architecture; otherwise `Replay` checks it."""

    @property
    def layers_name(self) -> str:
        """The decoder's attribute that holds its layers."""
        return self.paths.layer_path.rpartition(".")[2]


def site_paths(model: PreTrainedModel) -> SitePaths:
    """Paths to the modules of `model` that steering needs: those of `SITES`, else those that are found.

    Raises:
        ValueError: where no list of decoder layers is found, with a hint how to name it.
    """
    model = plain_model(model)
    kind, text = model.config.model_type, text_config(model.config)
    known = SITES.get(kind)
    if known is None:
        # a multimodal model's text decoder is one of an architecture of its own
        known = replace(SITES.get(text.model_type, SitePaths(down_path="")), layer_path=_found_layers(model))
    if text.model_type == "gpt_neox" and text.use_parallel_residual:
        return replace(known, residual_path=None)
    return known


def _found_layers(model: PreTrainedModel) -> str:
    """Path of the decoder's only list of as many layers as the config says."""
    count = text_setting(model, "num_hidden_layers")
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    lists = {
        f"{prefix}.{name}".lstrip("."): module
        for name, module in decoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    found = [name for name, module in lists.items() if isinstance(module[0], GradientCheckpointingLayer)]
    found = found if len(lists) > 1 else list(lists)
    if len(found) == 1:
        return found[0]
    kind = model.config.model_type
    raise ValueError(
        f"{len(found) or 'no'} lists of {count} decoder layers are in the {type(model).__name__}"
        f"{': ' * bool(found)}{', '.join(found)}. Say where they are: "
        f"splitkit.steering.architectures.SITES[{kind!r}] = SitePaths(layer_path=..., down_path=...), as in "
        'SitePaths(layer_path="model.layers", down_path="mlp.down_proj").'
    )


def layer_list(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of `model`, first to last.

    Raises:
        ValueError: where they are not found, or for a `layer_path` that leads to no list of layers.
    """
    model = plain_model(model)
    path = site_paths(model).layer_path
    layers = _submodule(model, "layer_path", path)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"layer_path {path!r} leads to a {type(layers).__name__}, not to a list of layers.")
    return layers


def check_layer(model: PreTrainedModel, layer: int | None) -> int:
    """The layer to steer: `layer` itself as an int, or the middle one (n // 2, as 3 of 6) for None.

    Raises:
        TypeError: for anything but a loaded model.
        ValueError: when the model has no such layer, with the range it has.
    """
    count = len(layer_list(model))
    if layer is None:
        return count // 2
    try:
        number = None if isinstance(layer, bool) else operator.index(layer)  # numpy's whole numbers too
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"a layer is a whole number, not {layer!r}: this model has layers 0 to {count - 1}.")
    if not 0 <= number < count:
        raise ValueError(f"layer {layer!r} is out of range: this model has layers 0 to {count - 1}.")
    return number


def resolve_sites(model: PreTrainedModel, layer: int, site: Literal["down", "layer"] = "layer") -> Sites:
    """The sites of one layer of `model`; `site` is what is to be steered (`Form.site`).

    Raises:
        ValueError: where the layers are not found, for a layer out of range or a path that leads nowhere, and
            for the site "down" of a layer without one down-projection (a mixture of experts).
    """
    model = plain_model(model)
    where = site_paths(model)
    layer = check_layer(model, layer)
    block = uncompiled(layer_list(model)[layer])
    down = _down(model, block, where.down_path, site)
    linear: Any = without_adapter(down) if down is not None else None
    transposed = isinstance(linear, Conv1D)
    width, down_width = text_setting(model, "hidden_size"), 0
    if down is not None:
        # not the weight's shape, which is another one where it is packed in 4 bits
        sizes: Any = (
            reversed(linear.weight.shape) if transposed else (linear.out_features, linear.in_features)
        )
        width, down_width = sizes
    decoder = model.get_submodule(where.layer_path.rpartition(".")[0])
    residual, after = where.residual_path, where.after_down_path
    if where.position_path is not None:
        _submodule(decoder, "position_path", where.position_path)
    kind = model.config.model_type
    return Sites(
        decoder=decoder,
        layer=block,
        down=down,
        residual=None if residual is None else _submodule(block, "residual_path", residual),
        after_down=None if after is None else _submodule(block, "after_down_path", after),
        width=width,
        down_width=down_width,
        transposed=transposed,
        paths=where,
        proven=kind in SITES and SITES[kind] is _PROVEN.get(kind),
    )


def _down(model: PreTrainedModel, block: nn.Module, path: str, site: str) -> Any:
    """The down-projection of a layer, at `path` or, for "", at one of the usual places."""
    if path:
        try:
            found = _submodule(block, "down_path", path)
            if not _is_linear(found):
                raise ValueError(
                    f"down_path {path!r} leads to a {type(found).__name__}; the down-projection is a Linear "
                    "or a Conv1D."
                )
            return found
        except ValueError:
            if site == "down":
                raise
            return None
    modules = dict(block.named_modules())
    places = [modules[name] for name in _DOWN_PATHS if _is_linear(modules.get(name))]
    if len(places) == 1 or site == "layer":
        return places[0] if len(places) == 1 else None
    kind = model.config.model_type
    linear = [name for name, module in modules.items() if _is_linear(module)]
    raise ValueError(
        f"a {type(block).__name__} has no single down-projection to change, as a mixture of experts has "
        "none: the form 'vector' needs none. To change another projection of the layer, name it: "
        f"splitkit.steering.architectures.SITES[{kind!r}] = SitePaths(layer_path="
        f"{site_paths(model).layer_path!r}, down_path=...); there are {', '.join(linear)}."
    )


def _is_linear(module: nn.Module | None) -> bool:
    return module is not None and isinstance(without_adapter(module), (nn.Linear, Conv1D))


def _submodule(parent: nn.Module, name: str, path: str) -> nn.Module:
    """`parent`'s submodule; an error lists the children of the last module on the way."""
    here, walked = parent, ""
    for step in path.split("."):
        children = dict(here.named_children())
        if step not in children:
            place = f"{walked[1:]} ({type(here).__name__})" if walked else type(here).__name__
            raise ValueError(
                f"{name} {path!r} leads nowhere: {place} has no {step!r}, it has {', '.join(children)}."
            )
        here, walked = uncompiled(children[step]), f"{walked}.{step}"
    return here
