"""The models, pairs and scored answers that cells are made of, for the world's tasks and the paper's own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from splitkit.runs.profiles import Profile
from splitkit.steering.pairs import PAPER, Pair
from splitkit.tasks import task_family

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from splitkit.steering.interventions import Intervention
    from splitkit.steering.trainer import SharedRows

_held: dict[tuple[str, ...], Any] = {}


def load(profile: Profile, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model of the profile in its dtype and on its device, and its tokenizer; a shipped one as it is.

    This process holds the last one for the next cell. A shipped model that was trained anew meanwhile is read
    again.
    """
    from splitkit.steering.formats.shipped import MODELS
    from splitkit.steering.model_files import named_model_digest
    from splitkit.steering.models import load_model

    shipped = name in MODELS
    given: dict[str, Any] = {} if shipped else {"dtype": profile.dtype, "device": profile.device}
    here = named_model_digest(name) if shipped else os.environ.get("SPLITKIT_MODELS", "")
    wanted = (name, here, *given.values())
    if wanted not in _held:
        # before the next one is loaded: two of them may not fit
        _held.clear()
        shared_rows().clear()
        _held[wanted] = load_model(name, **given)
    return _held[wanted]


def pairs(
    profile: Profile,
    task: str,
    split: str,
    model: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[Pair]:
    """A task's pairs, the paper's own in its sizes; AxBench's with this model's unsteered answers.

    The paper's AxBench concepts have 64 pairs to train on and 8 to test, and none besides: there
    "validation" is the training instructions, on which a strength is chosen, or those that a profile leaves
    over where it trains on fewer; test questions stay unseen. A base model, whose tokenizer has no template,
    goes on with a text: see `as_text`.
    """
    from splitkit.tasks import load_pairs

    if not task.startswith(PAPER):
        return load_pairs(task, split=split)
    from splitkit.datasets.tasks import load_dataset_pairs

    given: dict[str, Any] = {}
    if task_family(task) == "axbench":
        if split == "validation":
            left = pairs(profile, task, "train", model, tokenizer)[profile.size("train", task) :]
            return left or pairs(profile, task, "train", model, tokenizer)
        given = {"validation": 0, "model": model, "tokenizer": tokenizer}
    with warnings.catch_warnings():
        # which rows cannot be used is told once, by `preflight.check`
        warnings.simplefilter("ignore", UserWarning)
        found = load_dataset_pairs(task, split, max_new_tokens=profile.new_tokens, progress=False, **given)[0]
    return list(map(as_text, found)) if tokenizer is not None and not tokenizer.chat_template else found


def as_text(pair: Pair) -> Pair:
    """A pair for a base model: the question, a line "Answer:", and the answers after a blank."""
    return Pair(f"{pair.question}\nAnswer:", f" {pair.positive}", f" {pair.negative}")


@cache
def shared_rows() -> SharedRows:
    """The activations recorded last of a task's training pairs, shared by this process's cells."""
    from splitkit.steering.trainer import SharedRows

    return SharedRows()


def measure(
    profile: Profile,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention | None,
    task: str,
    split: str,
    m: Sequence[float],
    n: int,
    name: str,
) -> pd.DataFrame:
    """Scored answers to a split's first `n` questions at every m (see `measure_strengths`).

    `name` is the model's in the profile.
    """
    if not task.startswith(PAPER):
        from splitkit.runs.world_answers import measure_strengths

        return measure_strengths(model, tokenizer, intervention, task, split, m, n)
    from splitkit.runs import judged_answers

    asked = pairs(profile, task, split, model, tokenizer)[:n]
    if not profile.judge:
        from splitkit.runs import text_measures

        return text_measures.measure(profile, model, tokenizer, intervention, task, asked, m, split, name)
    return judged_answers.measure(model, tokenizer, intervention, task, asked, m, profile.new_tokens)
