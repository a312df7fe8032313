"""Sizes of the forms: the paper's formulas, and the tensors that real interventions have."""

import pytest

from splitkit import paper
from splitkit.steering import forms
from splitkit.steering.architectures import resolve_sites
from splitkit.steering.trainer import TrainConfig
from tests.conftest import LAYER, random_intervention, tiny_model


@pytest.mark.parametrize("row", paper.table(1).to_dict("records"), ids=lambda row: row["form"])
def test_counts_are_those_of_table_1(row: dict[str, str]) -> None:
    sizes = {"d_in": 14336, "d_out": 3584, "r": 4}
    expected = eval(row["parameters"], {"__builtins__": {}}, sizes)  # a committed formula, as printed
    assert forms.parameter_count(row["form"], 14336, 3584, rank=4) == expected


@pytest.mark.parametrize("form", ["local_weight", "lora", "vector"])
def test_counts_are_those_of_real_interventions(form: str) -> None:
    model = tiny_model("gemma2")
    sites, iv = resolve_sites(model, LAYER), random_intervention(model, form)
    shapes = {name: tuple(tensor.shape) for name, tensor in iv.parameters.items()}
    assert forms.FORMS[form].shapes(sites.down_width, sites.width) == shapes
    held = sum(tensor.numel() for tensor in iv.parameters.values())
    assert forms.parameter_count(form, sites.down_width, sites.width) == held


def test_rank_is_the_one_that_is_trained() -> None:
    assert TrainConfig(lr=0.1).rank == forms.RANK


def test_table_has_a_row_per_model() -> None:
    table = forms.parameter_table(forms.PAPER_LAYERS)
    assert list(table.index) == list(dict.fromkeys(paper.COUNTERPARTS.values()))
    assert table.loc["gemma-2-9b-it"].tolist() == [14336, 3584, 51_383_808, 71_680, 3_584]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="unknown form 'bias'; there are local_weight, lora, vector"):
        forms.parameter_count("bias", 2, 2)
    with pytest.raises(ValueError, match="d_in 0"):
        forms.parameter_count("lora", 0, 2)
