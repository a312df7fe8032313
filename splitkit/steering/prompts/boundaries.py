"""Boundaries: a prompt and its answer, tokenised apart, are to be the tokens of the text they make."""

import warnings
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a prompt; without a template the tokenizer's own BOS comes first, and no EOS last."""
    if tokenizer.chat_template:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    ids = list(tokenizer(text)["input_ids"])
    # some tokenizers close every text; a prompt is not at its end yet
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids


def check_boundaries(
    tokenizer: PreTrainedTokenizerBase, rows: Iterable[tuple[int, str, str, Sequence[int]]]
) -> None:
    """Warn of the first row whose prompt and answer as one text have other tokens than apart, or run on.

    A template's answer is a turn of its own; there only one that begins with white space is looked at.

    Args:
        rows: number of the pair, the prompt's text, the answer, and the ids of both, without the end's.

    Warns:
        UserWarning: with the tokens of both readings, and where the white space belongs.
    """
    for number, prompt, answer, ids in rows:
        if tokenizer.chat_template and not answer[:1].isspace():
            continue
        if (joint := text_ids(tokenizer, prompt + answer)) != list(ids):
            apart, together = (tokenizer.convert_ids_to_tokens(list(found)) for found in (ids, joint))
            same = next(i for i in range(len(ids) + 1) if apart[: i + 1] != together[: i + 1])
            start = max(0, same - 2)
            advice = (
                "begin the answer without white space."
                if tokenizer.chat_template
                else "end the question without white space and begin the answer with it, as in "
                'Pair("...\\nA:", " yes", " no").'
            )
            warnings.warn(
                f"row {number}: between question and answer the model reads {apart[start : same + 3]}, where "
                f"the text {prompt[-8:] + answer[:8]!r} is {together[start : same + 3]}: {advice}",
                stacklevel=2,
            )
            return
        if _runs_on(prompt, answer) and not tokenizer.chat_template:
            warnings.warn(
                f"row {number}: question and answer run on without white space, "
                f"{prompt[-8:] + answer[:8]!r}; "
                'a base model expects an answer that begins with it, as in Pair("...\\nA:", " yes", " no").',
                stacklevel=2,
            )
            return


def _runs_on(prompt: str, answer: str) -> bool:
    """True where a word follows a word, or the mark that ends one, in a script that puts spaces between."""
    word = answer[:1].isdigit() or answer[:1].lower() != answer[:1].upper()
    return word and (prompt[-1:] in tuple(".,:;?!)") or prompt[-1:].isalnum())


def check_open_end(tokenizer: PreTrainedTokenizerBase, number: int, prompt: str) -> None:
    """Warn where a base model's prompt ends in white space that its next word's token would hold."""
    if tokenizer.chat_template or not prompt[-1:].isspace():
        return
    ids = text_ids(tokenizer, prompt)
    if text_ids(tokenizer, prompt + "a")[: len(ids)] != ids:
        warnings.warn(
            f"question {number} ends with white space, {prompt[-8:]!r}, which the model expects to be part "
            "of the next word: end it before the white space.",
            stacklevel=2,
        )
