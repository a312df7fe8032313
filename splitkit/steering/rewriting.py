"""Rewriting: a copy of a model with an intervention written into its weights (Eq. 1)."""

import copy
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from splitkit.steering.architectures import check_layer, resolve_sites
from splitkit.steering.forms import tensor_shapes
from splitkit.steering.interventions import Intervention
from splitkit.steering.models import model_digest


class _Shifted(nn.Module):
    """norm(x) + c: a norm whose scale, the affine map x -> g x, has been given a bias."""

    def __init__(self, norm: nn.Module, bias: Float[Tensor, " hidden"]) -> None:
        super().__init__()
        self.norm, self.bias = norm, nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "batch token hidden"]) -> Float[Tensor, "batch token hidden"]:
        return self.norm(x) + self.bias


def random_intervention(model: PreTrainedModel, form: str, seed: int = 0) -> Intervention:
    """dW, db of independent standard normal numbers, at the middle layer.

    An identity that holds for these holds for what training finds. Raises: ValueError for an unknown form.
    """
    layer = check_layer(model, None)
    sites = resolve_sites(model, layer)
    generator = torch.Generator().manual_seed(seed)
    shapes = tensor_shapes(form, sites.down_width, sites.width)
    parameters = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return Intervention(form, "random", layer, parameters, model_digest(model), {"seed": seed})


def as_down_bias(vector: Intervention, inner: int) -> Intervention:
    """dW = 0, db = v: a vector as the bias of the down-projection, whose input has `inner` numbers.

    The same as the vector only where nothing lies between that projection and the residual stream.
    """
    v = vector.parameters["vector"]
    parameters = {"weight": v.new_zeros(len(v), inner), "bias": v}
    return replace(vector, form="local_weight", parameters=parameters)


@torch.no_grad()
def rewritten(model: PreTrainedModel, intervention: Intervention, m: float) -> PreTrainedModel:
    """W' = W + m dW, b' = b + m db (Eq. 1): a copy of `model` with the intervention in its weights.

    The copy has no hook and no adapter. LoRA writes dW = B A. A vector becomes a bias of the last affine map
    before the residual stream: the down-projection, or the scale of the norm that follows it (Gemma2,
    OLMo-2).
    Weights cannot tell tokens apart: BOS is changed like any other.

    Args:
        model: the intervention's base model, in any type; the sums are made in that type.
        intervention: what to write.
        m: the strength.
    """
    intervention.check_base(model)
    twin = copy.deepcopy(model)
    sites = resolve_sites(twin, intervention.layer)
    place: Any = {"device": next(sites.down.parameters()).device, "dtype": twin.dtype}
    given = {name: tensor.to(**place) for name, tensor in intervention.parameters.items()}
    change = {name: m * tensor for name, tensor in given.items()}
    after = sites.paths.after_down_path
    if intervention.form == "vector" and after is not None:
        sites.layer.set_submodule(after, _Shifted(sites.layer.get_submodule(after), change["vector"]))
        return twin
    down: Any = sites.down
    if intervention.form == "local_weight":
        down.weight += change["weight"].T if sites.transposed else change["weight"]
    elif intervention.form == "lora":
        product = change["B"] @ given["A"]
        down.weight += product.T if sites.transposed else product
    bias = change.get("bias", change.get("vector"))
    if bias is not None:
        down.bias = nn.Parameter(bias if down.bias is None else down.bias + bias)
    return twin
