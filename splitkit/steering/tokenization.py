"""Tokenization: pairs of texts become batches of token ids in which the answer's tokens are known.

A model with a chat template is asked in its form. A base model has none: there the question is the beginning
of the text and the answer its continuation, literally: a separator ("\\nA:") belongs to the question, the
space after it to the answer.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.pairs import Pair, Question, require_pairs
from splitkit.steering.prompts.boundaries import check_boundaries, text_ids
from splitkit.steering.prompts.settings import note_bos, stated_ids, text_setting
from splitkit.steering.prompts.templates import (
    TemplateArguments,
    check_template,
    open_thought,
    prompt_text,
    way_out,
)

FULL = 0.9
"""Least share of the rows of a model's embedding that its own tokenizer's vocabulary takes, filling aside."""

TOKEN_BUDGET = 4096
"""Most tokens of a forward pass, padding included, unless a caller gives another number."""


@dataclass(frozen=True)
class Encoded:
    """One question with one answer: token ids, of which the first `prompt_length` are the prompt."""

    pair: int
    ids: tuple[int, ...]
    prompt_length: int

    @property
    def answer_length(self) -> int:
        """Tokens of the answer, the end-of-answer token counted."""
        return len(self.ids) - self.prompt_length


@dataclass(frozen=True)
class Batch:
    """Encoded sequences, padded to one length; `index` says where each was in the list they come from."""

    index: Int[Tensor, " batch"]
    input_ids: Int[Tensor, "batch token"]
    attention_mask: Int[Tensor, "batch token"]
    answer_mask: Bool[Tensor, "batch token"]

    @property
    def position_ids(self) -> Int[Tensor, "batch token"]:
        """Each row's own positions from 0, so that the padding side changes nothing."""
        return (self.attention_mask.cumsum(1) - 1).clamp(min=0)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        return Batch(*(part.to(device) for part in vars(self).values()))


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: text, token ids, and the tags of a thought that it leaves open, if any."""

    text: str
    ids: tuple[int, ...]
    thought: tuple[str, str] | None


def prompts(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    chat_template_kwargs: TemplateArguments | None = None,
) -> list[Prompt]:
    """The prompts of questions: each in the chat template's form, or literally where there is none.

    BOS is there when the template or the tokenizer puts it there.

    Raises:
        ValueError: with the row, for a question that has no token or that the template does not take; see
            also `templates.check_template`, which warns of a template with the day in it.
    """
    given = chat_template_kwargs or {}
    check_template(tokenizer, given)
    found = []
    for row, question in enumerate(questions):
        try:
            found.append(_prompt(tokenizer, question, given))
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
    return found


def prompt_ids(tokenizer: PreTrainedTokenizerBase, question: Question) -> list[int]:
    """Token ids of the prompt of one question, whose template is not checked; see `prompts`."""
    return list(_prompt(tokenizer, question, {}).ids)


def _prompt(tokenizer: PreTrainedTokenizerBase, question: Question, given: TemplateArguments) -> Prompt:
    text = prompt_text(tokenizer, question, given)
    ids = text_ids(tokenizer, text)
    if not ids:
        raise ValueError(f"the question {question!r} has no token, and there is no chat template around it.")
    return Prompt(text, tuple(ids), open_thought(text, question) if tokenizer.chat_template else None)


def answer_ids(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """Token ids of an answer and the end-of-answer token (EOS), tokenised on their own.

    Prompt and answer never share a token in this way, so the answer's tokens do not depend on the question.
    The end is the tokenizer's `eos_token` even where the chat template ends a turn with another token, as
    Gemma's does with <end_of_turn>: what is trained and scored is that the text ends.

    Raises:
        ValueError: when the tokenizer has no EOS token to end an answer with.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no eos_token: an answer's end cannot be scored.")
    return [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills a batch: PAD's, or EOS's where there is no PAD; the attention mask hides either.

    Raises:
        ValueError: when the tokenizer has neither.
    """
    ids = [i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None]
    if not ids:
        raise ValueError("the tokenizer has neither a pad_token nor an eos_token: nothing can fill a batch.")
    return int(ids[0])


def check_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer can be this model's, by its size and its special tokens.

    BOS, EOS and PAD are compared with the ids in the model's config, where both sides have them (a pad token
    that is only EOS in another role is not). PAD, which the attention mask hides, is no fault by itself.

    Raises:
        TypeError: for anything but a tokenizer.
        ValueError: when the vocabulary is larger than the model's embedding matrix, or when two or more
            special tokens can be compared and none agrees.

    Warns:
        UserWarning: when BOS or EOS differs, or the vocabulary is less than `FULL` of the embedding matrix.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(
            f"a tokenizer is wanted, as load_model gives it, not a {type(tokenizer).__name__}: model first, "
            "then tokenizer."
        )
    rows = len(model.get_input_embeddings().get_parameter("weight"))
    # a vocabulary can have holes, so that its largest id is beyond its size
    ids = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values()))
    if ids > rows:
        raise ValueError(
            f"the tokenizer does not belong to this model: its vocabulary needs {ids} ids, the model's "
            f"embedding matrix has {rows} rows. Use the tokenizer that load_model returns with the model."
        )
    if ids < FULL * rows:
        warnings.warn(
            f"the tokenizer may belong to another model: its vocabulary has {ids} ids, the model's embedding "
            f"matrix {rows} rows. Use the tokenizer that load_model returns with the model.",
            stacklevel=2,
        )
    compared, differ = 0, []
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        found, stated = getattr(tokenizer, name), stated_ids(model, name)
        if found is None or not stated or (name == "pad_token_id" and found == tokenizer.eos_token_id):
            continue
        compared += 1
        if found not in stated:
            differ.append(f"{name} is {found}, the model's config says {' or '.join(map(str, stated))}")
    if differ:
        text = (
            f"the tokenizer may belong to another model: its {'; its '.join(differ)}. Use the one that "
            "load_model returns with the model, or correct the config: BOS, by either, is never steered."
        )
        if compared > 1 and len(differ) == compared:
            raise ValueError(text)
        if not all(fault.startswith("pad") for fault in differ):
            warnings.warn(text, stacklevel=2)
    note_bos(model, tokenizer.bos_token_id)


def encode_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    chat_template_kwargs: TemplateArguments | None = None,
) -> tuple[list[Encoded], list[Encoded]]:
    """Every pair's question with its positive answer, and with its negative answer.

    Raises:
        ValueError: for no pairs or an empty text, when the model's maximum length would cut an answer or the
            template opens a thought that the answers do not close, with the number of the row, and for a
            tokenizer whose vocabulary is larger than the model's.
        TypeError: for anything that is no list of pairs.

    Warns:
        UserWarning: see `templates.check_template` and `boundaries.check_boundaries`.
    """
    check_tokenizer(model, tokenizer)
    limit = text_setting(model, "max_position_embeddings")
    rows = require_pairs(pairs)
    asked = prompts(tokenizer, [pair.question for pair in rows], chat_template_kwargs)
    sides: dict[str, list[Encoded]] = {"positive": [], "negative": []}
    for number, (pair, prompt) in enumerate(zip(rows, asked, strict=True)):
        for name, kept in sides.items():
            answer = getattr(pair, name)
            if prompt.thought and prompt.thought[1] not in answer:
                raise ValueError(
                    f"row {number}: the chat template opens a thought ({prompt.thought[0]}) and leaves it "
                    f"open: the {name} answer would be scored inside it; "
                    f"{way_out(tokenizer, chat_template_kwargs or {}, prompt.thought[1])}."
                )
            ids = (*prompt.ids, *answer_ids(tokenizer, answer))
            if limit is not None and len(ids) > limit:
                raise ValueError(
                    f"row {number}: question and {name} answer are {len(ids)} tokens, the model takes "
                    f"{limit}: the answer would be cut. Shorten it or leave the row out."
                )
            kept.append(Encoded(number, ids, len(prompt.ids)))
    check_boundaries(
        tokenizer,
        (
            (one.pair, asked[one.pair].text, getattr(rows[one.pair], name), one.ids[:-1])
            for name, kept in sides.items()
            for one in kept
        ),
    )
    return sides["positive"], sides["negative"]


def pad_batch(
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[Encoded],
    index: Sequence[int],
    side: str | None = None,
) -> Batch:
    """One batch of `sequences`; `index` numbers its rows. `side` of the padding: the tokenizer's for None."""
    width = max(len(sequence.ids) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id(tokenizer))  # (batch, token)
    attention, answer = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        length = len(sequence.ids)
        start = width - length if (side or tokenizer.padding_side) == "left" else 0
        ids[row, start : start + length] = torch.tensor(sequence.ids)
        attention[row, start : start + length] = 1
        answer[row, start + sequence.prompt_length : start + length] = True
    return Batch(torch.tensor(list(index)), ids, attention, answer)


def batches(
    tokenizer: PreTrainedTokenizerBase, sequences: Sequence[Encoded], token_budget: int = TOKEN_BUDGET
) -> Iterator[Batch]:
    """Batches of sequences of similar length: one row, or at most `token_budget` tokens with the padding."""
    for rows in buckets([len(sequence.ids) for sequence in sequences], token_budget):
        yield pad_batch(tokenizer, [sequences[row] for row in rows], rows)


def buckets(lengths: Sequence[int], token_budget: int = TOKEN_BUDGET) -> Iterator[list[int]]:
    """Rows of similar length together: their number times the longest is at most `token_budget`, or one."""
    chosen: list[int] = []
    # sorted, so that the newest row is the longest
    for row in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if chosen and (len(chosen) + 1) * lengths[row] > token_budget:
            yield chosen
            chosen = []
        chosen.append(row)
    if chosen:
        yield chosen
