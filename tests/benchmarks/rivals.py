"""Rivals: the same losses and steps by other means: plain forwards, hooks, two packages, single passes.

Written from the definitions, with nothing of splitkit but the token ids of its pairs, so that what agrees
here agrees with an independent reading.
"""

import copy
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from splitkit.steering.tokenization import Encoded

LAYER = 3
"""The layer that the embedded models are steered at, of 0 to 5."""
TOKENS = 4096
"""Tokens of a batch, padding included, at most; what splitkit takes when nothing else is said."""
MASKED = -100


@dataclass(frozen=True)
class Padded:
    """Sequences padded on the right: ids, mask and labels (batch, token), -100 where no answer is."""

    rows: Tensor
    ids: Tensor
    mask: Tensor
    labels: Tensor


def padded(sequences: Sequence[Encoded], rows: Sequence[int], device: torch.device | str = "cpu") -> Padded:
    """The sequences of some rows as one batch."""
    width = max(len(sequences[row].ids) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, MASKED)
    for place, row in enumerate(rows):
        one = sequences[row]
        values = torch.tensor(one.ids)
        ids[place, : len(values)], mask[place, : len(values)] = values, 1
        labels[place, one.prompt_length : len(values)] = values[one.prompt_length :]
    return Padded(torch.tensor(list(rows)), ids.to(device), mask.to(device), labels.to(device))


def batched(
    sequences: Sequence[Encoded], device: torch.device | str = "cpu", tokens: int = TOKENS
) -> list[Padded]:
    """All sequences in batches of similar length of at most `tokens` tokens."""
    found: list[Padded] = []
    chosen: list[int] = []
    for row in sorted(range(len(sequences)), key=lambda row: len(sequences[row].ids)):
        if chosen and (len(chosen) + 1) * len(sequences[row].ids) > tokens:
            found.append(padded(sequences, chosen, device))
            chosen = []
        chosen.append(row)
    return [*found, padded(sequences, chosen, device)]


def full_losses(model: PreTrainedModel, batch: Padded) -> Tensor:
    """Mean loss of each row's answer, (batch,), from the logits of every position: what a causal LM gives."""
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
    targets = batch.labels[:, 1:]
    each = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=MASKED, reduction="none"
    )
    return each.view_as(targets).sum(1) / (targets != MASKED).sum(1)


def answer_losses(model: PreTrainedModel, batch: Padded) -> Tensor:
    """The same (batch,), with the head at the answers' positions only: the cheapest plain forward."""
    hidden = model.model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    targets = batch.labels[:, 1:]
    kept = targets != MASKED
    logits = model.lm_head(hidden[:, :-1][kept]).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    each = functional.cross_entropy(logits, targets[kept], reduction="none")
    return each.new_zeros(len(kept)).index_add(0, kept.nonzero()[:, 0], each) / kept.sum(1)


class Steering(Protocol):
    """A model with a change that can be switched on at a strength."""

    model: PreTrainedModel
    parameters: dict[str, Tensor]

    def at(self, m: Tensor | float, ids: Tensor | None) -> AbstractContextManager[Any]:
        """Steer by m, one number or (batch, 1, 1), at every token of `ids` but BOS, or at all for None."""
        ...


def _not_bos(model: PreTrainedModel, ids: Tensor) -> Tensor:
    bos = model.config.bos_token_id
    return torch.ones_like(ids) if bos is None else (ids != bos).long()


