"""Forms by size: what each form adds to one linear layer, here and in the paper's models (Table 1)."""

import math
from collections.abc import Mapping

import pandas as pd

FORMS: dict[str, tuple[str, ...]] = {
    "local_weight": ("weight", "bias"),
    "lora": ("A", "B"),
    "vector": ("vector",),
}
"""Each form's parameters: dW (hidden, inner), db (hidden); A (rank, inner), B (hidden, rank); v (hidden)."""

RANK = 4
"""Of a LoRA, here and in the paper."""

PAPER_LAYERS: dict[str, tuple[int, int]] = {
    "gemma-2-9b-it": (14336, 3584),
    "qwen2.5-7b-instruct": (18944, 3584),
}
"""(d_in, d_out) of the down-projection in the paper's models: FFN width and hidden size."""


def check_form(form: str) -> str:
    """`form` itself. Raises: ValueError for an unknown one, with those there are."""
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}; there are {', '.join(FORMS)}.")
    return form


def tensor_shapes(form: str, d_in: int, d_out: int, rank: int = RANK) -> dict[str, tuple[int, ...]]:
    """dW (d_out, d_in) and db (d_out); A (rank, d_in) and B (d_out, rank); v (d_out): the parameters by form.

    Args:
        form: "local_weight", "lora" or "vector".
        d_in, d_out: input and output size of the linear layer that is changed.
        rank: of a LoRA.

    Raises:
        ValueError: for an unknown form, or a size that is not positive.
    """
    if min(d_in, d_out, rank) < 1:
        raise ValueError(f"sizes must be positive; got d_in {d_in}, d_out {d_out}, rank {rank}.")
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "local_weight": {"weight": (d_out, d_in), "bias": (d_out,)},
        "lora": {"A": (rank, d_in), "B": (d_out, rank)},
        "vector": {"vector": (d_out,)},
    }
    return shapes[check_form(form)]


def parameter_count(form: str, d_in: int, d_out: int, rank: int = RANK) -> int:
    """d_in d_out + d_out, d_in r + r d_out, or d_out (Table 1): numbers that a form adds to one layer.

    Raises: ValueError as `tensor_shapes` does.
    """
    return sum(math.prod(shape) for shape in tensor_shapes(form, d_in, d_out, rank).values())


def parameter_table(layers: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """Table 1's last column in numbers: one row per model with its (d_in, d_out), one column per form."""
    columns = ("local_weight", "lora", "vector")
    rows = {
        model: {"d_in": d_in, "d_out": d_out} | {form: parameter_count(form, d_in, d_out) for form in columns}
        for model, (d_in, d_out) in layers.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
