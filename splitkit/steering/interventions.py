"""Interventions: changes of one layer or several, attached only inside a `with`, saved and loaded."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn
from transformers import PreTrainedModel

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.forms import Form, get_form
from splitkit.steering.model_state.digest import active_adapters, base_digest, model_digest
from splitkit.steering.model_state.exclusive import exclusive
from splitkit.steering.model_state.token_choice import TOKENS, Tokens, check_tokens
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.models import dtype_name
from splitkit.steering.prompts.settings import bos_ids, note_bos
from splitkit.steering.strengths import Scale, Strength, as_factors_each, real_number, whole_number
from splitkit.storage import paths
from splitkit.storage.files import write_whole

_CONFIG_KEYS = ["base_digest", "details", "form", "layer", "objective", "sha256"]


def add_scaled(h: Tensor, dh: Tensor, scale: Tensor) -> Tensor:
    """h' = h + m dh (Eq. 5), in float32 at least; where the scale is 0, h itself, bit for bit.

    Shapes: h and dh (batch, token, hidden), scale (batch, token or 1, 1).
    """
    wide = torch.promote_types(h.dtype, torch.float32)
    moved = h.to(wide) + scale.to(wide) * dh.to(wide)
    return torch.where(scale == 0, h, moved.to(h.dtype))


class Steering(ABC):
    """What can be applied to a model: sum_i w_i dh_i over its terms, one intervention or several."""

    @property
    @abstractmethod
    def terms(self) -> tuple[tuple[float, "Intervention"], ...]:
        """Weight and intervention of each term."""

    @abstractmethod
    def delta(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch hidden"]:
        """dh at m = 1 of all terms, where they act at one place whose input is x."""

    def check_base(self, model: PreTrainedModel) -> None:
        """Raises ValueError unless `model` is the one that this was made for, with its layers' shapes."""
        for _, intervention in self.terms:
            intervention.check_base(model)

    @contextmanager
    def applied(
        self,
        model: PreTrainedModel,
        m: Strength | Mapping[int, Strength],
        *,
        tokens: Tokens | None = None,
    ) -> Iterator[PreTrainedModel]:
        """h' = h + m dh (Eq. 5) at the chosen tokens, for as long as the `with` lasts.

        A weight form acts on the output of the layer's down-projection, a vector on the residual stream
        that leaves the layer; several terms at one place act on it as it is before any of them. BOS is never
        steered; it is known by its token id, which the config, the generation config or the tokenizer of
        `load_model` or `train` names (a pass on `inputs_embeds` of your own has no ids).

        m = 0 is the base model bit for bit; on leaving, by an exception too, nothing stays behind. Beam
        search reorders the batch and works with one m for all rows only. Compiled models run as they are
        written, since a compiled graph knows nothing of a change that comes later.

        Args:
            model: the model this was made for, as it is or wrapped.
            m: any finite number, or one per row of the batch; for a sum also a dict {term's number: m}.
            tokens: the steered tokens: "all", "answer", "prompt", "last" (the prompt's last one), or a mask
                (batch, token); for None those that each term was trained with, "all" if nothing is said. In
                `generate` the prompt is its input. In forward passes of your own it is what the first one
                holds, and the answer what passes that go on with it add: in a single pass over both, only
                a mask tells them apart.

        Raises:
            ValueError: for an m that is not finite, another base model or shape, another number of rows,
                unknown tokens, or gradient checkpointing in a pass that is differentiated.
            RuntimeError: while another thread or task steers, trains or measures this model.
        """
        factors = as_factors_each(m, len(self.terms))
        if tokens is not None:
            check_tokens(tokens)
        chosen = [term.tokens if tokens is None else tokens for _, term in self.terms]
        with self.attached(plain_model(model), factors, chosen):
            yield model

    @contextmanager
    def attached(
        self, model: PreTrainedModel, factors: Sequence[Tensor], tokens: Sequence[Tokens]
    ) -> Iterator[None]:
        """`applied` to an unwrapped model, with m and the tokens of each term."""
        self.check_base(model)
        with exclusive(model), ExitStack() as stack:
            places: dict[nn.Module, list[tuple[Intervention, Scale]]] = {}
            for m, chosen, (weight, term) in zip(factors, tokens, self.terms, strict=True):
                site = get_form(term.form).site
                sites = resolve_sites(model, term.layer, site)
                scale = Scale(m * weight, bos_ids(model), chosen)
                places.setdefault(getattr(sites, site), []).append((term, scale))
                for handle in scale.attach(model, sites.decoder, model.get_input_embeddings()):
                    stack.callback(handle.remove)
            for place, acting in places.items():
                # before all others: what reads the site, as output_hidden_states does, sees it steered
                handle = place.register_forward_hook(_hook(place, acting), prepend=True)
                stack.callback(handle.remove)
            scales = [scale for acting in places.values() for _, scale in acting]
            stack.enter_context(_observed_generate(model, scales))
            yield

    def __add__(self, other: Any) -> "InterventionSum":
        if not isinstance(other, Steering):
            raise TypeError(f"an intervention adds to another one, not to {other!r}.")
        return InterventionSum((*self.terms, *other.terms))

    def __radd__(self, other: Any) -> "Steering":
        # where `sum` starts
        return self if isinstance(other, int) and other == 0 else self + other

    def __mul__(self, factor: Any) -> "InterventionSum":
        try:
            weight = float(real_number("the weight", factor))
        except ValueError as error:
            raise TypeError(f"an intervention is multiplied by a finite number, not {factor!r}.") from error
        return InterventionSum(tuple((weight * own, term) for own, term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> "InterventionSum":
        return -1.0 * self

    def __sub__(self, other: Any) -> "InterventionSum":
        return self + (-other if isinstance(other, Steering) else other)


def _hook(site: nn.Module, acting: Sequence[tuple["Intervention", Scale]]) -> Any:
    """A hook that adds the terms that act at one place to its output."""
    device = next(site.parameters()).device
    # moved once, not at every token
    moved = [({name: p.to(device) for name, p in term.parameters.items()}, term, s) for term, s in acting]

    def steer(module: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
        # some architectures' layers return more than the residual stream
        h, *rest = output if isinstance(output, tuple) else (output,)
        changes = []
        for parameters, term, scale in moved:
            form = get_form(term.form)
            x = h if form.site == "layer" else args[0]
            changes.append((_change(form, parameters, x), scale.value.to(h.device)))
        found = add_scaled(h, *(changes[0] if len(changes) == 1 else _total(changes)))
        return (found, *rest) if isinstance(output, tuple) else found

    return steer


def _change(form: Form, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    """`Form.change` in the types that it asks for, whatever autocast would rather have."""
    if not torch.is_autocast_enabled(x.device.type):
        return form.change(parameters, x)
    with torch.autocast(x.device.type, enabled=False):
        return form.change(parameters, x)


def _total(changes: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """sum_i scale_i dh_i, and 1 where any scale is not 0."""
    dh = sum(scale.to(dh.dtype) * dh for dh, scale in changes)
    acts = sum((scale != 0).to(scale.dtype) for _, scale in changes)
    return dh, (acts != 0).to(acts.dtype)  # type: ignore[return-value,union-attr]


@contextmanager
def _observed_generate(model: PreTrainedModel, scales: Sequence[Scale]) -> Iterator[None]:
    """`model.generate` tells where its prompt ends, for those scales that want to know."""
    choices = [scale for scale in scales if scale.choice.named]
    if not choices:
        yield
        return
    before, inner = vars(model).get("generate"), model.generate

    @wraps(inner)  # type: ignore[arg-type]
    def generate(*args: Any, **kwargs: Any) -> Any:
        for scale in choices:
            scale.choice.begin(args, kwargs)
        try:
            return inner(*args, **kwargs)  # type: ignore[operator]
        finally:
            for scale in choices:
                scale.choice.end()

    model.generate = generate  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        if vars(model).get("generate") is generate:
            del model.generate
            if before is not None:
                model.generate = before


@dataclass(eq=False)
class Intervention(Steering):
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
        return _change(get_form(self.form), on_device, x)

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
        # known from training, where the config lacks it
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
                f' It was made in {made}, this one is {here}: load with dtype="{made}", or, if it '
                "is the same model, the intervention with load_intervention(folder, model, allow_dtype=True)."
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
                "the base; no adapter acts on this model."
            )
        return ""

    def save(self, folder: str | Path) -> Path:
        """Write `intervention.safetensors` and `config.json` into `folder`, made if needed; returns it.

        Each file is written whole or not at all. Raises: TypeError, before anything is written, when
        `details` is not JSON.
        """
        return _save(paths.expanded(folder), self._config(), self.parameters)

    def _config(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "parameters"}


@dataclass(frozen=True, eq=False)
class InterventionSum(Steering):
    """dh = sum_i w_i dh_i: several interventions on one model, at one layer or at several, as one.

    Raises: ValueError when the terms belong to different base models.
    """

    terms: tuple[tuple[float, Intervention], ...] = ()

    def __post_init__(self) -> None:
        bases = {term.base_digest for _, term in self.terms}
        if not bases:
            raise ValueError("a sum of interventions has at least one term.")
        if len(bases) > 1:
            raise ValueError(
                "interventions can be added where they belong to the same base model; these have the digests "
                f"{', '.join(sorted(base[:12] + '...' for base in bases))}."
            )

    def delta(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch hidden"]:
        """dh at m = 1 where all terms act at one place, whose input is x; see `Intervention.delta`."""
        return sum(weight * term.delta(x) for weight, term in self.terms)  # type: ignore[return-value]

    def save(self, folder: str | Path) -> Path:
        """Write `intervention.safetensors` and `config.json` into `folder`, made if needed; returns it.

        Each file is written whole or not at all. Raises: TypeError, before anything is written, when
        `details` is not JSON.
        """
        tensors = {
            f"{number}.{name}": p
            for number, (_, term) in enumerate(self.terms)
            for name, p in term.parameters.items()
        }
        return _save(
            paths.expanded(folder),
            {"terms": [{**term._config(), "weight": weight} for weight, term in self.terms]},
            tensors,
        )


def _save(target: Path, config: dict[str, Any], parameters: Mapping[str, Tensor]) -> Path:
    content = safetensors.save({name: p.detach().cpu().contiguous() for name, p in parameters.items()})
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


def load_intervention(
    folder: str | Path, model: PreTrainedModel | None = None, *, allow_dtype: bool = False
) -> Intervention | InterventionSum:
    """The intervention, or the sum of several, that `save` wrote into `folder`.

    Args:
        folder: where `config.json` and `intervention.safetensors` are.
        model: checked at once to be its base model when given; otherwise the check comes with its first use.
        allow_dtype: take `model` for its base model where the type of the weights is another one than it was
            made in (a vector made in float32, on bfloat16 weights) and the shapes fit. Rounded weights cannot
            be told from another model's: that they are the same model's is your word. What is returned
            belongs to `model`, and its details keep what it was made on ("made_on").

    Raises:
        FileNotFoundError: when a file is not there.
        ValueError: when a file is damaged or has no digest, or when `model` is another base model.
    """
    source = paths.expanded(folder)
    missing = [n for n in ("config.json", "intervention.safetensors") if not (source / n).is_file()]
    if missing:
        raise FileNotFoundError(f"{source} is no saved intervention: {' and '.join(missing)} not there.")
    path, tensors = source / "config.json", source / "intervention.safetensors"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text at all
        raise ValueError(f"{path} is damaged: {error}.") from error
    keys = sorted(config) if isinstance(config, dict) else config
    if keys not in (_CONFIG_KEYS, ["sha256", "terms"]):
        hint = " An older version wrote it: train and save anew." if keys == _CONFIG_KEYS[:-1] else ""
        raise ValueError(f"{path} has the keys {keys}, not {_CONFIG_KEYS}.{hint}")
    content, stated = tensors.read_bytes(), config.pop("sha256")
    found = hashlib.sha256(content).hexdigest()
    if found != stated:
        raise ValueError(f"{tensors} is damaged: it has sha256 {found}, config.json says {stated}.")
    try:
        loaded = _loaded(config, safetensors.load(content))
    except (SafetensorError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{source} is no intervention's folder: {error}.") from error
    if allow_dtype:
        if model is None:
            raise ValueError("allow_dtype needs the model that the intervention is to be used on.")
        loaded = _on_dtype(loaded, model)
    if model is not None:
        loaded.check_base(model)
    return loaded


def _on_dtype(loaded: Any, model: PreTrainedModel) -> Any:
    """The same intervention as one of `model`, where that has another type than it was made in."""
    if isinstance(loaded, InterventionSum):
        return InterventionSum(tuple((weight, _on_dtype(term, model)) for weight, term in loaded.terms))
    made, here = loaded.details.get("dtype"), dtype_name(plain_model(model))
    if made in (None, here) or loaded.base_digest == model_digest(model):
        return loaded
    made_on = {"dtype": made, "digest": loaded.base_digest}
    details = loaded.details | {"dtype": here, "made_on": made_on}
    return replace(loaded, base_digest=model_digest(model), details=details)


def _loaded(config: dict[str, Any], tensors: dict[str, Tensor]) -> Intervention | InterventionSum:
    if "terms" not in config:
        return Intervention(parameters=tensors, **config)
    terms = []
    for number, term in enumerate(config["terms"]):
        weight = real_number("the weight of a term", term.pop("weight"))
        start = f"{number}."
        own = {name.removeprefix(start): p for name, p in tensors.items() if name.startswith(start)}
        terms.append((float(weight), Intervention(parameters=own, **term)))
    return InterventionSum(tuple(terms))
