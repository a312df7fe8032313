"""A strength that reads well: the most preference among those at which free-running answers stay readable."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention, Steering
from splitkit.steering.pairs import Pair
from splitkit.steering.strengths import Strength, as_grid, whole_number
from splitkit.steering.sweeps import UNIT_PAIRS, matching_strength, sweep

RELATIVE: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6)
"""Strengths that are tried where none are named, in matching strengths."""
MORE_REPEATED = 0.10
"""How much larger the share of repeated 3-grams may be than in the unsteered answers."""
MORE_NATS = 1.0
"""The nats per token by which the unsteered model may lose more on the steered answers than on its own."""


@dataclass(frozen=True, repr=False)
class ReadableStrength:
    """The chosen strength, why, and the evidence.

    m: what `applied` takes; m_relative: the same in matching strengths. reason: in words. table: one row per
    strength, 0 first: m, m_relative, preference (mean PrefOdds of the pairs, nats), utility (mean UtilOdds),
    repeated_3, own_loss, empty (see `readable_strength`), readable. texts: one row per strength and question:
    m, question, text.
    """

    m: float
    m_relative: float
    reason: str
    table: pd.DataFrame
    texts: pd.DataFrame

    def __repr__(self) -> str:
        shown = self.texts[self.texts["m"].isin([0.0, self.m])]
        lines = [f"  m = {row.m:.4g}: {' '.join(row.text.split())}" for row in shown.itertuples()]
        return "\n".join([self.reason, self.table.round(3).to_string(index=False), *lines])


def readable_strength(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Steering,
    held_out: Sequence[Pair],
    *,
    m: Strength | None = None,
    questions: int = 8,
    max_new_tokens: int = 48,
    more_repeated: float = MORE_REPEATED,
    more_nats: float = MORE_NATS,
    reduction: str = "mean",
    progress: bool = False,
) -> ReadableStrength:
    """m* = argmax over readable m of mean PrefOdds(m) (Eq. 7): readable by text that the model writes freely.

    Losses of given answers, which `operating_point` reads, stay low where free text already loops. Here the
    first questions of the pairs are answered at every strength. A strength is readable where, beside the
    unsteered answers, the share of words' 3-grams that came before in an answer is at most `more_repeated`
    larger, the unsteered model's loss on the answers at most `more_nats` larger (nats per token), and no more
    answers are empty; and where every smaller strength of its sign is readable too.

    Args:
        held_out: pairs that the intervention was not trained on.
        intervention: one, or a sum of several, which has no matching strength: its m have to be named.
        m: the strengths to try; for None those of `RELATIVE`, times the matching strength of the pairs.
        questions: how many of the pairs' questions are answered.
        reduction: of the losses, see `sweep`.

    Returns:
        m = 0 where no strength is readable, or none raises preference; the reason says so.

    Raises:
        TypeError: when `intervention` is none, or `m` has a strength for each term.
        ValueError: for no pairs, no strength but 0, a sum without strengths, or a bar below 0; and what
            `sweep` and `answers` raise.

    Example:
        >>> import splitkit as sk
        >>> model, tokenizer = sk.load_model("tiny-qwen2")
        >>> pairs = sk.load_pairs("axbench/ocean")
        >>> iv = sk.train(model, tokenizer, pairs[:8], "vector", "diffmean", layer=3)
        >>> best = sk.readable_strength(model, tokenizer, iv, pairs[8:10], m=[1.0, 2.0], max_new_tokens=8)
        >>> [column for column in best.table if column not in ("m", "m_relative")]
        ['preference', 'utility', 'repeated_3', 'own_loss', 'empty', 'readable']
    """
    if not isinstance(intervention, Steering):
        raise TypeError(f"an Intervention is wanted, not a {type(intervention).__name__}.")
    if not len(held_out):
        raise ValueError("no held-out pairs to measure on: the list is empty")
    if not (more_repeated >= 0 and more_nats >= 0):
        raise ValueError(
            f"more_repeated and more_nats are 0 or more, not {more_repeated!r} and {more_nats!r}."
        )
    asked = list(held_out)[: whole_number("questions", questions, 1)]
    whole_number("max_new_tokens", max_new_tokens, 1)
    tried = None if m is None else [float(one) for one in as_grid(m) if one]
    unit = float("nan")
    if isinstance(intervention, Intervention):
        unit = matching_strength(model, tokenizer, intervention, list(held_out)[:UNIT_PAIRS])
    elif tried is None:
        raise ValueError("a sum has no matching strength of its own: name the strengths to try as m=[...].")
    tried = [unit * r for r in RELATIVE] if tried is None else tried
    if not tried:
        raise ValueError("m = 0 is the unsteered model: name a strength to compare with it")
    grid = [0.0, *sorted(tried, key=abs)]
    swept = sweep(model, tokenizer, intervention, held_out, grid, reduction=reduction, progress=progress)
    texts = _texts(model, tokenizer, intervention, asked, grid, max_new_tokens, progress)
    table = swept.groupby("m", sort=False)[["preference", "utility"]].mean().reset_index()
    table.insert(1, "m_relative", table["m"] / unit)
    own = (
        texts.assign(empty=texts["own_loss"].isna()).groupby("m")[["repeated_3", "own_loss", "empty"]].mean()
    )
    table = table.join(own, on="m")
    table["readable"] = _readable(table, more_repeated, more_nats)
    return _chosen(table, texts[["m", "question", "text"]], more_repeated, more_nats)


def distinct(text: str, n: int) -> float:
    """The share of different ones among a text's n-grams of words; NaN where it has none."""
    words = re.findall(r"[\w']+", text.lower())
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else float("nan")


