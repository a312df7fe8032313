"""Greedy answers of a model to questions, in batches, with or without an intervention."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.interventions import Steering
from splitkit.steering.model_state.placement import dtype_name
from splitkit.steering.model_state.token_choice import check_names
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.pairs import Question, question_fault
from splitkit.steering.prompts.boundaries import check_open_end
from splitkit.steering.prompts.settings import stated_ids, text_setting
from splitkit.steering.prompts.templates import TemplateArguments, arguments, way_out
from splitkit.steering.strengths import Strength, as_factors_each, whole_number
from splitkit.steering.tokenization import Encoded, check_tokenizer, pad_batch, pad_id, prompts


@torch.inference_mode()
def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    *,
    intervention: Steering | None = None,
    m: Strength | Mapping[int, Strength] = 0.0,
    tokens: str | None = None,
    max_new_tokens: int = 80,
    batch_size: int = 64,
    progress: bool = False,
    chat_template_kwargs: TemplateArguments | None = None,
) -> list[str]:
    """Greedy answers to `questions`, in order, under m dh (Eq. 5) where an intervention is given.

    What else the model's `generation_config` asks for (a repetition penalty) applies.

    Args:
        questions: a list of texts or conversations (see `Pair`); a single one goes in a list too.
        m: one strength for all questions, or one per question; a number, sequence, array or tensor. For a
            sum of interventions also a dict of such, {term's number: m}.
        tokens: the steered tokens: "all" but BOS, those of the "answer" or of the "prompt", or the prompt's
            "last" one; for None those that the intervention was trained with.
        max_new_tokens: an answer that has not ended by then is cut there, or at the end of the context.
        batch_size: rows that run together; the answers are the same for any.
        progress: show a progress bar, which counts up to `max_new_tokens` for each batch.
        chat_template_kwargs: arguments of the chat template by name; those of the intervention's training for
            None.

    Returns:
        One text per question, without special tokens; "" where the model ends at once.

    Raises:
        TypeError: when `questions` is one string or message, or one of them is no text or conversation.
        ValueError: no question, a strength without an intervention or that is not finite, another number of
            strengths than of questions, a prompt as long as the model's context or longer (with its row),
            no token or row at a time, unknown tokens.
        FloatingPointError: when logits are not finite before an answer has ended, naming its row and m.

    Warns:
        UserWarning: for a prompt that opens a thought, in which the answer then begins, one that differs from
            day to day, or a base model's that ends in white space.
    """
    model = plain_model(model)
    if intervention is not None and not isinstance(intervention, Steering):
        raise TypeError(f"intervention is an Intervention, not a {type(intervention).__name__}.")
    if tokens is not None:
        check_names(tokens)
    if isinstance(questions, str):
        raise TypeError("questions is one string; pass a list of questions, [question] for a single one.")
    if len(questions) == 0:
        raise ValueError("no question to answer: the list is empty")
    for row, question in enumerate(questions):
        if fault := question_fault(question):
            kind = ValueError if "assistant" in fault else TypeError
            raise kind(f"question {row} is {question!r}: it {fault}.")
    max_new_tokens = whole_number("max_new_tokens", max_new_tokens, 1)
    batch_size = whole_number("batch_size", batch_size, 1)
    strengths = as_factors_each(m, 1 if intervention is None else len(intervention.terms))
    for factors in strengths:
        if factors.ndim and len(factors) != len(questions):
            raise ValueError(
                f"{len(factors)} strengths m for {len(questions)} questions; give one for all or one for each"
            )
        if intervention is None and factors.any():
            raise ValueError("a strength other than 0 needs an intervention to apply.")
    given = arguments(chat_template_kwargs, intervention)
    encoded, limit = _prompts(model, tokenizer, questions, given)
    texts = [""] * len(questions)
    parts = _batches([prompt.prompt_length for prompt in encoded], max_new_tokens, limit, batch_size)
    bar = tqdm(total=len(parts) * max_new_tokens, disable=not progress, desc="answers", unit="token")
    for number, rows in enumerate(parts, start=1):
        chosen = [encoded[row] for row in rows]
        # padded on the left, so that all rows go on from the same column
        batch = pad_batch(tokenizer, chosen, rows, side="left").to(model.device)
        of_rows = {term: factors[rows] if factors.ndim else factors for term, factors in enumerate(strengths)}
        steered: Any = nullcontext()
        if intervention is not None:
            steered = intervention.applied(model, of_rows, tokens=tokens)
        overflow = _Overflow(bar)
        with steered:
            out = model.generate(  # type: ignore[operator]
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                do_sample=False,
                num_beams=1,
                # where that is less, all rows of the batch are as long as its first
                max_new_tokens=min(max_new_tokens, limit - chosen[0].prompt_length),
                pad_token_id=pad_id(tokenizer),
                logits_processor=LogitsProcessorList([overflow]),
            )
        new_ids = out[:, batch.input_ids.shape[1] :]
        if bad := overflow.rows(new_ids, stated_ids(model, "eos_token_id")):
            row = bad[0]
            at = [float(factors[row] if factors.ndim else factors) for factors in of_rows.values()]
            raise FloatingPointError(
                f"row {rows[row]}: logits are not finite at m = {', '.join(f'{x:g}' for x in at)}: "
                f"activations overflow {dtype_name(model)} there. Smaller |m|, or bfloat16 or float32, keep "
                "them finite."
            )
        new = tokenizer.batch_decode(new_ids, skip_special_tokens=True)
        for row, text in zip(rows, new, strict=True):
            texts[row] = text
        # they may all have ended early
        bar.update(number * max_new_tokens - bar.n)
    bar.close()
    return texts


class _Overflow(LogitsProcessor):
    """Notes the rows and steps at which logits are NaN or infinite, and moves a bar; changes nothing."""

    def __init__(self, bar: Any) -> None:
        self.steps: list[Tensor] = []
        self.bar = bar

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        # one number a row: the largest is NaN or infinite where any logit is, but for a few at -infinity
        self.steps.append(~torch.isfinite(scores.amax(-1)))
        self.bar.update()
        return scores

    def rows(self, new: Tensor, ends: Sequence[int]) -> list[int]:
        """Rows in which that was before their end; `new` (batch, token) are their answers."""
        ended = torch.isin(new, torch.tensor(ends, dtype=new.dtype, device=new.device)).cumsum(1)
        going_on = torch.cat([torch.ones_like(ended[:, :1], dtype=torch.bool), ended[:, :-1] == 0], dim=1)
        noted = torch.stack(self.steps, dim=1)
        return (noted & going_on[:, : noted.shape[1]]).any(1).nonzero().flatten().tolist()


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


def _prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    given: TemplateArguments,
) -> tuple[list[Encoded], int]:
    """Every question's prompt, and the number of tokens that the model takes."""
    limit = text_setting(model, "max_position_embeddings", sys.maxsize)
    check_tokenizer(model, tokenizer)
    asked = prompts(tokenizer, questions, given)
    if thoughts := [prompt.thought for prompt in asked if prompt.thought]:
        warnings.warn(
            f"the chat template opens a thought ({thoughts[0][0]}) and leaves it open: the answers begin "
            f"inside it; {way_out(tokenizer, given, thoughts[0][1])}.",
            stacklevel=3,
        )
    found = []
    for row, prompt in enumerate(asked):
        ids = prompt.ids
        check_open_end(tokenizer, row, prompt.text)
        found.append(Encoded(row, ids, len(ids)))
        if len(ids) >= limit:
            raise ValueError(
                f"row {row}: the prompt is {len(ids)} tokens, the model's context {limit}: no room for an "
                "answer. Shorten the question."
            )
    return found, limit
