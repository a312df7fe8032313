"""The yes or no of a steered model, by the two words' likelihoods and by the text that it writes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.curves.log_odds import preference_log_odds
from splitkit.runs.world_answers import BATCH_SIZE, answers_at
from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.pairs import Pair, require_pairs
from splitkit.steering.prompts.templates import arguments, way_out
from splitkit.steering.replay import Replay, at_rest
from splitkit.steering.strengths import Strength, as_factors, as_grid
from splitkit.steering.tokenization import Encoded, batches, prompts
from splitkit.tasks import FAMILIES
from splitkit.world.scoring import yes_no

WORDS = ("Yes", "No")


def yes_no_accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: Sequence[Pair],
    m: Strength,
) -> pd.DataFrame:
    """PrefOdds = L_n - L_p (Eq. 7) of the words "Yes" and "No", and the first word of a greedy answer.

    L_p and L_n are the losses of the first word of a pair's positive and negative answer alone: what follows
    it differs between the two in length and wording. The comparison names a winner even where little
    probability is left to both words; `covered` says how much.

    Args:
        pairs: of each, one answer begins with yes and the other with no.
        m: the grid of strengths, each once; 0 is the base model.

    Returns:
        One row per (m, pair), in the order of the grid and of the pairs: m, pair, text; loss_positive and
        loss_negative of the first words (nats, summed over a word's tokens); log_odds, their difference
        (nats); covered = e^-Lp + e^-Ln, the probability of either word; likelier ("yes" or "no"), parsed
        ("yes", "no" or "neither"); correct_by_likelihood (log_odds > 0), correct_by_text (neither is
        wrong); agree, whether parsed is likelier.

    Raises:
        ValueError: for an empty or repeated grid, no pairs, a pair whose answers are not a yes and a no (with
            its row), another base model.
    """
    grid, model = as_grid(m), plain_model(model)
    likelihood = yes_no_likelihood(model, tokenizer, intervention, pairs, grid)
    questions, tokens = [pair.question for pair in pairs], FAMILIES["psychopathy"].tokens
    table = answers_at(model, tokenizer, intervention, questions, grid, tokens, BATCH_SIZE)
    table = table.rename(columns={"question": "pair"})
    names = ["loss_positive", "loss_negative", "log_odds", "covered", "likelier"]
    table[names] = likelihood[names]
    table["parsed"] = [yes_no(text) or "neither" for text in table["text"]]
    table["correct_by_likelihood"] = likelihood["correct_by_likelihood"]
    table["correct_by_text"] = table["parsed"] == np.tile(_positive_words(pairs), len(grid))
    table["agree"] = table["parsed"] == table["likelier"]
    return table


def yes_no_likelihood(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: Sequence[Pair],
    m: Strength,
) -> pd.DataFrame:
    """The columns of `yes_no_accuracy` that need no text: m, pair and those of losses and likelihood.

    A fraction of its cost: nothing is generated. The same errors.
    """
    grid, model = as_grid(m), plain_model(model)
    intervention.check_base(model)
    positive = _positive_words(pairs)
    yes, no = _word_losses(model, tokenizer, intervention, pairs, as_factors(grid)).unbind(1)
    is_yes = torch.tensor([word == "yes" for word in positive])
    table = pd.DataFrame({"m": grid.repeat(len(pairs)), "pair": np.tile(np.arange(len(pairs)), len(grid))})
    table["loss_positive"] = torch.where(is_yes, yes, no).flatten().numpy()
    table["loss_negative"] = torch.where(is_yes, no, yes).flatten().numpy()
    table["log_odds"] = preference_log_odds(*table[["loss_positive", "loss_negative"]].to_numpy().T)
    table["covered"] = np.exp(-table["loss_positive"]) + np.exp(-table["loss_negative"])
    table["likelier"] = np.where((yes < no).flatten().numpy(), "yes", "no")
    table["correct_by_likelihood"] = table["log_odds"] > 0
    return table


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """One row per m of `yes_no_accuracy`'s table: both accuracies, and where they part.

    Columns: m, pairs (their number); by_likelihood and by_text, the accuracies, neither and disagree, the
    shares of answers that are neither word or not the likelier word (all in percent); covered, the mean
    probability of either word.
    """
    shares = table.assign(
        neither=100.0 * (table["parsed"] == "neither"),
        disagree=100.0 * ~table["agree"],
        by_likelihood=100.0 * table["correct_by_likelihood"],
        by_text=100.0 * table["correct_by_text"],
    ).groupby("m", sort=False)
    means = shares[["by_likelihood", "by_text", "neither", "disagree", "covered"]].mean()
    means.insert(0, "pairs", shares.size())
    return means.reset_index()


def _positive_words(pairs: Sequence[Pair]) -> list[str]:
    """ "yes" or "no": the first word of each pair's positive answer, the negative one having the other."""
    words = []
    for row, pair in enumerate(require_pairs(pairs)):
        positive, negative = yes_no(pair.positive), yes_no(pair.negative)
        if positive is None or {positive, negative} != {"yes", "no"}:
            raise ValueError(
                f"row {row}: one answer must begin with yes and the other with no; they begin with "
                f"{pair.positive[:20]!r} and {pair.negative[:20]!r}."
            )
        words.append(positive)
    return words


def _word_losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: Sequence[Pair],
    grid: Tensor,
) -> Float64[Tensor, "m word pair"]:
    """-log P(word | question) of both `WORDS` after every question, in nats, at every m of the grid."""
    given = arguments(None, intervention)
    asked = prompts(tokenizer, [pair.question for pair in pairs], given)
    for row, prompt in enumerate(asked):
        if prompt.thought:
            hint = way_out(tokenizer, given, prompt.thought[1])
            raise ValueError(
                f"row {row}: the words would stand inside a thought that the template opens; {hint}."
            )
    # a base model goes on with a text, in which a blank begins the word
    words = WORDS if tokenizer.chat_template else [f" {word}" for word in WORDS]
    endings = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    sequences = [
        Encoded(row, (*prompt.ids, *ending), len(prompt.ids))
        for ending in endings
        for row, prompt in enumerate(asked)
    ]
    losses = torch.empty(len(grid), len(sequences), dtype=torch.float64)
    with at_rest(model), torch.no_grad():
        replay = Replay(model, intervention.layer, intervention.form, intervention.tokens)
        for batch in batches(tokenizer, sequences):
            recording = replay.record(batch)
            dh = intervention.delta(recording.x)  # (batch, token, hidden), the same at every m
            for number, factor in enumerate(grid.to(dh.device)):
                found = replay.losses(recording, dh, factor.expand(len(batch.index)))
                losses[number, batch.index] = found.double().cpu()
    losses *= torch.tensor([sequence.answer_length for sequence in sequences])  # a mean per token so far
    return losses.view(len(grid), len(WORDS), len(pairs))
