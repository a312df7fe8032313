"""Chat templates: their arguments, the day that some write, and the thoughts that some open."""

import re
import warnings
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from splitkit.steering.pairs import Question, messages

TemplateArguments = Mapping[str, Any]
"""Arguments of a chat template by name, as in `{"enable_thinking": False}`.

"strftime_now" is a day ("2026-11-27") that a template is told to be today's.
"""

NAME = "chat_template_kwargs"
"""What callers, and an intervention's details, call a template's arguments."""

_OURS = ("messages", "conversation", "chat_template", "add_generation_prompt", "continue_final_message")
_OTHERS = ("tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict")
_ANOTHER_DAY = "2001-09-03T04:05:06"
_CLOCK = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_THOUGHTS = {
    "<|START_THINKING|>": "<|END_THINKING|>",
    "[THINK]": "[/THINK]",
    "<|channel>thought": "<channel|>",
}
_TAG = re.compile(r"<([\w:]*(?:think|thought|reason)\w*)>")


def arguments(given: TemplateArguments | None, steering: Any = None) -> TemplateArguments:
    """The template's arguments that a call gives, {} being some, else those an intervention was trained with.

    ValueError for a sum of interventions that were trained with different ones.
    """
    if given is not None:
        return given
    terms = [] if steering is None else [term.details.get(NAME, {}) for _, term in steering.terms]
    if any(term != terms[0] for term in terms):
        raise ValueError(f"the terms were trained with different template arguments, {terms}: give {NAME}.")
    return terms[0] if terms else {}


def as_details(given: TemplateArguments | None) -> dict[str, Any]:
    """The entry of an intervention's details: none where no arguments are given."""
    return {NAME: dict(given)} if given else {}


def check_template(tokenizer: PreTrainedTokenizerBase, given: TemplateArguments) -> None:
    """Check a template's arguments, and that its prompts are the same tomorrow.

    Raises:
        TypeError: for arguments that are no dict of names.
        ValueError: for arguments without a template, one that the template does not read (with those that it
            may read), that this package sets itself, or a "strftime_now" that is no day.

    Warns:
        UserWarning: where the prompt has the day in it, or differs from call to call.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"{NAME} is a dict of the template's arguments, not {given!r}.")
    if not tokenizer.chat_template:
        if given:
            raise ValueError(f"{NAME} is given, and the tokenizer has no chat template to take it.")
        return
    source = tokenizer.get_chat_template()
    if own := sorted({*_OURS, *_OTHERS} & set(given)):
        raise ValueError(f"{NAME} has {', '.join(own)}, which no caller sets: leave it out.")
    unread = [name for name in given if not re.search(rf"\b{re.escape(name)}\b", source)]
    if unread:
        known = sorted(set(re.findall(r"(\w+)\s+is\s+(?:not\s+)?(?:un)?defined", source)))
        raise ValueError(
            f"the chat template does not read {', '.join(unread)}; "
            f"it may read {', '.join(known) or 'nothing'}."
        )
    text = prompt_text(tokenizer, "?", given)
    later = prompt_text(tokenizer, "?", {"strftime_now": _ANOTHER_DAY} | dict(given))
    if text != later or text != prompt_text(tokenizer, "?", given):
        today = f"{datetime.now():%Y-%m-%d}"
        warnings.warn(
            "the chat template writes the day or the time into the prompt: the same call gives other numbers "
            f'tomorrow. {NAME}={{"strftime_now": "{today}"}} keeps this day for good.',
            stacklevel=2,
        )


def prompt_text(tokenizer: PreTrainedTokenizerBase, question: Question, given: TemplateArguments) -> str:
    """The prompt as a text: in the chat template's form, or literally where there is none.

    Raises:
        ValueError: for a conversation without a chat template, one that the template refuses or of which it
            leaves out a message.
    """
    if tokenizer.chat_template:
        return _rendered(tokenizer, question, given)
    if not isinstance(question, str):
        raise ValueError(
            "the question is a conversation, and the tokenizer of a base model has no chat template to write "
            "it: give one text, or set tokenizer.chat_template."
        )
    return question


def _rendered(tokenizer: PreTrainedTokenizerBase, question: Question, given: TemplateArguments) -> str:
    turns, passed = messages(question), dict(given)
    if (day := passed.pop("strftime_now", None)) is not None:
        try:
            clock = datetime.fromisoformat(day)
        except (TypeError, ValueError) as error:
            raise ValueError(f'{NAME}["strftime_now"] is a day as "2026-11-27", not {day!r}.') from error
        # transformers takes no function among the arguments
        source = _CLOCK.sub(lambda call: repr(clock.strftime(call[2])), tokenizer.get_chat_template())
        passed["chat_template"] = source
    try:
        text = tokenizer.apply_chat_template(
            [turn._asdict() for turn in turns], tokenize=False, add_generation_prompt=True, **passed
        )
    except TemplateError as error:
        raise ValueError(f"the chat template refuses the question: {error}.") from error
    for number, turn in enumerate(turns):
        # what an assistant thought before is left out by many templates, and rightly
        if turn.role != "assistant" and turn.content.strip() not in text:
            raise ValueError(f"the chat template leaves out message {number}, the {turn.role}'s.")
    return str(text)


def open_thought(text: str, question: Question) -> tuple[str, str] | None:
    """The tags of a thought that a prompt opens after the question and leaves open: (opening, closing)."""
    asked = messages(question)[-1].content.strip()
    tail = text.rpartition(asked)[2] if asked else text
    tags = _THOUGHTS | {f"<{name}>": f"</{name}>" for name in _TAG.findall(tail)}
    return next((pair for pair in tags.items() if tail.rfind(pair[0]) > tail.rfind(pair[1])), None)


def way_out(tokenizer: PreTrainedTokenizerBase, given: TemplateArguments, closing: str) -> str:
    """How to have no thought left open: the argument of the template that does it, tried, or else by hand."""
    names = sorted(set(re.findall(r"\b\w*(?:think|reason)\w*\b", tokenizer.get_chat_template())))
    for name in names:
        switched = dict(given) | {name: False}
        if open_thought(_rendered(tokenizer, "?", switched), "?") is None:
            return f"{NAME}={switched!r} asks without it"
    return f"begin both answers with {closing!r}, or set a tokenizer.chat_template without it"
