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


class Theirs:
    """An object that only unpickling would bring back."""


WRITERS: dict[str, tuple[Callable[[Path], object], dict[str, int], dict[int, Tensor]]] = {
    "layer_1.pt": (lambda p: torch.save(V, p), {}, {1: V}),
    "caa_layer_2.pt": (lambda p: torch.save(V.bfloat16()[None], p), {}, {2: V.bfloat16().float()}),
    "layer_0.pt": (lambda p: torch.save(torch.stack([V, -V]), p), {"row": 1}, {0: -V}),
    "mine.pt": (lambda p: torch.save(V, p), {"layers": 2}, {2: V}),
    "theirs.pt": (
        lambda p: torch.save({"layer_activations": {0: V, 2: -V}, "layer_type": "decoder_block"}, p),
        {},
        {0: V, 2: -V},
    ),
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


def test_of_a_folder_one_says_which_layer(model: PreTrainedModel, tmp_path: Path) -> None:
    for layer in (0, 1, 2):
        torch.save(V * layer, tmp_path / f"layer_{layer}.pt")
    with pytest.raises(ValueError, match=r"3 layers, 0 to 2: say which, as layers=17"):
        import_intervention(tmp_path, model)
    both = import_intervention(tmp_path, model, layers=[1, 2])
    assert torch.equal(both.terms[1][1].parameters["vector"], 2 * V)
    with pytest.raises(ValueError, match="has no layer 7; it has 0, 1, 2"):
        import_intervention(tmp_path, model, layers=7)


def test_nothing_is_unpickled(model: PreTrainedModel, tmp_path: Path) -> None:
    torch.save(Theirs(), tmp_path / "layer_1.pt")
    with pytest.raises(ValueError, match=r"never unpickled here.*layer_activations.*layer_type"):
        import_intervention(tmp_path / "layer_1.pt", model)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("layer_1.pt", torch.ones(31), "has 31 numbers, this model's residual stream 32"),
        ("layer_9.pt", V, "layer 9 is out of range"),
        ("layer_1.pt", torch.arange(32), "is no tensor of floats"),
        ("layer_1.pt", {"lora_A": V}, "a LoRA or a weight of EasyEdit"),
        ("mine.pt", V, "does not say its layer"),
        ("mine.pt", {"a": V}, "names no vector with a layer"),
        ("mine.pt", {"layer_activations": {1: V}, "layer_type": "mlp"}, "steers the mlp of layers"),
        ("v.npz", V, "of no known kind"),
    ],
)
def test_a_wrong_file_says_so(
    name: str, content: object, said: str, model: PreTrainedModel, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / name)
    with pytest.raises(ValueError, match=said):
        import_intervention(tmp_path / name, model)


def test_damaged_and_missing_files(model: PreTrainedModel, tmp_path: Path) -> None:
    for name in ("layer_1.pt", "v.gguf", "v.safetensors"):
        (tmp_path / name).write_bytes(b"no such thing at all, but long enough to be read")
        with pytest.raises(ValueError, match="never unpickled|damaged|no safetensors file"):
            import_intervention(tmp_path / name, model)
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        import_intervention(tmp_path / "nowhere.pt", model)


def test_another_base_model_is_told(model: PreTrainedModel, tmp_path: Path) -> None:
    export(random_intervention(model, "vector"), model, tmp_path / "v.gguf", format="gguf", m=1)
    with pytest.warns(UserWarning, match="made on another base model"):
        iv = import_intervention(tmp_path / "v.gguf", other := tiny_model("qwen2", seed=5))
    iv.check_base(other)
    assert iv.terms[0][1].layer == LAYER
