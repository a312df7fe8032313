"""Interventions: a change of one layer, attached only inside a `with`, saved and loaded."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn
from transformers import PreTrainedModel

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.forms import get_form
from splitkit.steering.model_state.digest import active_adapters, base_digest, model_digest
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.models import dtype_name
from splitkit.steering.prompts.settings import bos_ids, note_bos
from splitkit.steering.strengths import Scale, Strength, as_factors, whole_number
from splitkit.storage.files import write_whole

_CONFIG_KEYS = ["base_digest", "details", "form", "layer", "objective", "sha256"]


def add_scaled(h: Tensor, dh: Tensor, scale: Tensor) -> Tensor:
    """h' = h + m dh (Eq. 5), in float32 at least; where the scale is 0, h itself, bit for bit.

    Shapes: h and dh (batch, token, hidden), scale (batch, token or 1, 1).
    """
    wide = torch.promote_types(h.dtype, torch.float32)
    moved = h.to(wide) + scale.to(wide) * dh.to(wide)
    return torch.where(scale == 0, h, moved.to(h.dtype))


@dataclass(eq=False)
class Intervention:
    """A change of one layer of one model: its form, the objective it was made with, and its parameters.

    `base_digest` is `model_digest` of the model it belongs to. `details` says how it was made (JSON), of a
    trained one also the base model's type ("dtype"). Shapes are those of `Form.shapes`, compared with the
    model's layer at each use.

    Raises:
        TypeError: when `details` or `parameters` is no dict, a parameter no tensor of floats, or
            `base_digest` no text.
        ValueError: for an unknown form, other parameters than it has, NaN or infinity in one, or a layer that
            is no whole number.
    """

    form: str
    objective: str
    layer: int
    parameters: dict[str, Tensor]
    base_digest: str
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = get_form(self.form).names
        self.layer = whole_number("layer", self.layer)
        if not isinstance(self.details, dict):
            raise TypeError(f"details are a dict, not {self.details!r}.")
        if not isinstance(self.base_digest, str):
            raise TypeError(
                f"base_digest is a text as model_digest(model) gives it, not {self.base_digest!r}."
            )
        if not isinstance(self.parameters, dict):
            kind = type(self.parameters).__name__
            raise TypeError(f"the parameters of a {self.form} are a dict with {expected}, not a {kind}.")
        if set(self.parameters) != set(expected):
            raise ValueError(f"{self.form} has the parameters {expected}, not {sorted(self.parameters)}.")
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
        return get_form(self.form).change({name: p.to(x.device) for name, p in self.parameters.items()}, x)

    def check_base(self, model: PreTrainedModel) -> None:
        """Raises ValueError unless `model` is the one that this was made for, with its layer's shapes."""
        model = plain_model(model)
        # known from training, where the config lacks it
        note_bos(model, self.details.get("bos_token_id"))
        if (found := model_digest(model)) != self.base_digest:
            raise ValueError(
                f"this {self.form} belongs to another base model: it was made on one with digest "
                f"{self.base_digest[:12]}..., this one has {found[:12]}....{self._difference(model)}"
            )
        sites, form = resolve_sites(model, self.layer), get_form(self.form)
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
            return f' It was made in {made}, this one is {here}: load with dtype="{made}".'
        names = ", ".join(map(repr, active_adapters(model)))
        if names and base_digest(model) == self.base_digest:
            return (
                f" It was made on this model without the adapter {names}, which is loaded and counts as part "
                "of the base: disable or remove the adapter, or train on the model as it is now."
            )
        if (missing := self.details.get("adapters")) and not names:
            return (
                f" It was made with the adapter {', '.join(map(repr, missing))}, which counted as part of "
                "the base; no adapter acts on this model."
            )
        return ""

    @contextmanager
    def applied(self, model: PreTrainedModel, m: Strength) -> Iterator[PreTrainedModel]:
        """h' = h + m dh (Eq. 5) at every token but BOS, for as long as the `with` lasts.

        A weight form acts on the output of the layer's down-projection, a vector on the residual stream
        that leaves the layer. BOS is known by its token id, which the config, the generation config or the
        tokenizer of `load_model` or `train` names; a pass on `inputs_embeds` of your own has no ids, there
        every token is steered. m = 0 is the base model bit for bit; on leaving, by an exception too,
        nothing stays behind. Beam search reorders the batch and works with one m for all rows only.

        Args:
            model: the model this intervention was made for.
            m: any finite number, or one per row of the batch.

        Raises:
            ValueError: for an m that is not finite, another base model or shape, or another number of rows.
        """
        factors = as_factors(m)
        self.check_base(model)
        sites = resolve_sites(model, self.layer)
        scale = Scale(factors, bos_ids(model))
        site: nn.Module = getattr(sites, get_form(self.form).site)
        hook = self._hook(scale, next(site.parameters()).device)
        handles = scale.attach(model, sites.decoder, model.get_input_embeddings())
        try:
            handles.append(site.register_forward_hook(hook))
            yield model
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, scale: Scale, device: torch.device) -> Any:
        form = get_form(self.form)
        # moved once, not at every token
        parameters = {name: p.to(device) for name, p in self.parameters.items()}

        def steer(module: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
            # some architectures' layers return more than the residual stream
            h, *rest = output if isinstance(output, tuple) else (output,)
            x = h if form.site == "layer" else args[0]
            moved = add_scaled(h, form.change(parameters, x), scale.value.to(h.device))
            return (moved, *rest) if isinstance(output, tuple) else moved

        return steer

    def save(self, folder: str | Path) -> Path:
        """Write `intervention.safetensors` and `config.json` into `folder`, made if needed; returns it.

        Each file is written whole or not at all. Raises: TypeError, before anything is written, when
        `details` is not JSON.
        """
        target = Path(folder)
        tensors = {name: p.detach().cpu().contiguous() for name, p in self.parameters.items()}
        content = safetensors.save(tensors)
        config = {key: value for key, value in vars(self).items() if key != "parameters"}
        # config.json names its tensors by their digest: damage and mixed-up files are found at loading
        config["sha256"] = hashlib.sha256(content).hexdigest()
        try:
            text = json.dumps(config, indent=2) + "\n"
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"details are plain numbers, texts, lists and dicts, to be kept as JSON: {error}."
            ) from error
        write_whole(target / "intervention.safetensors", content)
        write_whole(target / "config.json", text)
        return target


