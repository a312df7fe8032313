"""Forms of steering: local weight, LoRA and vector, one class each.

To add a form, write one class and put it into `FORMS`: it can then be trained, swept, applied and saved.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from splitkit.steering.architectures import Sites
from splitkit.steering.model_state.wrappers import without_adapter

RANK = 4
"""Rank of a LoRA, here and in the paper."""

PAPER_LAYERS: dict[str, tuple[int, int]] = {
    "gemma-2-9b-it": (14336, 3584),
    "qwen2.5-7b-instruct": (18944, 3584),
}
"""(d_in, d_out) of the down-projection in the paper's models: FFN width and hidden size."""

Parameters = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


class Form(ABC):
    """A way to make dh, the change that steering adds m times to one place of a layer (Eq. 5)."""

    site: Literal["down", "layer"] = "down"
    """Module whose output is changed: the FFN's down-projection, or the whole layer (the residual stream)."""

    lr: float = 0.03
    """Learning rate of `default_config`, for the shipped models."""

    reach: float = 1.0
    """How far the steps of a training whose rate is scaled may push; see `choosing.learning_rate`."""

    factors: tuple[float, float, float] = (0.2, 2.0, 0.2)
    """Smallest and largest factor m and their step in `default_config`, as in the official code."""

    mirrored: ClassVar[Mapping[str, str]] = {}
    """Mirrored directions (keys of `trainer.NEGATIVE`) by objective, where not the objective's own."""

    @abstractmethod
    def shapes(self, d_in: int, d_out: int, rank: int = RANK) -> Shapes:
        """Shape of each parameter for a down-projection with these sizes."""

    @abstractmethod
    def change(
        self, parameters: Parameters, x: Float[Tensor, "*batch inner"]
    ) -> Float[Tensor, "*batch hidden"]:
        """dh = dW x + db (Eq. 5 with m1 = m2 = 1), in float32 at least.

        Args:
            parameters: tensors with the names and shapes of `shapes`.
            x: (..., inner), the input of the down-projection; where the layer's output is changed, that
                output itself (..., hidden).
        """

    @abstractmethod
    def write(self, sites: Sites, parameters: Parameters, m: float) -> None:
        """W' = W + m dW, b' = b + m db (Eq. 1), in place."""

    def fresh(self, d_in: int, d_out: int, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Parameters at the start of training, with dh = 0: zeros, unless a form has to draw some."""
        return {name: torch.zeros(shape) for name, shape in self.shapes(d_in, d_out, rank).items()}

    def rank(self, parameters: Parameters) -> int:
        """Rank that `shapes` needs to describe these parameters."""
        return RANK

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(self.shapes(1, 1))

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names of the activations that `Replay` has to record."""
        return ("output",) if self.site == "layer" else ("output", "down_input", "down_output", "residual")


class LocalWeight(Form):
    """dh = dW x + db: a weight and a bias of the down-projection."""

    # as in most of the official settings
    mirrored: ClassVar[Mapping[str, str]] = {"split": "none"}

    def shapes(self, d_in: int, d_out: int, rank: int = RANK) -> Shapes:
        """dW (d_out, d_in) and db (d_out)."""
        return {"weight": (d_out, d_in), "bias": (d_out,)}

    def change(self, parameters: Parameters, x: Tensor) -> Tensor:
        """dh = dW x + db."""
        x, p = _widened(x, parameters)
        return functional.linear(x, p["weight"], p["bias"])

    def write(self, sites: Sites, parameters: Parameters, m: float) -> None:
        """W' = W + m dW, b' = b + m db."""
        _add_to_down(sites, weight=m * parameters["weight"], bias=m * parameters["bias"])


class Lora(Form):
    """dh = B A x: a weight of the down-projection with a low rank."""

    lr = 0.05
    reach = 3.0

    def shapes(self, d_in: int, d_out: int, rank: int = RANK) -> Shapes:
        """A (rank, d_in) and B (d_out, rank)."""
        return {"A": (rank, d_in), "B": (d_out, rank)}

    def change(self, parameters: Parameters, x: Tensor) -> Tensor:
        """dh = B A x."""
        x, p = _widened(x, parameters)
        return functional.linear(functional.linear(x, p["A"]), p["B"])

    def write(self, sites: Sites, parameters: Parameters, m: float) -> None:
        """W' = W + m B A."""
        _add_to_down(sites, weight=m * parameters["B"] @ parameters["A"])

    def fresh(self, d_in: int, d_out: int, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        """A is drawn evenly, as peft draws it; B = 0."""
        drawn = torch.rand(rank, d_in, generator=generator)
        return {"A": 1 / math.sqrt(d_in) * (2 * drawn - 1), "B": torch.zeros(d_out, rank)}

    def rank(self, parameters: Parameters) -> int:
        """Rows of A."""
        return max(1, (tuple(parameters["A"].shape) or (RANK,))[0])


class Vector(Form):
    """dh = v: a vector in the residual stream that leaves the layer."""

    site = "layer"
    lr = 0.08
    reach = 0.6
    factors = (2.0, 20.0, 2.0)

    def shapes(self, d_in: int, d_out: int, rank: int = RANK) -> Shapes:
        """v (d_out)."""
        return {"vector": (d_out,)}

    def change(self, parameters: Parameters, x: Tensor) -> Tensor:
        """dh = v, at each of x's leading axes."""
        v = parameters["vector"]
        v = v.to(torch.promote_types(v.dtype, torch.float32))
        return v.expand(*x.shape[:-1], v.shape[0])

    def write(self, sites: Sites, parameters: Parameters, m: float) -> None:
        """The bias of the last affine map before the residual stream: a norm, else the down-projection."""
        bias, after = m * parameters["vector"], sites.paths.after_down_path
        if after is None:
            _add_to_down(sites, bias=bias)
        else:
            sites.layer.set_submodule(after, _Shifted(sites.layer.get_submodule(after), bias))


FORMS: dict[str, Form] = {"local_weight": LocalWeight(), "lora": Lora(), "vector": Vector()}
"""Forms by name; all code that steers asks this registry."""


def get_form(name: str) -> Form:
    """The form of that name. Raises: ValueError for an unknown one, with those there are."""
    if not isinstance(name, str) or name not in FORMS:
        raise ValueError(f"unknown form {name!r}; there are {', '.join(FORMS)}.")
    return FORMS[name]


def parameter_count(form: str, d_in: int, d_out: int, rank: int = RANK) -> int:
    """d_in d_out + d_out, d_in r + r d_out, or d_out (Table 1): numbers that a form adds to one layer.

    Args:
        form: a key of `FORMS`.
        d_in, d_out: input and output size of the linear layer that is changed.
        rank: of a LoRA.

    Raises:
        ValueError: for an unknown form, or a size that is not positive.
    """
    if min(d_in, d_out, rank) < 1:
        raise ValueError(f"sizes must be positive; got d_in {d_in}, d_out {d_out}, rank {rank}.")
    return sum(math.prod(shape) for shape in get_form(form).shapes(d_in, d_out, rank).values())


def parameter_table(layers: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """Table 1's last column in numbers: one row per model with its (d_in, d_out), one column per form."""
    rows = {
        model: {"d_in": d_in, "d_out": d_out} | {form: parameter_count(form, d_in, d_out) for form in FORMS}
        for model, (d_in, d_out) in layers.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")


def _widened(x: Tensor, parameters: Parameters) -> tuple[Tensor, dict[str, Tensor]]:
    """x and the parameters in x's type, float32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.to(wide), {name: tensor.to(wide) for name, tensor in parameters.items()}


def _add_to_down(sites: Sites, weight: Tensor | None = None, bias: Tensor | None = None) -> None:
    down: Any = without_adapter(sites.down)
    if weight is not None:
        down.weight += weight.T if sites.transposed else weight
    if bias is not None:
        down.bias = nn.Parameter(bias if down.bias is None else down.bias + bias)


class _Shifted(nn.Module):
    """norm(x) + c: a norm whose scale, the affine map x -> g x, has been given a bias."""

    def __init__(self, norm: nn.Module, bias: Float[Tensor, " hidden"]) -> None:
        super().__init__()
        self.norm, self.bias = norm, nn.Parameter(bias)

    def forward(self, x: Float[Tensor, "batch token hidden"]) -> Float[Tensor, "batch token hidden"]:
        return self.norm(x) + self.bias
