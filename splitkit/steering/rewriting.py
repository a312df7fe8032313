"""Rewriting: a copy of a model with an intervention written into its weights (Eq. 1)."""

import copy
from dataclasses import replace

import torch
from transformers import PreTrainedModel

from splitkit.steering.architectures import check_layer, resolve_sites
from splitkit.steering.forms import get_form
from splitkit.steering.interventions import Intervention, Steering
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.model_state.wrappers import plain_model


def random_intervention(model: PreTrainedModel, form: str, seed: int = 0) -> Intervention:
    """dW, db of independent standard normal numbers, at the middle layer.

    An identity that holds for these holds for what training finds. Raises: ValueError for an unknown form.
    """
    layer = check_layer(model, None)
    sites = resolve_sites(model, layer, get_form(form).site)
    generator = torch.Generator().manual_seed(seed)
    shapes = get_form(form).shapes(sites.down_width, sites.width)
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
def rewritten(model: PreTrainedModel, intervention: Steering, m: float) -> PreTrainedModel:
    """W' = W + m dW, b' = b + m db (Eq. 1): a copy of `model` with the intervention in its weights.

    The copy has no hook. LoRA writes dW = B A. A vector becomes a bias of the last affine map before the
    residual stream: the down-projection, or the scale of the norm that follows it (Gemma2, OLMo-2). Weights
    cannot tell tokens apart: BOS is changed like any other.

    Args:
        model: the intervention's base model, in any type; the sums are made in that type.
        intervention: the change to write.
        m: the strength.

    Raises:
        ValueError: for another base model, or a layer whose down-projection or norm is not known.
    """
    model = plain_model(model)
    intervention.check_base(model)
    twin = copy.deepcopy(model)
    for weight, term in intervention.terms:
        sites = resolve_sites(twin, term.layer, "down")
        if not sites.paths.down_path and get_form(term.form).site == "layer":
            raise ValueError(
                f"in a {type(sites.layer).__name__} splitkit does not know the last affine map before the "
                "residual stream, where a vector would be written: see splitkit.steering.architectures.SITES."
            )
        device = next(sites.down.parameters()).device
        given = {name: tensor.to(device, twin.dtype) for name, tensor in term.parameters.items()}
        get_form(term.form).write(sites, given, m * weight)
    return twin
