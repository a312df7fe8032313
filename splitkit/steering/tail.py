"""Tail: the layers after the steered one, as a decoder of their own that computes only needed positions."""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from splitkit.steering.architectures import Sites
from splitkit.steering.model_state.wrappers import uncompiled
from splitkit.steering.tokenization import Batch


class Tail:
    """The layers from `start` on, and the final norm.

    Of architectures whose sites are known (`Sites.proven`), the FFN of the last layer runs at the positions
    that are needed only, because nothing reads its output at another one.
    """

    def __init__(self, sites: Sites, start: int) -> None:
        layers = getattr(sites.decoder, sites.layers_name)
        self._start, self._part = start, part(sites, start, len(layers))
        if sites.paths.position_path is not None:
            # the residual stream has its positions already
            self._part.set_submodule(sites.paths.position_path, _NoPositions())
        if hasattr(self._part, "embedding_multiplier"):
            # and is scaled already (Granite)
            self._part.embedding_multiplier = 1
        self._layers: nn.ModuleList = getattr(self._part, sites.layers_name)
        self._last_ffn: _AtPositions | None = None
        name = sites.paths.down_path.rpartition(".")[0]
        if sites.proven and len(self._layers):
            last = _shallow(self._layers[-1])
            self._last_ffn = _AtPositions(last.get_submodule(name))
            last.set_submodule(name, self._last_ffn)
            self._layers[-1] = last

    def __len__(self) -> int:
        return len(self._layers)

    def __call__(
        self,
        batch: Batch,
        residual: Float[Tensor, "batch token hidden"],
        needed: Tensor | None = None,
        *,
        cache: DynamicCache | None = None,
        stem_mask: Int[Tensor, "batch stem"] | None = None,
    ) -> Float[Tensor, "batch token hidden"]:
        """Input of the head, where `needed` (batch, token) is True; everywhere for None.

        With a `cache`, keys and values are kept in it. `stem_mask` is the attention mask of the tokens that
        are in the cache already, and these come before the batch's own.
        """
        mask, positions = batch.attention_mask, batch.position_ids
        if stem_mask is not None:
            mask = torch.cat([stem_mask, mask], dim=1)
            positions = positions + stem_mask.sum(1, keepdim=True)
        if self._last_ffn is not None:
            self._last_ffn.places = None if needed is None else needed.flatten().nonzero().flatten()
        found = self._part(
            attention_mask=mask,
            position_ids=positions,
            # without one of its own, a cache would grow at each replay
            past_key_values=cache,
            use_cache=cache is not None,
            inputs_embeds=residual,
        ).last_hidden_state
        return found.to(residual.device)

    def cache(self) -> DynamicCache:
        """An empty cache for the keys and values of these layers."""
        return _TailCache(self._start, self._part.config)


class _TailCache(DynamicCache):
    """A cache of the last layers of a model, which go on counting from the model's first layer."""

    def __init__(self, start: int, config: Any) -> None:
        super().__init__(config=config)
        self._start = start

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> Any:
        return super().update(key_states, value_states, layer_idx - self._start, *args, **kwargs)


class _AtPositions(nn.Module):
    """A module that looks at each position alone, run at some places of (batch, token) only; 0 elsewhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.places: Tensor | None = None

    def forward(self, x: Float[Tensor, "batch token hidden"]) -> Float[Tensor, "batch token hidden"]:
        if self.places is None:
            return self.inner(x)
        if not len(self.places):
            # 4-bit kernels die of no rows
            return torch.zeros_like(x)
        flat = x.flatten(0, 1)
        places = self.places.to(flat.device)
        found = self.inner(flat.index_select(0, places)).to(flat.device)
        return torch.zeros_like(flat).index_copy(0, places, found).view_as(x)


class _NoPositions(nn.Module):
    """An embedding of positions that adds nothing."""

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.zeros((), device=position_ids.device)  # without axes it keeps the other's type


def part(sites: Sites, start: int, stop: int) -> Any:
    """Layers `start` to `stop` of a decoder as a decoder of its own that shares all modules with it.

    The architecture's own forward makes masks and positions for the part as it does for the whole.
    """
    found: Any = _shallow(sites.decoder)
    # a device map's own forward, where there is one, is bound to the whole decoder
    found.__dict__.pop("forward", None)
    layers = getattr(found, sites.layers_name)[start:stop]
    setattr(
        found,
        sites.layers_name,
        nn.ModuleList(map(uncompiled, layers)),
    )
    found.config = copy.deepcopy(found.config)
    found.config.num_hidden_layers = stop - start
    if getattr(found.config, "layer_types", None):
        found.config.layer_types = found.config.layer_types[start:stop]
    return found


def _shallow(module: nn.Module) -> Any:
    """A module with the same submodules, in which one can be replaced without touching the first."""
    found: Any = copy.copy(module)
    found.__dict__["_modules"] = dict(module._modules)
    return found
