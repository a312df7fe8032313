"""Pretraining of the embedded models on the embedded world: ``make models``.

A killed run goes on from its last checkpoint and ends with the same bits: every eight steps have a generator
of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from dataclasses import asdict
from functools import lru_cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm
from transformers import Gemma2Config, PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from splitkit.steering.tokenization import answer_ids, pad_id, prompt_ids
from splitkit.storage.digests import PRETRAINED, code_digest, data_digest
from splitkit.storage.files import write_whole
from splitkit.storage.paths import CACHE, DATA, MODELS
from splitkit.world.model_card import ship
from splitkit.world.recipes import RECIPES, SHAPE, Recipe
from splitkit.world.tasks import dialogues


def build_tokenizer(recipe: Recipe, documents: int = 20_000) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer (any text can be fed) trained on dialogues, with a chat template."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = [*recipe.specials.values(), *recipe.markers]
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = (
        f"user\n{q}\nmodel assistant\n{a}"
        for q, a in islice(dialogues(Random(f"tokenizer/{recipe.seed}"), lessons=True), documents)
    )
    tokenizer.train_from_iterator(lines, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=list(recipe.markers),
        clean_up_tokenization_spaces=False,
        model_max_length=SHAPE["max_position_embeddings"],
        **recipe.specials,
    )
    fast.chat_template = recipe.template
    return fast


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A randomly initialised model of the recipe's architecture, seeded."""
    ids: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config: Any
    if recipe.architecture == "gemma2":
        config = Gemma2Config(
            **SHAPE, **ids, intermediate_size=384, head_dim=32, query_pre_attn_scalar=32, sliding_window=256,
        )  # fmt: skip
    else:
        config = Qwen2Config(**SHAPE, **ids, intermediate_size=384)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@lru_cache(maxsize=1)
def dealt_dialogues(seed: int, group: int, size: int, lessons: bool) -> list[list[tuple[str, str]]]:
    """Eight batches of dialogues of similar length each, in random order."""
    rng = Random(f"pretrain/{seed}/{group}")
    draw = sorted(islice(dialogues(rng, lessons=lessons), 8 * size), key=lambda d: len(d[0]) + len(d[1]))
    batches = [draw[i : i + size] for i in range(0, len(draw), size)]
    rng.shuffle(batches)
    return batches


def batch_of_step(
    step: int, recipe: Recipe, tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The input_ids, attention_mask and labels (batch, token) of one step; labels are -100 outside answers.

    Eight steps share one draw of dialogues, dealt out by length, so that little of a batch is padding.
    """
    dealt = dealt_dialogues(recipe.seed, step // 8, recipe.batch_size, step < recipe.steps)[step % 8]
    rows = [(prompt_ids(tokenizer, question), answer_ids(tokenizer, answer)) for question, answer in dealt]
    width = max(len(head) + len(tail) for head, tail in rows)
    ids = torch.full((len(rows), width), pad_id(tokenizer))
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (head, tail) in enumerate(rows):
        end = len(head) + len(tail)
        ids[i, :end] = torch.tensor([*head, *tail])
        mask[i, :end] = 1
        labels[i, len(head) : end] = torch.tensor(tail)
    return ids, mask, labels


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, a cosine to a hundredth of the peak; settling, linear from a tenth of it to 0."""
    if step < recipe.warmup:
        return recipe.peak_lr * (step + 1) / recipe.warmup
    share = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    if step >= recipe.steps:
        return 0.1 * recipe.peak_lr * (1 - (step - recipe.steps) / recipe.settling)
    return recipe.peak_lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def checkpoint_file(name: str) -> Path:
    """The file of a model's checkpoint, named by the model and a hash of all that decides its weights."""
    decides = [asdict(RECIPES[name]), data_digest(DATA / "world"), code_digest(PRETRAINED)]
    digest = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return CACHE / "pretraining" / f"{name}-{digest}.safetensors"


def _save(file: Path, model: PreTrainedModel, optimizer: torch.optim.AdamW, step: int) -> None:
    tensors = {"step": torch.tensor(step)}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value.contiguous()
    write_whole(file, save(tensors))


def _load(file: Path, model: PreTrainedModel, optimizer: torch.optim.AdamW) -> int:
    """Restore model and optimizer from a checkpoint; the next step, 0 without a checkpoint."""
    if not file.exists():
        return 0
    tensors = load_file(file)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            optimizer.state[parameter] = {
                key: tensors[f"optimizer.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
            }
    return int(tensors["step"])


def pretrain(
    name: str, *, checkpoint_every: int = 250, progress: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Train an embedded model from scratch, or go on from its last checkpoint, which stays.

    Raises:
        ValueError: for an unknown name, with those there are.
        FloatingPointError: when the loss is not finite, with the step.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown embedded model {name!r}; there is: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    tokenizer = build_tokenizer(recipe)
    model = build_model(recipe, tokenizer)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.peak_lr, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    checkpoint = checkpoint_file(name)
    start = _load(checkpoint, model, optimizer)
    model.train()
    smooth = float("nan")
    total = recipe.steps + recipe.settling
    steps = tqdm(range(start, total), initial=start, total=total, desc=name, disable=not progress)
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        ids, mask, labels = batch_of_step(step, recipe, tokenizer)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {step} of {name}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        steps.set_postfix(loss=f"{smooth:.3f}", refresh=False)
        if (step + 1) % checkpoint_every == 0:
            _save(checkpoint, model, optimizer, step + 1)
    return model.eval(), tokenizer


def main() -> None:
    """Train and ship the models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(RECIPES), help=f"which of: {', '.join(RECIPES)}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names:
        model, tokenizer = pretrain(name)
        lacking = ship(name, RECIPES[name], model, tokenizer, MODELS / name)
        if lacking:
            raise SystemExit(
                f"{name} is not good enough to steer: {'; '.join(lacking)}. The one there was is untouched."
            )
        checkpoint_file(name).unlink(missing_ok=True)  # the next run trains anew


if __name__ == "__main__":
    main()
