"""Sums: what can be applied to a model, sum_i w_i dh_i over one intervention or several."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from splitkit.steering.architectures import resolve_sites
from splitkit.steering.formats.intervention_files import as_folder, write
from splitkit.steering.forms import get_form
from splitkit.steering.interventions.attached import attach, detach
from splitkit.steering.interventions.hooks import Term, hook, observed_generate
from splitkit.steering.model_state.exclusive import exclusive
from splitkit.steering.model_state.token_choice import Tokens, check_tokens
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.prompts.settings import bos_ids, check_bos
from splitkit.steering.strengths import Scale, Strength, as_factors_each, real_number


class Steering(ABC):
    """What can be applied to a model: sum_i w_i dh_i over its terms, one intervention or several."""

    @property
    @abstractmethod
    def terms(self) -> tuple[tuple[float, Term], ...]:
        """Weight and intervention of each term."""

    @abstractmethod
    def delta(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch hidden"]:
        """dh at m = 1 of all terms, where they act at one place whose input is x."""

    @abstractmethod
    def content(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What `save` writes into `config.json`, and the tensors."""

    def save(self, folder: str | Path) -> Path:
        """Write `intervention.safetensors` and `config.json` into `folder`, made if needed; returns it.

        Each file is written whole or not at all. Raises, before anything is written: TypeError when `details`
        is not JSON, NotADirectoryError when `folder` is a file.
        """
        return write(as_folder(folder), *self.content())

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
        search reorders the batch and works with one m for all rows only; so does `generate_batch`, which
        packs all rows into one, and with all tokens. Compiled models run as they are written, since a
        compiled graph knows nothing of a change that comes later.

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
        if any(isinstance(chosen, str) and chosen in ("all", "prompt") for chosen in tokens):
            check_bos(model)
        with exclusive(model), ExitStack() as stack:
            places: dict[nn.Module, list[tuple[Term, Scale]]] = {}
            for m, chosen, (weight, term) in zip(factors, tokens, self.terms, strict=True):
                site = get_form(term.form).site
                sites = resolve_sites(model, term.layer, site)
                scale = Scale(m * weight, bos_ids(model), chosen)
                places.setdefault(getattr(sites, site), []).append((term, scale))
                for handle in scale.attach(model, sites.decoder, model.get_input_embeddings()):
                    stack.callback(handle.remove)
            for place, acting in places.items():
                # before all others: what reads the site, as output_hidden_states does, sees it steered
                handle = place.register_forward_hook(hook(place, acting), prepend=True)
                stack.callback(handle.remove)
            scales = [scale for acting in places.values() for _, scale in acting]
            stack.enter_context(observed_generate(model, scales))
            yield

    def attach(
        self,
        model: PreTrainedModel,
        m: Strength | Mapping[int, Strength],
        *,
        tokens: Tokens | None = None,
    ) -> None:
        """`applied` without an end, until `detach`: for a server, whose requests know nothing of a `with`.

        Several interventions that are attached add up, as nested `with`s do, and go in any order. Other
        threads may run the model meanwhile, steered; none of them can steer, train or measure it. A model
        is kept in memory while something is attached to it. `m`, `tokens` and errors are those of `applied`.

        Raises: RuntimeError, and nothing changes, when this very intervention is attached to the model.
        """
        attach(self, model, self.applied(model, m, tokens=tokens))

    def detach(self, model: PreTrainedModel) -> None:
        """Undo `attach`: the model is as it was, but for what else is attached.

        Raises: RuntimeError, and nothing changes, when this intervention is not attached to the model.
        """
        detach(self, model)

    def card(
        self,
        sweep: pd.DataFrame | None = None,
        *,
        m: float | None = None,
        reason: str = "",
        base_model: str = "",
        limits: Sequence[str] = (),
    ) -> str:
        """A model card: what this is and how it was made, the strength, the curves' numbers, and limits.

        Args:
            sweep: a table of `sweep`, whose means are written down.
            m: the recommended strength; `operating_point(sweep)` for None, if there is a sweep.
            reason: why this strength, in words.
            base_model: name of the base model as `load_model` or the hub knows it.
            limits: sentences of your own, to stand with those that always hold.

        Returns:
            Markdown with a YAML head, as hubs read it in a README.md.

        Raises:
            ValueError: what `operating_point` raises of a sweep.
        """
        from splitkit.steering.exchange.card import card

        return card(self, sweep, m, reason, base_model, limits)

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


@dataclass(frozen=True, eq=False, repr=False)
class InterventionSum(Steering):
    """dh = sum_i w_i dh_i: several interventions on one model, at one layer or at several, as one.

    Raises: ValueError when the terms belong to different base models.
    """

    terms: tuple[tuple[float, Term], ...] = ()

    def __post_init__(self) -> None:
        bases = {term.base_digest for _, term in self.terms}
        if not bases:
            raise ValueError("a sum of interventions has at least one term.")
        if len(bases) > 1:
            raise ValueError(
                "interventions can be added where they belong to the same base model; these have the digests "
                f"{', '.join(sorted(base[:12] + '...' for base in bases))}: train them on one, or load each "
                "onto it with allow_dtype=True where only the type differs."
            )

    def delta(self, x: Float[Tensor, "*batch inner"]) -> Float[Tensor, "*batch hidden"]:
        """dh at m = 1 where all terms act at one place, whose input is x; see `Intervention.delta`."""
        return sum(weight * term.delta(x) for weight, term in self.terms)  # type: ignore[return-value]

    def content(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What `save` writes: the terms' own contents, and the parameters under the terms' numbers."""
        tensors = {
            f"{number}.{name}": p
            for number, (_, term) in enumerate(self.terms)
            for name, p in term.parameters.items()
        }
        return {"terms": [{**term.content()[0], "weight": weight} for weight, term in self.terms]}, tensors

    def __repr__(self) -> str:
        return f"InterventionSum({' + '.join(f'{weight:g} * {term!r}' for weight, term in self.terms)})"