class Hooks:
    """What one writes in ten lines: a forward hook on the whole model."""

    def __init__(
        self,
        model: PreTrainedModel,
        layer: int,
        form: str,
        parameters: dict[str, Tensor],
        dropout: float = 0.0,
    ) -> None:
        self.model, self.form, self.parameters, self.dropout = model, form, parameters, dropout
        block = model.model.layers[layer]
        self.site: nn.Module = block if form == "vector" else block.mlp.down_proj

    @contextmanager
    def at(self, m: Tensor | float, ids: Tensor | None) -> Iterator[None]:
        steered = None if ids is None else _not_bos(self.model, ids).unsqueeze(-1)

        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            own = self.parameters
            if self.form == "vector":
                dh = own["vector"].expand_as(output)
            elif self.form == "lora":
                dh = functional.linear(functional.linear(args[0], own["A"]), own["B"])
            else:
                dh = functional.linear(args[0], own["weight"], own["bias"])
            dh = functional.dropout(dh, self.dropout) if self.dropout else dh
            # after the prompt, generation brings one token at a time
            where = steered if steered is not None and steered.shape[1] == output.shape[1] else 1
            return output + m * where * dh

        handle = self.site.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


class Library:
    """The package steering-vectors: its SteeringVector and its own context manager, one m for the batch."""

    def __init__(self, model: PreTrainedModel, layer: int, form: str, parameters: dict[str, Tensor]) -> None:
        assert form == "vector"
        self.model, self.parameters = model, parameters
        self.vector = _steering_vectors().SteeringVector({layer: parameters["vector"]})

    def at(self, m: Tensor | float, ids: Tensor | None) -> AbstractContextManager[Any]:
        where = None if ids is None else _not_bos(self.model, ids)
        return self.vector.apply(self.model, multiplier=m, min_token_index=None, token_indices=where)


def _steering_vectors() -> ModuleType:
    """The package's module of vectors alone: its other half, which trains, imports scikit-learn."""
    name = "steering_vectors"
    if name not in sys.modules:
        found = importlib.util.find_spec(name)
        assert found is not None, "pip install --no-deps steering-vectors, or leave this benchmark out"
        package = ModuleType(name)
        package.__path__ = list(found.submodule_search_locations or [])
        sys.modules[name] = package
    return importlib.import_module(f"{name}.steering_vector")


class Peft:
    """peft's LoRA on a copy of the model; m goes into the adapter's scaling."""

    def __init__(self, model: PreTrainedModel, layer: int, form: str, parameters: dict[str, Tensor]) -> None:
        assert form == "lora"
        self.model = copy.deepcopy(model).requires_grad_(False)
        rank, place = len(parameters["A"]), f"model.layers.{layer}.mlp.down_proj"
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=re.escape(place))
        inject_adapter_in_model(config, self.model, adapter_name="default")
        self.adapter: Any = self.model.get_submodule(place)
        self.parameters = {
            "A": self.adapter.lora_A["default"].weight,
            "B": self.adapter.lora_B["default"].weight,
        }
        with torch.no_grad():
            for own, given in zip(self.parameters.values(), (parameters["A"], parameters["B"]), strict=True):
                own.copy_(given)

    @contextmanager
    def at(self, m: Tensor | float, ids: Tensor | None) -> Iterator[None]:
        where = 1 if ids is None else _not_bos(self.model, ids).unsqueeze(-1)
        self.adapter.scaling["default"] = m * where
        yield


@torch.no_grad()
def losses_at(
    steering: Steering, batches: Sequence[Padded], strengths: Sequence[float], count: int, losses: Any
) -> Tensor:
    """Losses (m, row) under each strength in turn: one forward over all tokens for each."""
    found = torch.empty(len(strengths), count)
    for place, m in enumerate(strengths):
        for batch in batches:
            with steering.at(m, batch.ids):
                found[place, batch.rows] = losses(steering.model, batch).float().cpu()
    return found


@torch.no_grad()
def official_losses(
    steering: Steering, sequences: Sequence[Encoded], rows: Sequence[int], m: float
) -> Tensor:
    """Losses (row,) as the official code gets them: 8 forward passes of batch 1 an answer, 16 a pair."""
    found = []
    for row in rows:
        batch = padded(sequences, [row])
        for _ in range(8):
            with steering.at(m, batch.ids):
                loss = full_losses(steering.model, batch)
        found.append(loss)
    return torch.cat(found)
