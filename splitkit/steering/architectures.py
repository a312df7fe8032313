"""Architectures: the modules of a layer that steering changes and reads, for each model type."""

import operator
from dataclasses import dataclass, replace

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from splitkit.steering.model_state.wrappers import plain_model, uncompiled, without_adapter


@dataclass(frozen=True)
class SitePaths:
    """Paths to the modules of an architecture that steering needs, as dotted attribute names.

    The first two are all that must be said of an architecture of your own; `Replay` proves at its first use
    that they, and the others as they are given, rebuild what the model computes.

    layer_path: the list of decoder layers, from the model; the others but the last start at a layer.
    down_path: the FFN's down-projection, a Linear or a Conv1D.
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
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gpt2": SitePaths("transformer.h", "mlp.c_proj", residual_path="ln_2", position_path="wpe"),
    "gpt_neox": SitePaths("gpt_neox.layers", "mlp.dense_4h_to_h", residual_path="post_attention_layernorm"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "olmo2": SitePaths(residual_path="mlp", after_down_path="post_feedforward_layernorm"),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""Paths by the `model_type` of a model's config. Add an entry to steer another architecture."""

_PROVEN = dict(SITES)


@dataclass(frozen=True)
class Sites:
    """The modules of one layer that an intervention or a recording touches."""

    decoder: nn.Module
    layer: nn.Module
    down: nn.Module
    residual: nn.Module | None
    after_down: nn.Module | None
    width: int
    """Size of the residual stream, and of the down-projection's output: `hidden`."""
    down_width: int
    """Size of the down-projection's input."""
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
    """Paths to the modules of `model` that steering needs.

    Raises:
        ValueError: for an architecture that `SITES` does not list, with a hint how to add it.
    """
    model = plain_model(model)
    kind = model.config.model_type
    if kind not in SITES:
        raise ValueError(
            f"no steering sites are known for the architecture {kind!r}; known: {', '.join(sorted(SITES))}. "
            "For another one say where they are: "
            f"splitkit.steering.architectures.SITES[{kind!r}] = SitePaths(layer_path=..., down_path=...), as "
            "in "
            'SitePaths(layer_path="model.layers", down_path="mlp.down_proj").'
        )
    if kind == "gpt_neox" and model.config.use_parallel_residual:
        return replace(SITES[kind], residual_path=None)
    return SITES[kind]


def layer_list(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of `model`, first to last.

    Raises:
        ValueError: for an unknown architecture, or a `layer_path` that leads to no list of layers.
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
        number = operator.index(layer)  # numpy's whole numbers too
    except TypeError:
        number = -1
    if isinstance(layer, bool) or not 0 <= number < count:
        raise ValueError(f"layer {layer!r} is out of range: this model has layers 0 to {count - 1}.")
    return number


def resolve_sites(model: PreTrainedModel, layer: int) -> Sites:
    """The sites of one layer of `model`.

    Raises:
        ValueError: for an architecture that `SITES` does not list, a layer out of range, or a path that leads
            nowhere.
    """
    model = plain_model(model)
    where = site_paths(model)
    layer = check_layer(model, layer)
    block = uncompiled(layer_list(model)[layer])
    down = _submodule(block, "down_path", where.down_path)
    linear = without_adapter(down)
    if not isinstance(linear, (nn.Linear, Conv1D)):
        raise ValueError(
            f"down_path {where.down_path!r} leads to a {type(linear).__name__}; the down-projection is a "
            "Linear or a Conv1D."
        )
    transposed = isinstance(linear, Conv1D)
    width, down_width = reversed(linear.weight.shape) if transposed else linear.weight.shape
    decoder = model.get_submodule(where.layer_path.rpartition(".")[0])
    residual, after = where.residual_path, where.after_down_path
    if where.position_path is not None:
        _submodule(decoder, "position_path", where.position_path)
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
        proven=SITES[model.config.model_type] is _PROVEN.get(model.config.model_type),
    )


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
