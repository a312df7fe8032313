"""transformers' Trainer with the SPLIT objective, for an ordinary peft model."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, Trainer

from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.objectives import IGNORED, OBJECTIVES, split_loss
from splitkit.steering.pairs import Pair
from splitkit.steering.prompts.templates import TemplateArguments
from splitkit.steering.strengths import real_number
from splitkit.steering.tokenization import Encoded, encode_pairs, pad_batch

Sides = tuple[Encoded, Encoded]
"""A pair's question with its positive answer, and with its negative one."""


class SplitTrainer(Trainer):
    """E[lambda_p L_p + lambda_n L_n + gamma ReLU(theta - (L_n - L_p))] (Eq. 18-20), m drawn for each answer.

    The model is peft's, with LoRA on any modules; m multiplies its scale. In the mirrored direction answers
    change places and m its sign. `train(..., form="lora", objective="split")` minimises the same loss at one
    module; this steers BOS too, which peft cannot leave out. What is trained is saved, merged and served as
    any adapter. Evaluation is at m = 1, without the mirrored direction.

    Args:
        model: a `peft.PeftModel` with LoRA layers.
        args: transformers' `TrainingArguments`; a step is a batch of pairs. Settings nearest to `train`'s:
            `lr_scheduler_type="linear"`, `max_grad_norm=1.0`, `weight_decay=0.0`, no warm-up.
        train_dataset, eval_dataset: lists of `Pair`.
        processing_class: the tokenizer.
        factors: the strengths that m is drawn from, evenly; (1.0,) is ordinary fine-tuning, a range makes an
            adapter that can be dialled.
        mirrored: whether the mirrored direction is part of every step, as it is of most of ours.
        chat_template_kwargs: arguments of the chat template by name.
        weights: lambda_p, lambda_n, gamma, theta; `OBJECTIVES["split"].defaults` otherwise.

    Raises:
        ValueError: for a model without LoRA, no pairs, an unknown weight, a factor that is no number,
            gradient checkpointing at other factors than 1, or several GPUs in one process.
        ImportError: by transformers, without the package accelerate: pip install 'splitkit[trainer]'.
    """

    def __init__(
        self,
        model: nn.Module,
        args: Any,
        train_dataset: Sequence[Pair],
        processing_class: PreTrainedTokenizerBase,
        eval_dataset: Sequence[Pair] | None = None,
        *,
        factors: Sequence[float] = (1.0,),
        mirrored: bool = False,
        chat_template_kwargs: TemplateArguments | None = None,
        weights: dict[str, float] | None = None,
        **options: Any,
    ) -> None:
        defaults = OBJECTIVES["split"].defaults
        if unknown := sorted(set(weights or {}) - set(defaults)):
            raise ValueError(f"split has no weight {unknown[0]!r}; it has {', '.join(defaults)}.")
        self.weights = {**defaults, **(weights or {})}
        self.factors = torch.tensor([float(real_number("a factor", factor)) for factor in factors])
        if not len(self.factors):
            raise ValueError("factors are one strength or more, as (1.0,).")
        self.mirrored, self.tokenizer = mirrored, processing_class
        self.lora: list[Any] = [module for module in model.modules() if hasattr(module, "lora_A")]
        if not self.lora:
            raise ValueError(
                "this model has no LoRA: make it with peft.get_peft_model(model, LoraConfig(...))."
            )

        if args.gradient_checkpointing and (mirrored or set(self.factors.tolist()) != {1.0}):
            raise ValueError(
                "gradient checkpointing runs layers once more when m is gone: turn it off, or train at "
                "factors=(1.0,) without the mirrored direction."
            )
        if args.n_gpu > 1:
            raise ValueError(
                f"{args.n_gpu} GPUs in one process would each get half of some pairs: show it one "
                "(CUDA_VISIBLE_DEVICES=0), or start a process for each (torchrun)."
            )

        def encoded(pairs: Sequence[Pair] | None) -> list[Sides] | None:
            if pairs is None:
                return None
            sides = encode_pairs(plain_model(model), processing_class, pairs, chat_template_kwargs)
            return list(zip(*sides, strict=True))

        super().__init__(
            model=model,
            args=args,
            train_dataset=encoded(train_dataset),
            eval_dataset=encoded(eval_dataset),
            processing_class=processing_class,
            data_collator=self._batch,
            **options,
        )
        # the mean over pairs is taken here, so that steps of several batches have to divide it
        self.model_accepts_loss_kwargs = False

    def _batch(self, rows: Sequence[Sides]) -> dict[str, Tensor]:
        """(2 pairs, token): first all positive answers, then all negative ones."""
        sequences = [sides[side] for side in (0, 1) for sides in rows]
        batch = pad_batch(self.tokenizer, sequences, range(len(sequences)))
        labels = batch.input_ids.masked_fill(~batch.answer_mask, IGNORED)
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": labels}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The mean over pairs and directions, in nats per token."""
        training, labels, mask = model.training, inputs["labels"], inputs["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        losses = []
        for sign in (1.0, -1.0) if self.mirrored and training else (1.0,):
            drawn = torch.randint(len(self.factors), (len(labels),)) if training else None
            m = sign * (self.factors[drawn] if drawn is not None else torch.ones(len(labels)))
            with self._at(m.to(labels.device)):
                outputs = model(input_ids=inputs["input_ids"], attention_mask=mask, position_ids=positions)
            sides = zip(outputs.logits.chunk(2), labels.chunk(2), strict=True)
            # the mirror swaps the answers
            (first, first_labels), (other, other_labels) = sides if sign > 0 else reversed(list(sides))
            losses.append(split_loss(first, other, first_labels, other_labels, **self.weights))
        loss = torch.stack(losses).mean()
        return (loss, outputs) if return_outputs else loss

    @contextmanager
    def _at(self, m: Tensor) -> Iterator[None]:
        """The adapters' scales are multiplied by m, (rows,), while the `with` lasts."""
        before = [(module, dict(module.scaling)) for module in self.lora]
        try:
            for module, scaling in before:
                module.scaling.update({name: m.view(-1, 1, 1) * scale for name, scale in scaling.items()})
            yield
        finally:
            for module, scaling in before:
                module.scaling.update(scaling)
