"""Replay: the layers up to the steered one run once, the later ones again at each strength.

dh does not depend on m (Eq. 5), and nothing below the steered layer depends on either. Of an architecture
that cannot be cut there (layers that keep a state or read the token ids), the whole model runs again instead.
"""

import copy
import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.architectures import Sites, resolve_sites
from splitkit.steering.forms import get_form
from splitkit.steering.interventions import Intervention
from splitkit.steering.interventions.hooks import add_scaled
from splitkit.steering.memory import tokens_that_fit
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.model_state.exclusive import exclusive
from splitkit.steering.model_state.token_choice import chosen_tokens
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.prompts.settings import bos_ids, steered_tokens, text_setting
from splitkit.steering.strengths import is_steered
from splitkit.steering.tail import Tail, part
from splitkit.steering.token_losses import token_losses_from_hidden
from splitkit.steering.tokenization import Batch, Encoded, pad_batch


@dataclass(frozen=True)
class Recording:
    """Recorded activations of a batch: all that the later layers and an intervention of one form need.

    `activations`, each (batch, token, ...): "output", the residual stream that leaves the layer; for a form
    that changes the down-projection also "down_input" (inner), "down_output" (hidden) and "residual"
    (hidden), the stream that the FFN's output is added to.
    """

    batch: Batch
    activations: dict[str, Tensor]

    @property
    def x(self) -> Float[Tensor, "batch token inner"]:
        """Input of `Form.change`: the down-projection's input, or the layer's output."""
        return self.activations.get("down_input", self.activations["output"])

    def repeated(self, times: int) -> "Recording":
        """The same rows `times` times, one block after the other."""
        batch = Batch(*(part.repeat(times, *[1] * (part.ndim - 1)) for part in vars(self.batch).values()))
        return Recording(
            batch, {name: values.repeat(times, 1, 1) for name, values in self.activations.items()}
        )

    def rows(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Each row's index and its activations (token, ...) without the padding."""
        for row, index in enumerate(self.batch.index.tolist()):
            kept = self.batch.attention_mask[row].bool()
            yield index, {name: values[row][kept] for name, values in self.activations.items()}


def stack_rows(
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[Encoded],
    rows: Sequence[dict[str, Tensor]],
    side: str | None = None,
) -> Recording:
    """A Recording of `sequences`, padded anew (see `pad_batch`), from the unpadded activations of each."""
    first = rows[0]["output"]
    batch = pad_batch(tokenizer, sequences, range(len(sequences)), side).to(first.device)
    filled = batch.attention_mask.bool()
    activations = {}
    for name in rows[0]:
        values = torch.cat([row[name] for row in rows])
        activations[name] = values.new_zeros(*filled.shape, values.shape[-1])
        activations[name][filled] = values
    return Recording(batch, activations)


class Replay:
    """A model cut at one layer: `record` runs the layers up to it, `losses` the later ones.

    `runs` says what `losses` runs: "tail", the later layers; "decoder", all layers under a hook; "model", all
    layers and the model's own way from the head to the logits. Where the architecture is not one that the
    tests cover, it is the first that equals the model under hooks (see `check_replay`).

    Raises:
        ValueError: where no layers are found, for a layer out of range, a form that this layer cannot have,
            or a model that is steered already.

    Warns:
        UserWarning: once per model, layer and form, where the later layers do not run alone.
    """

    def __init__(self, model: PreTrainedModel, layer: int, form: str, tokens: str = "all") -> None:
        self.tokens = tokens
        self.form = get_form(form)
        self.sites: Sites = resolve_sites(model, layer, self.form.site)
        if _own_hooks(self.sites.decoder):
            # what a user's hooks do to a part has to be proved
            self.sites = replace(self.sites, proven=False)
        if is_steered(self.sites.decoder):
            raise ValueError("an intervention is applied to this model: leave its `with` first.")
        self.device = model.device
        self._model = model
        self.later = len(getattr(self.sites.decoder, self.sites.layers_name)) - layer - 1
        self.budget = tokens_that_fit(model)
        self._head = model.get_output_embeddings()
        if self._head.weight.device != self.device:
            self._head = copy.deepcopy(self._head).to(self.device)
        self._cap: float | None = text_setting(model, "final_logit_softcapping")
        # Granite divides the logits, Cohere multiplies them
        self._factor = text_setting(model, "logit_scale") or 1 / text_setting(model, "logits_scaling", 1)
        self._bos = lambda: bos_ids(model)  # of the tokenizer, too, which may come later
        self.runs = "tail"
        if not self.sites.proven:
            self.runs = _proven_run(model, layer, form, self)
        if self.runs == "tail":
            self._cut(layer)

    @property
    def added_to(self) -> str:
        """The recorded activation whose length m dh is held against; see `matching_strength`."""
        if self.form.site == "layer":
            return "output"
        return "residual" if self.sites.after_down is None else "down_output"

    def _cut(self, layer: int) -> None:
        self._before: nn.Module = part(self.sites, 0, layer + 1)
        self.tail = Tail(self.sites, layer + 1)

    @torch.no_grad()
    def record(self, batch: Batch) -> Recording:
        """Run the layers up to the steered one, unsteered."""
        batch, seen = batch.to(self.device), dict[str, Tensor]()

        def keep_down(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen.update(down_input=args[0], down_output=output)

        def keep_residual(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen["residual"] = args[0]

        handles = []
        if "down_output" in self.form.recorded:
            handles.append(self.sites.down.register_forward_hook(keep_down))
        if "residual" in self.form.recorded and self.sites.residual is not None:
            handles.append(self.sites.residual.register_forward_pre_hook(keep_residual))
        before = self._before if self.runs == "tail" else self.sites.decoder
        try:
            with leaving(self.sites.layer) as outputs:
                before(**_inputs(before, batch))
        finally:
            for handle in handles:
                handle.remove()
        seen = {"output": outputs[-1], **seen}
        seen = {name: values.to(self.device) for name, values in seen.items()}
        if "residual" in self.form.recorded and self.sites.residual is None:
            wide = torch.promote_types(seen["output"].dtype, torch.float32)
            seen["residual"] = seen["output"].to(wide) - self._added(seen["down_output"]).to(wide)
        return Recording(batch, seen)

    def losses(
        self,
        recording: Recording,
        dh: Float[Tensor, "batch token hidden"],
        m: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """L = -1/|A| sum_t log P(A_t | q, A_<t) under h' = h + m dh (Eq. 5), in nats per token of the answer.

        Args:
            recording: of the rows to measure.
            dh: (batch, token, hidden), the change at m = 1.
            m: (batch,).

        Returns:
            (batch,) float32 at least; differentiable in dh. The end-of-answer token counts.
        """
        if self.runs != "tail":
            return self._whole_losses(recording.batch, dh, m)
        residual = self.steered(recording, dh, m)
        needed = predicting(recording.batch)
        return self.answer_losses(recording.batch, self.onward(recording.batch, residual, needed), needed)

    def answer_losses(
        self,
        batch: Batch,
        hidden: Float[Tensor, "batch token hidden"],
        needed: Bool[Tensor, "batch token"],
    ) -> Float[Tensor, " batch"]:
        """Mean loss of each answer, (batch,), from the head's input before each of its tokens."""
        hidden = hidden if self._factor == 1 else hidden * self._factor
        each = token_losses_from_hidden(
            hidden[needed], self._head, batch.input_ids[batch.answer_mask], self._cap
        )  # (answer tokens of all rows,)
        row = needed.nonzero()[:, 0]
        return each.new_zeros(len(needed)).index_add(0, row, each) / needed.sum(1)

    def steered(self, recording: Recording, dh: Tensor, m: Tensor) -> Float[Tensor, "batch token hidden"]:
        """h' = h + m dh (Eq. 5) as it leaves the layer in the residual stream, at the chosen tokens."""
        seen, scale = recording.activations, self._scale(recording.batch, m)
        if self.form.site == "layer":
            return add_scaled(seen["output"], dh, scale)
        moved = seen["residual"] + self._added(add_scaled(seen["down_output"], dh, scale))
        if self.sites.residual is not None:
            return moved
        # a difference in place of the stream itself would round at m = 0 too
        return torch.where(scale == 0, seen["output"], moved.to(seen["output"].dtype))

    def _scale(self, batch: Batch, m: Tensor) -> Float[Tensor, "batch token 1"]:
        """m at each token, 0 at BOS and at those that are not chosen."""
        return m.reshape(-1, 1, 1) * self.steered_tokens(batch).unsqueeze(-1)

    def steered_tokens(self, batch: Batch) -> Bool[Tensor, "batch token"]:
        """The chosen tokens but BOS."""
        steered = steered_tokens(batch.input_ids, self._bos())
        return steered if self.tokens == "all" else steered & chosen_tokens(batch.answer_mask, self.tokens)

    def _whole_losses(self, batch: Batch, dh: Tensor, m: Tensor) -> Float[Tensor, " batch"]:
        """`losses` by all layers, with m dh added where the form acts."""
        scale = self._scale(batch, m)

        def steer(module: nn.Module, args: tuple[Tensor, ...], output: Any) -> Any:
            h, *rest = output if isinstance(output, tuple) else (output,)
            moved = add_scaled(h, dh.to(h.device), scale.to(h.device))
            return (moved, *rest) if isinstance(output, tuple) else moved

        handle = getattr(self.sites, self.form.site).register_forward_hook(steer, prepend=True)
        try:
            return self.whole_losses(batch)
        finally:
            handle.remove()

    def whole_losses(self, batch: Batch) -> Float[Tensor, " batch"]:
        """L of each answer by all layers of the model as it is now, under the hooks that it has."""
        if self.runs == "model":
            return _losses_of(self._model, batch)
        decoder = self.sites.decoder
        hidden = decoder(**_inputs(decoder, batch)).last_hidden_state
        return self.answer_losses(batch, hidden.to(self.device), predicting(batch))

    def _added(self, down: Tensor) -> Tensor:
        """The FFN's part of the residual stream when its down-projection gives `down`."""
        return down if self.sites.after_down is None else self.sites.after_down(down).to(down.device)

    def onward(
        self,
        batch: Batch,
        residual: Float[Tensor, "batch token hidden"],
        needed: Bool[Tensor, "batch token"] | None = None,
    ) -> Float[Tensor, "batch token hidden"]:
        """Input of the head after `residual` has left this layer; see `Tail`.

        Raises: ValueError where the later layers do not run alone.
        """
        if self.runs != "tail":
            raise ValueError(f"the last layers of a {type(self._model).__name__} cannot be run alone.")
        return self.tail(batch, residual, needed)


@contextmanager
def leaving(layer: nn.Module) -> Iterator[list[Float[Tensor, "batch token hidden"]]]:
    """The residual stream that leaves a layer, of each pass that runs it while the `with` lasts."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        h = output[0] if isinstance(output, tuple) else output
        # of Gemma 3n's several residual streams the first is the one that layers compute on
        seen.append(h[0] if h.ndim == 4 else h)

    handle = layer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def predicting(batch: Batch) -> Bool[Tensor, "batch token"]:
    """The positions before the answer's tokens: those at which the head predicts one."""
    needed = torch.zeros_like(batch.answer_mask)
    needed[:, :-1] = batch.answer_mask[:, 1:]
    return needed


@contextmanager
def at_rest(model: PreTrainedModel) -> Iterator[None]:
    """The model frozen, in evaluation mode and in no other hands while the `with` lasts, then as it was.

    Raises: RuntimeError, see `exclusive`.
    """
    with exclusive(plain_model(model)):
        modes = [(module, module.training) for module in model.modules()]
        gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            model.eval().requires_grad_(False)
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter, flag in gradients:
                parameter.requires_grad_(flag)


def _inputs(decoder: nn.Module, batch: Batch) -> dict[str, Any]:
    """A batch as arguments of a decoder; layers that keep a state take no positions."""
    given = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "position_ids": batch.position_ids,
        "use_cache": False,
    }
    taken = inspect.signature(decoder.forward).parameters
    return given if "kwargs" in taken else {name: value for name, value in given.items() if name in taken}


def _own_hooks(decoder: nn.Module) -> list[Any]:
    """The hooks of a decoder and its layers, but for those of transformers, which only read."""
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    hooks = (
        hook for module in decoder.modules() for kind in kinds for hook in getattr(module, kind).values()
    )
    return [hook for hook in hooks if not getattr(hook, "__module__", "").startswith("transformers.")]


_proofs: "WeakKeyDictionary[PreTrainedModel, dict[tuple[Any, ...], str]]" = WeakKeyDictionary()


def _proven_run(model: PreTrainedModel, layer: int, form: str, replay: Replay) -> str:
    """The first way of `Replay.runs` that equals the model under hooks; proved once per layer and form."""
    # a hook may do something else the next time
    known = {} if _own_hooks(replay.sites.decoder) else _proofs.setdefault(model, {})
    key = (layer, form, replay.sites.paths, model.dtype, model.device)
    if key not in known:
        reasons = []
        for known[key] in ("tail", "decoder", "model"):
            replay.runs = known[key]
            try:
                if replay.runs == "tail":
                    replay._cut(layer)
                check_replay(model, layer, form, replay)
                break
            except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
                reasons.append(error)
        else:
            del known[key]
            raise ValueError(
                f"a {type(model).__name__} does not compute the same under hooks twice: {reasons[-1]}"
            ) from reasons[-1]
        if reasons:
            warnings.warn(_slower(model, replay.sites, reasons[0]), stacklevel=4)
    return known[key]


def _slower(model: PreTrainedModel, sites: Sites, reason: Exception) -> str:
    text = (
        f"the layers of a {type(model).__name__} after the steered one do not run alone ({reason}): each "
        "strength runs the whole model, which is right and takes longer."
    )
    if sites.paths.down_path:
        text += (
            f" If splitkit.steering.architectures.SITES[{model.config.model_type!r}] does not describe it, "
            "look for a norm after the down-projection (after_down_path), a learned embedding of positions "
            "(position_path), or another residual_path."
        )
    return text


@torch.no_grad()
def check_replay(model: PreTrainedModel, layer: int, form: str, replay: Replay) -> None:
    """L under h' = h + m dh (Eq. 5), as `replay` runs it, equals L of the whole model under hooks.

    Measured on made-up ids; a random dh as large as the layer's output is added to one row and taken from the
    other.

    Raises:
        ValueError: when the two losses differ by more than rounding does. Besides, all that running a part
            of a model can raise.
    """
    generator = torch.Generator().manual_seed(0)
    shapes = replay.form.shapes(replay.sites.down_width, replay.sites.width, rank=1)
    parameters = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    batch = _made_up(model).to(model.device)
    with at_rest(model):
        iv = Intervention(form, "random", layer, parameters, model_digest(model))
        recording = replay.record(batch)
        dh = iv.delta(recording.x)
        m = recording.activations["output"].float().norm() / dh.norm() * dh.new_tensor([1.0, -1.0])
        found = replay.losses(recording, dh, m)
        with iv.applied(model, m):
            expected = _losses_of(model, batch)
        base = _losses_of(model, batch)
    # float32 leaves room for another order of summation, a narrower type for its own rounding
    allowed = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
    worst = (found - expected).abs().max().item()
    if not worst <= allowed * (1 + (expected - base).abs().max().item()):
        raise ValueError(f"the loss differs by {worst:.2g} nats per token")


def _made_up(model: PreTrainedModel) -> Batch:
    ids = torch.randint(text_setting(model, "vocab_size"), (2, 8), generator=torch.Generator().manual_seed(0))
    if bos := bos_ids(model):
        ids[:, 0] = bos[0]
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    answer = mask.bool().clone()
    answer[:, :3] = False
    return Batch(torch.arange(2), ids, mask, answer)


def _losses_of(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Mean loss of each answer, (batch,), from the logits of the whole model."""
    logits = model(**_inputs(model, batch)).logits.to(batch.input_ids.device)
    each = functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), batch.input_ids[:, 1:], reduction="none"
    )
    answer = batch.answer_mask[:, 1:]
    return (each * answer).sum(1) / answer.sum(1)