def repeated(text: str) -> float:
    """The share of a text's 3-grams of words that came before in it; NaN where it has none."""
    return 1.0 - distinct(text, 3)


def _texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Steering,
    asked: Sequence[Pair],
    grid: Sequence[float],
    max_new_tokens: int,
    progress: bool,
) -> pd.DataFrame:
    """Every answer, m by m: m, question (its place), text, repeated_3, own_loss (NaN where it is empty)."""
    strengths = np.repeat(grid, len(asked))
    found = answers(
        model,
        tokenizer,
        [pair.question for pair in asked] * len(grid),
        intervention=intervention,
        m=strengths,
        max_new_tokens=max_new_tokens,
        progress=progress,
    )
    table = pd.DataFrame(
        {"m": strengths, "question": np.tile(np.arange(len(asked)), len(grid)), "text": found}
    )
    table["repeated_3"] = table["text"].map(repeated)
    table["own_loss"] = float("nan")
    said = table["text"].str.strip() != ""
    pairs = []
    for place, text in table.loc[said, ["question", "text"]].itertuples(index=False, name=None):
        # a base model's answer begins with the space after the question
        own, pair = text.strip() if tokenizer.chat_template else text.rstrip(), asked[place]
        # the other answer is not looked at, but has to be another
        pairs.append(Pair(pair.question, own, pair.positive if own == pair.negative else pair.negative))
    if pairs:
        losses = sweep(model, tokenizer, intervention, pairs, [0.0]).sort_values("pair")["loss_positive"]
        table.loc[said, "own_loss"] = losses.to_numpy()
    return table


def _readable(table: pd.DataFrame, more_repeated: float, more_nats: float) -> pd.Series:
    """Of each row, whether its answers and those of every smaller strength of its sign can be read."""
    unsteered = table.iloc[0]
    # answers too short to repeat anything repeat nothing
    repeats = table["repeated_3"].fillna(0.0) <= np.nan_to_num(unsteered["repeated_3"]) + more_repeated
    fluent = table["own_loss"] <= unsteered["own_loss"] + more_nats
    kept = repeats & fluent & (table["empty"] <= unsteered["empty"])
    return kept.groupby(np.sign(table["m"])).cummin()


def _chosen(
    table: pd.DataFrame, texts: pd.DataFrame, more_repeated: float, more_nats: float
) -> ReadableStrength:
    unsteered, steered = table.iloc[0], table.iloc[1:]
    kept = steered[steered["readable"]]
    if kept.empty:
        reason = "At none of the strengths are the answers readable: try smaller ones."
        return ReadableStrength(0.0, 0.0, reason, table, texts)
    best = kept.loc[kept["preference"].idxmax()]
    gain = best["preference"] - unsteered["preference"]
    if gain <= 0:
        reason = f"None of the {len(kept)} readable strengths of {len(steered)} raises preference."
        return ReadableStrength(0.0, 0.0, reason, table, texts)
    unit = "" if np.isnan(best["m_relative"]) else f" ({best['m_relative']:.2g} matching strengths)"
    repeats = f"{best['repeated_3']:.0%} (unsteered {unsteered['repeated_3']:.0%}"
    reason = (
        f"m = {best['m']:.4g}{unit} raises mean preference by {gain:.2f} nats, the most of the {len(kept)} "
        f"of {len(steered)} strengths whose answers are readable: repeated 3-grams {repeats}, at "
        f"most {more_repeated:.0%} more), the unsteered model's loss {best['own_loss']:.2f} nats per token "
        f"(on its own {unsteered['own_loss']:.2f}, at most {more_nats:g} more)."
    )
    if best["m"] == kept["m"].iloc[-1] and len(kept) == len(steered):
        reason += " It is the edge of the grid: a wider one may find more."
    return ReadableStrength(float(best["m"]), float(best["m_relative"]), reason, table, texts)
