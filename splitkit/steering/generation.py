"""Answers of a model to questions: batched, greedy or sampled, with or without an intervention."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from splitkit.steering.interventions import Intervention
from splitkit.steering.strengths import Strength, as_factors
from splitkit.steering.tokenization import pad_id, prompt_ids


@torch.inference_mode()
def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    *,
    intervention: Intervention | None = None,
    m: Strength = 0.0,
    max_new_tokens: int = 80,
    batch_size: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    num_beams: int = 1,
) -> list[str]:
    """Answers to ``questions``, in order, under m dh (Eq. 5) where an intervention is given.

    Greedy unless a temperature is given. A sampled answer depends on the seed and on its row's number, not on
    the batch it is in. What else the model's ``generation_config`` asks for (a repetition penalty) applies.

    Args:
        questions: a list of them; a single one goes in a list too.
        m: one strength for all questions, or one per question; a number, sequence, array or tensor.
        max_new_tokens: an answer that has not ended by then is cut there, or at the end of the context.
        batch_size: rows that run together; the answers are the same for any.
        temperature: 0 for greedy answers; above 0, tokens are drawn from softmax(logits / temperature).
        top_p: draw from the likeliest tokens that together have this probability.
        seed: of the draws.
        num_beams: above 1, beam search, which takes one m for all questions and draws nothing.

    Returns:
        One text per question, without special tokens; "" where the model ends at once.

    Raises:
        TypeError: when `questions` is one string, or one of them is none.
        ValueError: no question, a strength without an intervention or that is not finite, another number of
            strengths than of questions, a prompt as long as the model's context or longer (with its row), a
            setting out of range, beams with a strength per question or with a temperature.
    """
    if isinstance(questions, str):
        raise TypeError("questions is one string; pass a list of questions, [question] for a single one.")
    if len(questions) == 0:
        raise ValueError("no question to answer: the list is empty")
    for row, question in enumerate(questions):
        if not isinstance(question, str):
            raise TypeError(f"question {row} is {question!r}, not a text.")
    _check_settings(max_new_tokens, batch_size, temperature, top_p, num_beams)
    strengths = as_factors(m)
    if strengths.ndim and len(strengths) != len(questions):
        raise ValueError(
            f"{len(strengths)} strengths m for {len(questions)} questions; give one for all or one for each"
        )
    if intervention is None and strengths.any():
        raise ValueError("a strength other than 0 needs an intervention to apply.")
    if strengths.ndim and num_beams > 1:
        raise ValueError(
            f"num_beams is {num_beams} and m has one value per question: beam search moves rows "
            "about, so that each would get another's m. Give one m for all questions, or num_beams=1."
        )
    prompts, limit = _prompts(model, tokenizer, questions)
    texts, pad = [""] * len(questions), pad_id(tokenizer)
    for rows in _batches([len(prompt) for prompt in prompts], max_new_tokens, limit, batch_size):
        chosen = [prompts[row] for row in rows]
        ids, mask = _padded_left(chosen, pad)
        processors = LogitsProcessorList()
        if temperature > 0:
            processors += [TemperatureLogitsWarper(temperature), TopPLogitsWarper(top_p), Gumbel(seed, rows)]
        of_rows = strengths[rows] if strengths.ndim else strengths
        applied = intervention.applied(model, of_rows) if intervention is not None else nullcontext()
        with applied:
            out = model.generate(  # type: ignore[operator]
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                do_sample=False,  # the processors have the draws in them: their argmax is a sample
                num_beams=num_beams,
                # where that is less, all rows of the batch are as long as its first
                max_new_tokens=min(max_new_tokens, limit - len(chosen[0])),
                pad_token_id=pad,
                logits_processor=processors,
            )
        new = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        for row, text in zip(rows, new, strict=True):
            texts[row] = text
    return texts


def _batches(lengths: Sequence[int], new: int, limit: int, batch_size: int) -> list[list[int]]:
    """Rows that run together, by the lengths of their prompts: at most `batch_size`, in order.

    A prompt that leaves no room for `new` tokens is with others of its length alone: a learned embedding of
    positions has none for a row that goes on beyond the context while another has not ended.
    """
    groups: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        groups.setdefault(length if length + new > limit else 0, []).append(row)
    return [
        rows[start : start + batch_size]
        for rows in groups.values()
        for start in range(0, len(rows), batch_size)
    ]


def _check_settings(
    max_new_tokens: int, batch_size: int, temperature: float, top_p: float, num_beams: int
) -> None:
    for name, value in (
        ("max_new_tokens", max_new_tokens),
        ("batch_size", batch_size),
        ("num_beams", num_beams),
    ):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, not {value}.")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be finite, 0 (greedy) or more, not {temperature}.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}.")
    if temperature == 0 and top_p < 1:
        raise ValueError(f"top_p is {top_p}, but greedy answers draw nothing: give a temperature above 0.")
    if temperature > 0 and num_beams > 1:
        raise ValueError(
            "num_beams above 1 is a search and draws nothing: give temperature=0 or num_beams=1."
        )


def _prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]
) -> tuple[list[list[int]], int]:
    """Every question's prompt, and how many tokens the model takes."""
    limit = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    prompts = [prompt_ids(tokenizer, question) for question in questions]
    for row, prompt in enumerate(prompts):
        if len(prompt) >= limit:
            raise ValueError(
                f"row {row}: the prompt is {len(prompt)} tokens, the model's context {limit}: no room for an "
                "answer. Shorten the question."
            )
    return prompts, limit


def _padded_left(
    prompts: Sequence[Sequence[int]], pad: int
) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"]]:
    """Token ids and attention mask, padded on the left, so that all rows go on from the same column."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    return ids, mask


class Gumbel(LogitsProcessor):
    """argmax(logits + g), g = -log E with E ~ Exp(1), is a draw from softmax(logits) (Gumbel's trick).

    Each row has a generator of its own, seeded by the seed and the row's number, so that its draws do not
    depend on its neighbours.
    """

    def __init__(self, seed: int, rows: Sequence[int]) -> None:
        states = [int(np.random.SeedSequence((seed, row)).generate_state(1)[0]) for row in rows]
        self.generators = [torch.Generator().manual_seed(state) for state in states]

    def __call__(
        self, input_ids: Int[Tensor, "batch token"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        waits = [
            torch.empty(scores.shape[1], dtype=torch.float64).exponential_(generator=generator)
            for generator in self.generators
        ]
        return scores - torch.stack(waits).log().to(scores)
