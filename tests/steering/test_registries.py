"""A form and an objective of one's own, each added in one place, are trained, swept, applied and saved."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from splitkit.steering.architectures import Sites
from splitkit.steering.forms import FORMS, RANK, Form, Parameters, Shapes
from splitkit.steering.interventions import load_intervention
from splitkit.steering.objectives import OBJECTIVES, Objective, ObjectiveInputs
from splitkit.steering.rewriting import random_intervention
from splitkit.steering.sweeps import matching_strength, sweep
from splitkit.steering.training import train
from tests.conftest import LAYER

IDS = torch.tensor([[1, 40, 50, 60, 70]])
GRID = [-1.0, 0.0, 1.0]


class ScaledChannels(Form):
    """dh = s h: each channel of the residual stream made larger or smaller."""

    site = "layer"

    def shapes(self, d_in: int, d_out: int, rank: int = RANK) -> Shapes:
        return {"s": (d_out,)}

    def change(self, parameters: Parameters, x: Tensor) -> Tensor:
        return parameters["s"] * x.float()

    def write(self, sites: Sites, parameters: Parameters, m: float) -> None:
        raise NotImplementedError("what a layer adds to its input is not scaled by one weight")


class ScaledOutputs(Form):
    """dh = s W x: each row of the down-projection made larger or smaller, for a model without its bias."""

    def shapes(self, d_in: int, d_out: int, rank: int = RANK) -> Shapes:
        return {"s": (d_out,), "w": (d_out, d_in)}

    def change(self, parameters: Parameters, x: Tensor) -> Tensor:
        return parameters["s"] * (x.float() @ parameters["w"].T)

    def write(self, sites: Sites, parameters: Parameters, m: float) -> None:
        sites.down.get_parameter("weight").add_(m * parameters["s"][:, None] * parameters["w"])

    def fresh(self, d_in: int, d_out: int, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"s": torch.zeros(d_out), "w": torch.randn(d_out, d_in, generator=generator)}


def margin(inputs: ObjectiveInputs, *, wanted: float) -> Float[Tensor, " batch"]:
    """L = ReLU(wanted - (L_n - L_p))."""
    return (wanted - (inputs.loss_negative - inputs.loss_positive)).relu()


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(FORMS, "channels", ScaledChannels())
    monkeypatch.setitem(FORMS, "outputs", ScaledOutputs())
    monkeypatch.setitem(OBJECTIVES, "margin", Objective(margin, {"wanted": 2.0}))
    return iter([None])


@pytest.mark.parametrize("form", ["channels", "outputs"])
def test_a_form_of_ones_own_is_trained_swept_applied_and_saved(
    model, form, tokenizer, pairs, tmp_path: Path
) -> None:
    iv = train(model, tokenizer, pairs, form, "sft", LAYER, lr=0.02, epochs=4, factor_min=1.0, factor_max=1.0)
    table = sweep(model, tokenizer, iv, pairs, m=GRID)
    losses = table.groupby("m")["loss_positive"].mean()
    assert losses[1.0] < losses[0.0] and matching_strength(model, tokenizer, iv, pairs) > 0
    base = model(IDS).logits
    with iv.applied(model, 0.0):
        assert torch.equal(model(IDS).logits, base)
    with iv.applied(model, 1.0):
        steered = model(IDS).logits
    assert (steered - base).abs().max() > 1e-3
    loaded = load_intervention(iv.save(tmp_path), model)
    with loaded.applied(model, 1.0):
        assert torch.equal(model(IDS).logits, steered)
    with pytest.raises(ValueError, match=f"{form} has the parameters"):
        iv.parameters.clear()
        iv.__post_init__()


def test_an_objective_of_ones_own_is_trained_with_each_form(model, tokenizer, pairs) -> None:
    for form in FORMS:
        iv = train(model, tokenizer, pairs, form, "margin", LAYER, epochs=1, wanted=3.0)
        assert iv.details["config"]["weights"] == {"wanted": 3.0} and iv.details["losses"][0] > 0
        assert set(iv.parameters) == set(FORMS[form].names)
    with pytest.raises(ValueError, match="margin has no hyper-parameter"):
        OBJECTIVES["margin"](ObjectiveInputs(*[torch.ones(2)] * 2, *[torch.ones(2).long()] * 2), beta=1.0)
    with pytest.raises(ValueError, match="unknown setting beta"):
        train(model, tokenizer, pairs, "vector", "margin", LAYER, beta=1.0)


def test_what_is_recorded_for_one_form_serves_another_of_the_same_site(model, tokenizer, pairs) -> None:
    from splitkit.steering.trainer import SharedRows

    shared = SharedRows()
    for form in ("local_weight", "channels", "outputs", "vector"):
        own = train(model, tokenizer, pairs, form, "margin", LAYER, epochs=1)
        other = train(model, tokenizer, pairs, form, "margin", LAYER, epochs=1, shared=shared)
        assert all(torch.equal(own.parameters[name], other.parameters[name]) for name in own.parameters)


def test_a_form_of_ones_own_is_written_into_weights(model) -> None:
    from splitkit.steering.rewriting import rewritten

    iv, ids = random_intervention(model, "outputs"), IDS[:, 1:]
    model.double()
    iv.base_digest = random_intervention(model, "outputs").base_digest
    with iv.applied(model, 0.1), torch.no_grad():
        steered = model(ids).logits
    found = rewritten(model, iv, 0.1)(ids).logits
    torch.testing.assert_close(found, steered, rtol=0, atol=1e-4)
