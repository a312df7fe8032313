"""Projections: what the model's own hidden states give, and what steering adds to them."""

import pytest
import torch

import splitkit as sk
from splitkit.steering.interventions import Intervention
from splitkit.steering.projection import project
from tests.conftest import tiny_model, tiny_tokenizer

LAYER = 1


def made(model: torch.nn.Module, form: str = "vector") -> Intervention:
    shapes = {"vector": {"vector": (32,)}, "lora": {"A": (2, 48), "B": (32, 2)}}[form]
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return Intervention(form, "made", LAYER, values, sk.model_digest(model))


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_it_is_what_the_hidden_states_give(architecture: str) -> None:
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    iv = made(model)
    v = iv.parameters["vector"].double()
    talk = [{"role": "user", "content": "Who?"}]
    table = project(model, tokenizer, iv, talk, m=[0.0, 2.0])
    ids = torch.tensor([tokenizer("<bos><user>Who?<eos><model>", add_special_tokens=False)["input_ids"]])
    for m, part in table.groupby("m"):
        with torch.no_grad(), iv.applied(model, m=m):
            h = model(ids, output_hidden_states=True).hidden_states[LAYER + 1][0].double()
        assert part["projection"].tolist() == pytest.approx((h @ v / v.norm()).tolist(), rel=1e-4)
        assert part["cosine"].tolist() == pytest.approx((h @ v / v.norm() / h.norm(dim=1)).tolist(), rel=1e-4)
    assert table["token"].tolist()[:3] == ["<bos>", "<user>", "W"]
    moved = (
        table["projection"][table["m"] == 2.0].to_numpy() - table["projection"][table["m"] == 0.0].to_numpy()
    )
    assert moved == pytest.approx(
        [2 * float(v.norm()) * steered for steered in table["steered"][: len(moved)]]
    )
    assert not table["steered"].iloc[0] and table["steered"].iloc[1:].sum() == len(table) - 2


def test_another_form_steers_while_a_vector_is_read() -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    iv, lora = made(model), made(model, "lora")
    above = [project(model, tokenizer, iv, "Who?", m=m, steered_by=lora, layer=2) for m in (0.0, 1.0)]
    assert (above[0]["projection"] - above[1]["projection"]).abs().max() > 1e-3
    below = [project(model, tokenizer, iv, "Who?", m=m, steered_by=lora, layer=0) for m in (0.0, 1.0)]
    assert below[0]["projection"].tolist() == below[1]["projection"].tolist()


def test_what_it_refuses() -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    iv = made(model)
    with pytest.raises(ValueError, match="a lora adds another change at each token"):
        project(model, tokenizer, made(model, "lora"), "Who?")
    with pytest.raises(TypeError, match="one Intervention, not a InterventionSum"):
        project(model, tokenizer, iv + iv, "Who?")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="steered_by is an Intervention or a sum"):
        project(model, tokenizer, iv, "Who?", steered_by=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the text is a int"):
        project(model, tokenizer, iv, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="text is empty"):
        project(model, tokenizer, iv, " ")
    with pytest.raises(ValueError, match="out of range"):
        project(model, tokenizer, iv, "Who?", layer=7)
