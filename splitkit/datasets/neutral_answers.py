"""Concept-free answers to instructions: the model's own, unsteered, each computed once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm.auto import tqdm

from splitkit.storage import paths
from splitkit.storage.files import check_writable, write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from splitkit.steering.prompts.templates import TemplateArguments

NEW_TOKENS = 128
"""Most tokens of an answer; AxBench's positive answers are cut there too."""


def unsteered_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Sequence[str],
    *,
    max_new_tokens: int = NEW_TOKENS,
    batch_size: int = 16,
    progress: bool = True,
    chat_template_kwargs: TemplateArguments | None = None,
) -> pd.DataFrame:
    """The model's greedy, unsteered answers to `inputs`; each is computed once and kept.

    Answers are kept in `partners` below SPLITKIT_CACHE, by the model's digest and dtype, the prompt's tokens
    and the settings of the generation. Every batch is kept at once: a killed run goes on there.

    `chat_template_kwargs` are arguments of the chat template by name.

    Returns:
        One row per input, in order: input, answer ("" where the model ends at once), origin (the
        model and its settings).

    Raises:
        ValueError: while an intervention is applied to the model; and what `answers` raises.
        PermissionError: when the cache cannot be written; nothing was computed.
    """
    from splitkit.steering.generation import answers
    from splitkit.steering.prompts.templates import as_details
    from splitkit.steering.strengths import is_steered
    from splitkit.steering.tokenization import prompts

    if any(map(is_steered, model.modules())):
        raise ValueError("an intervention is applied to the model: its answers would not be free of it.")
    # in the key only where given
    how = _settings(model, tokenizer, max_new_tokens) | as_details(chat_template_kwargs)
    folder = _folder(how)
    check_writable(folder)
    texts = list(dict.fromkeys(inputs))
    asked = prompts(tokenizer, texts, chat_template_kwargs)
    ids = {text: list(prompt.ids) for text, prompt in zip(texts, asked, strict=True)}
    found = {text: _recall(folder, text, ids[text]) for text in ids}
    missing = sorted((text for text in ids if found[text] is None), key=lambda text: len(ids[text]))
    with tqdm(
        total=len(ids), initial=len(ids) - len(missing), desc="neutral answers", disable=not progress
    ) as bar:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            made = answers(
                model,
                tokenizer,
                batch,
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                chat_template_kwargs=chat_template_kwargs,
            )
            for text, answer in zip(batch, made, strict=True):
                kept = {"how": how, "input": text, "prompt": ids[text], "answer": answer}
                write_whole(_file(folder, text), json.dumps(kept, sort_keys=True) + "\n")
                found[text] = answer
            bar.update(len(batch))
    return _table(inputs, {text: str(answer) for text, answer in found.items()}, how)


def cached_answers(inputs: Sequence[str]) -> pd.DataFrame:
    """The table of `unsteered_answers` from the cache alone, if it holds one model's answers to all `inputs`.

    LookupError for answers of no model, or of several, which it names.
    """
    complete = []
    for folder in sorted((paths.CACHE / "partners").glob("[0-9a-f]*")):
        kept = [entry for text in inputs if (entry := _read(folder, text))]
        if len(kept) == len(inputs):
            found = {entry["input"]: entry["answer"] for entry in kept}
            complete.append(_table(inputs, found, kept[0]["how"]))
    if not complete:
        raise LookupError("the cache holds no model's answers to all of these inputs")
    if len(complete) > 1:
        made = "; ".join(table["origin"].iloc[0] for table in complete)
        raise LookupError(f"the cache holds answers of {len(complete)} models to these inputs: {made}")
    return complete[0]


def _settings(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> dict[str, Any]:
    """Everything but the prompt that decides an answer."""
    from splitkit.steering.model_state.digest import model_digest

    generation = getattr(model, "generation_config", None)
    asked = {} if generation is None else generation.to_diff_dict()
    asked.pop("transformers_version", None)
    return {
        "architecture": str(model.config.model_type),
        "model": model_digest(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "max_new_tokens": max_new_tokens,
        "generation": json.loads(json.dumps(asked, default=str)),
        "template": _hash(tokenizer.chat_template),
    }


def _table(inputs: Sequence[str], found: dict[str, str], how: dict[str, Any]) -> pd.DataFrame:
    origin = (
        f"unsteered answer of the {how['architecture']} {how['model'][:12]} in {how['dtype']}, greedy, "
        f"at most {how['max_new_tokens']} tokens"
    )
    return pd.DataFrame({"input": inputs, "answer": [found[text] for text in inputs], "origin": origin})


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _folder(how: dict[str, Any]) -> Path:
    return paths.CACHE / "partners" / _hash(how)[:16]


def _file(folder: Path, text: str) -> Path:
    return folder / f"{_hash(text)}.json"


def _read(folder: Path, text: str) -> dict[str, Any] | None:
    """The entry of an input in the folder of one model and its settings; None where it is damaged."""
    try:
        kept = json.loads(_file(folder, text).read_text(encoding="utf-8"))
        fits = kept["input"] == text and _folder(kept["how"]) == folder and isinstance(kept["answer"], str)
        return kept if fits else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _recall(folder: Path, text: str, prompt: list[int]) -> str | None:
    """The kept answer to an input, if it was asked with the same tokens."""
    kept = _read(folder, text)
    return kept["answer"] if kept and kept.get("prompt") == prompt else None
