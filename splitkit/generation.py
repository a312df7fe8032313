"""Answers of a model to questions: batched, greedy, with or without an intervention."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.encoding import prompt_ids
from splitkit.interventions import Intervention, Strength, as_factors


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
) -> list[str]:
    """Greedy answers to ``questions``, in order, under m dh (Eq. 5) where an intervention is given.

    Args:
        questions: a list of them; a single one goes in a list too.
        m: one strength for all questions, or one per question; a number, sequence, array or tensor.
        max_new_tokens: an answer that has not ended by then is cut there.

    Raises:
        TypeError: when `questions` is one string.
        ValueError: no question, a strength that is not finite, or another number of strengths than of
            questions.
    """
    if isinstance(questions, str):
        raise TypeError("questions is one string; pass a list of questions, [question] for a single one.")
    if len(questions) == 0:
        raise ValueError("no question to answer: the list is empty")
    strengths = as_factors(m)
    if strengths.ndim and len(strengths) != len(questions):
        raise ValueError(
            f"{len(strengths)} strengths m for {len(questions)} questions; give one for all or one for each"
        )
    strengths = strengths.expand(len(questions))
    texts: list[str] = []
    for start in range(0, len(questions), batch_size):
        rows = slice(start, start + batch_size)
        prompts = [prompt_ids(tokenizer, question) for question in questions[rows]]
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), int(tokenizer.pad_token_id))  # type: ignore[arg-type]
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):  # on the left, so that all rows go on from the same column
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        applied = intervention.applied(model, strengths[rows]) if intervention is not None else nullcontext()
        with applied:
            out = model.generate(  # type: ignore[operator]
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                do_sample=False,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
            )
        texts += tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    return texts
