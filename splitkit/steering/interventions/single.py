"""A single intervention: one change of one layer of one model."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.forms import get_form
from splitkit.steering.interventions.hooks import change
from splitkit.steering.interventions.sums import Steering
from splitkit.steering.model_state.digest import active_adapters, base_digest, model_digest
from splitkit.steering.model_state.placement import dtype_name
from splitkit.steering.model_state.token_choice import TOKENS
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.prompts.settings import note_bos
from splitkit.steering.strengths import whole_number


@dataclass(eq=False, repr=False)
class Intervention(Steering):
    """A change of one layer of one model: its form, the objective it was made with, and its parameters.

    `base_digest` is `model_digest` of the model it belongs to. `details` says how it was made (JSON), of a
    trained one also the base model's type ("dtype"). Shapes are those of `Form.shapes`, compared with the
    model's layer at each use. `matching_strength` is what that function last found here; it is not saved.

    Raises:
        TypeError: when `details` or `parameters` is no dict, a parameter no tensor of floats, or
            `objective` or `base_digest` no text.
        ValueError: for an unknown form, other parameters than it has, NaN or infinity in one, or a layer that
            is no whole number.
    """

    form: str
    objective: str
    layer: int
    parameters: dict[str, Tensor]
    base_digest: str
    details: dict[str, Any] = field(default_factory=dict)
    matching_strength: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        expected = get_form(self.form).names
        self.layer = whole_number("layer", self.layer)
        if not isinstance(self.details, dict):
            raise TypeError(f"details are a dict, not {self.details!r}.")
        if not isinstance(self.objective, str):
            raise TypeError(f"objective is a text, what it was made with, not {self.objective!r}.")
        if not isinstance(self.base_digest, str):
            raise TypeError(
                f"base_digest is a text as model_digest(model) gives it, not {self.base_digest!r}."
            )
        if not isinstance(self.parameters, dict):
            kind = type(self.parameters).__name__
            raise TypeError(f"the parameters of a {self.form} are a dict with {expected}, not a {kind}.")
        if set(self.parameters) != set(expected):
            raise ValueError(f"{self.form} has the parameters {expected}, not {sorted(self.parameters)}.")
        if self.tokens not in TOKENS:
            raise ValueError(f"details name unknown tokens {self.tokens!r}; there are {', '.join(TOKENS)}.")
        for name, tensor in self.parameters.items():
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                raise TypeError(
                    f"parameter {name!r} of the {self.form} is a torch tensor of floats, not {kind}; "
                    "torch.as_tensor(values, dtype=torch.float32) makes one."
                )
            if not torch.isfinite(tensor).all():
                raise ValueError(f"parameter {name!r} of the {self.form} has NaN or infinite values.")

    def delta(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch hidden"]:
        """dh = dW x + db (Eq. 5) at m = 1; the change at any other strength is m dh.

        Args:
            x: input of `Form.change`: (..., inner) of the layer's down-projection; for a vector only the
                leading axes count.

        Returns:
            (..., hidden) in float32 at least.
        """
        on_device = {name: p.to(x.device) for name, p in self.parameters.items()}
        return change(get_form(self.form), on_device, x)

    @property
    def terms(self) -> tuple[tuple[float, "Intervention"], ...]:
        """Itself, once."""
        return ((1.0, self),)

    @property
    def tokens(self) -> str:
        """The tokens that it was trained with, a name of `TOKENS`; the default of its use."""
        return self.details.get("tokens", "all")

    def check_base(self, model: PreTrainedModel) -> None:
        """Raises ValueError unless `model` is the one that this was made for, with its layer's shapes."""
        model = plain_model(model)
        if "dtype" in self.details or "bos_token_id" in self.details:
            # known from training, where the config lacks it; else that there is none
            note_bos(model, self.details.get("bos_token_id"))
        if (found := model_digest(model)) != self.base_digest:
            raise ValueError(
                f"this {self.form} belongs to another base model: it was made on one with digest "
                f"{self.base_digest[:12]}..., this one has {found[:12]}....{self._difference(model)}"
            )
        form = get_form(self.form)
        sites = resolve_sites(model, self.layer, form.site)
        wanted = form.shapes(sites.down_width, sites.width, form.rank(self.parameters))
        for name, shape in wanted.items():
            if (found_shape := tuple(self.parameters[name].shape)) != shape:
                raise ValueError(
                    f"parameter {name!r} of the {self.form} has shape {found_shape}; "
                    f"for layer {self.layer} of this model it is {shape}."
                )

    def _difference(self, model: PreTrainedModel) -> str:
        """The likely reason why the base model is another one; empty where none is known."""
        made, here = self.details.get("dtype"), dtype_name(model)
        if made not in (None, here):  # the same weights, rounded to another type, are another model
            return (
                f' It was made in {made}, this one is {here}: load with dtype="{made}", or, if it is '
                "the same model, the intervention with load_intervention(folder, model, allow_dtype=True). "
                "Else train anew."
            )
        names = ", ".join(map(repr, active_adapters(model)))
        if names and base_digest(model) == self.base_digest:
            return (
                f" It was made on this model without the adapter {names}, which is loaded and counts as part "
                "of the base: disable or remove the adapter, or train on the model as it is now."
            )
        if (missing := self.details.get("adapters")) and not names:
            return (
                f" It was made with the adapter {', '.join(map(repr, missing))}, which counted as part of "
                "the base; no adapter acts on this model: load it, or train on the model as it is now."
            )
        if made is None:
            return " If this is its model all the same, make it with base_digest=model_digest(model)."
        file = self.details.get("source", {}).get("file")
        return f" Load that model{f' ({file})' if file else ''}, or train anew on this one."

    def content(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What `save` writes: all that it was made with, and the parameters."""
        names = ("form", "objective", "layer", "base_digest", "details")
        return {name: getattr(self, name) for name in names}, self.parameters

    def __repr__(self) -> str:
        parts = [f"{self.form} by {self.objective}", f"layer {self.layer}", f"model {self.base_digest[:12]}"]
        parts += [f"|{name}| {p.detach().double().norm():.4g}" for name, p in self.parameters.items()]
        if "pairs" in self.details:
            parts.append(f"{self.details['pairs']} pairs")
        if self.matching_strength is not None:
            parts.append(f"matching strength {self.matching_strength:.4g}")
        return f"Intervention({', '.join(parts)})"
