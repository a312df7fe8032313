"""Files of other tools become interventions that do what those tools do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from splitkit.steering.exchange.export import export
from splitkit.steering.exchange.imports import import_intervention
from tests.conftest import LAYER, random_intervention, tiny_model

IDS = torch.tensor([[40, 50, 60, 70]])
V = torch.linspace(-1, 1, 32)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model("qwen2")


def by_hand(model: PreTrainedModel, vectors: dict[int, Tensor]) -> Tensor:
    """Logits with vectors added to what leaves layers, by hooks of torch alone."""
    handles = [
        model.model.layers[layer].register_forward_hook(lambda _, __, h, v=v: h + v)
        for layer, v in vectors.items()
    ]
    try:
        with torch.no_grad():
            return model(IDS).logits
    finally:
        for handle in handles:
            handle.remove()


def write_control_vector(path: Path) -> None:
    """As other programs write one: with no metadata of ours."""
    import gguf

    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "qwen2")
    writer.add_tensor("direction.1", V.numpy())
    writer.add_tensor("direction.2", (2 * V).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


WRITERS: dict[str, tuple[Callable[[Path], object], dict[str, int], dict[int, Tensor]]] = {
    "v.safetensors": (lambda p: save_file({"layer_1": V, "layer_2": 3 * V}, p), {"layers": 2}, {2: 3 * V}),
    "v.gguf": (write_control_vector, {}, {1: V, 2: 2 * V}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_an_imported_vector_does_what_its_tool_does(
    name: str, model: PreTrainedModel, tmp_path: Path
) -> None:
    write, options, vectors = WRITERS[name]
    write(tmp_path / name)
    iv = import_intervention(tmp_path / name, model, **options)
    with iv.applied(model, 1.0), torch.no_grad():
        found = model(IDS).logits
    torch.testing.assert_close(found, by_hand(model, vectors), rtol=0, atol=1e-6)
    assert iv.terms[0][1].details["imported"]["file"] == name


@pytest.mark.parametrize(
    ("given", "options", "vectors"),
    [
        ({1: V}, {}, {1: V}),
        ({"caa_layer_2": V.bfloat16()[None]}, {}, {2: V.bfloat16().float()}),
        ({0: torch.stack([V, -V])}, {"row": 1}, {0: -V}),
        ({0: V, 1: 2 * V, 2: -V}, {"layers": [0, 2]}, {0: V, 2: -V}),
        ({"layer_activations": {0: V, 2: -V}, "layer_type": "decoder_block"}, {}, {0: V, 2: -V}),
    ],
)
def test_vectors_by_layer_are_taken_from_a_dict(
    given: dict, options: dict, vectors: dict[int, Tensor], model: PreTrainedModel
) -> None:
    iv = import_intervention(given, model, **options)
    with iv.applied(model, 1.0), torch.no_grad():
        found = model(IDS).logits
    torch.testing.assert_close(found, by_hand(model, vectors), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="has no layer 7; it has 0, 1"):
        import_intervention({0: V, 1: V}, model, layers=7)


def test_nothing_is_unpickled(model: PreTrainedModel, tmp_path: Path) -> None:
    torch.save(V, tmp_path / "layer_1.pt")
    with pytest.raises(
        ValueError, match=r"layer_1.pt is of no kind.*a pickle, which can run code.*weights_only=True"
    ):
        import_intervention(tmp_path / "layer_1.pt", model)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({1: torch.ones(31)}, "has 31 numbers, this model's residual stream 32"),
        ({9: V}, "layer 9 is out of range"),
        ({1: torch.arange(32)}, "is no tensor of floats"),
        ({"lora_A": V}, "a LoRA or a weight of EasyEdit"),
        ({"a": V}, "names no vector with a layer"),
        ({"layer_activations": {1: V}, "layer_type": "mlp"}, "steers the mlp of layers"),
    ],
)
def test_wrong_vectors_are_told(content: dict, said: str, model: PreTrainedModel) -> None:
    with pytest.raises(ValueError, match=said):
        import_intervention(content, model)


def test_damaged_and_missing_files(model: PreTrainedModel, tmp_path: Path) -> None:
    for name in ("v.gguf", "v.safetensors", "v.npz"):
        (tmp_path / name).write_bytes(b"no such thing at all, but long enough to be read")
        with pytest.raises(ValueError, match="damaged|no safetensors file|of no kind that is read"):
            import_intervention(tmp_path / name, model)
    with pytest.raises(FileNotFoundError, match="no file"):
        import_intervention(tmp_path / "nowhere.gguf", model)


def test_another_base_model_is_told(model: PreTrainedModel, tmp_path: Path) -> None:
    export(random_intervention(model, "vector"), model, tmp_path / "v.gguf", format="gguf", m=1)
    with pytest.warns(UserWarning, match="made on another base model"):
        iv = import_intervention(tmp_path / "v.gguf", other := tiny_model("qwen2", seed=5))
    iv.check_base(other)
    assert iv.terms[0][1].layer == LAYER