def load_intervention(folder: str | Path, model: PreTrainedModel | None = None) -> Intervention:
    """The intervention that `save` wrote into `folder`.

    Args:
        folder: where `config.json` and `intervention.safetensors` are.
        model: checked at once to be its base model when given; otherwise the check comes with its first use.

    Raises:
        FileNotFoundError: when a file is not there.
        ValueError: when a file is damaged or has no digest, or when `model` is another base model.
    """
    source = Path(folder)
    missing = [n for n in ("config.json", "intervention.safetensors") if not (source / n).is_file()]
    if missing:
        raise FileNotFoundError(f"{source} is no saved intervention: {' and '.join(missing)} not there.")
    path, tensors = source / "config.json", source / "intervention.safetensors"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text at all
        raise ValueError(f"{path} is damaged: {error}.") from error
    keys = sorted(config) if isinstance(config, dict) else config
    if keys != _CONFIG_KEYS:
        hint = " An older version wrote it: train and save anew." if keys == _CONFIG_KEYS[:-1] else ""
        raise ValueError(f"{path} has the keys {keys}, not {_CONFIG_KEYS}.{hint}")
    content, stated = tensors.read_bytes(), config.pop("sha256")
    found = hashlib.sha256(content).hexdigest()
    if found != stated:
        raise ValueError(f"{tensors} is damaged: it has sha256 {found}, config.json says {stated}.")
    try:
        loaded = Intervention(parameters=safetensors.load(content), **config)
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{source} is no intervention's folder: {error}.") from error
    if model is not None:
        loaded.check_base(model)
    return loaded
