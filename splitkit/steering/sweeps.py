"""Sweeps: losses, preference and utility of every pair over a grid of strengths, and the grid's unit."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.curves.log_odds import preference_log_odds, utility_log_odds
from splitkit.steering.architectures import resolve_sites
from splitkit.steering.forms import get_form
from splitkit.steering.interventions import Intervention, Steering
from splitkit.steering.model_state.placement import dtype_name
from splitkit.steering.model_state.token_choice import check_names, chosen_tokens
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.pairs import Pair
from splitkit.steering.prompts.settings import bos_ids, steered_tokens
from splitkit.steering.prompts.templates import TemplateArguments, arguments
from splitkit.steering.replay import Replay, at_rest, leaving
from splitkit.steering.shared_prefix import SIDES, push, record_fork
from splitkit.steering.strengths import Strength, as_factors, as_grid, whole_number
from splitkit.steering.tokenization import Encoded, batches, buckets, encode_pairs, pad_batch
from splitkit.steering.trainer import SharedRows, stacked

REDUCTIONS = ("mean", "sum")

UNIT_PAIRS = 64
"""Number of training pairs that a cell's unit is measured on; its medians are over thousands of tokens."""


def sweep(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Steering,
    pairs: Sequence[Pair],
    m: Strength,
    *,
    tokens: str | None = None,
    reduction: str = "mean",
    token_budget: int | None = None,
    progress: bool = False,
    chat_template_kwargs: TemplateArguments | None = None,
) -> pd.DataFrame:
    """L_p, L_n, PrefOdds = L_n - L_p (Eq. 7), UtilOdds (Eq. 8) and the push of every pair at every m.

    The push says how far the intervention moves the stream, in one unit for all forms: the median over the
    pair's steered tokens, of both answers, of |h' - h| / |h|, with h the residual stream that leaves the
    steered layer (the highest one of a sum) and h' the same under steering.

    The layers up to the steered one run once per pair; each m costs only the later layers, where the two
    answers share their prompt, and the head at the answers' tokens. A sum of interventions that act at
    several places runs the whole model at each m.

    Args:
        model, tokenizer: the intervention's base model and its tokenizer.
        intervention: the change to apply, or a sum of several, which has one m for all.
        pairs: questions with two answers.
        m: the grid of strengths, each once; 0 is the base model.
        tokens: the steered tokens, as in `train`; for None those that the intervention was trained with.
        reduction: "mean" for losses in nats per token of the answer, "sum" for nats (Eq. 28).
        token_budget: tokens that a forward pass may hold, or one pair; as many as memory
            allows for None (see `memory.tokens_that_fit`). Results do not depend on it but for rounding.
        progress: show a progress bar.
        chat_template_kwargs: arguments of the chat template by name; those of the intervention's training for
            None.

    Returns:
        One row per (m, pair), in the order of the grid and of the pairs: m, pair, loss_positive,
        loss_negative, preference, utility (NaN where Eq. 8 is undefined), push.

    Raises:
        TypeError: when `intervention` is none, or a strength is no number.
        ValueError: for an empty or repeated grid, no pairs, an answer that would be cut, another base model.
        FloatingPointError: when a loss is not finite, naming m.
    """
    if not isinstance(intervention, Steering):
        raise TypeError(
            f"an Intervention is wanted, not a {type(intervention).__name__}; "
            "the unsteered model is any one at m=[0]."
        )
    model = plain_model(model)
    if isinstance(m, Mapping):
        raise TypeError("a sweep has one m for all terms; weights tell them apart, as in 2 * a + b.")
    names = token_names(intervention, tokens)
    strengths = as_grid(m)
    grid = as_factors(strengths)
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; there are {', '.join(REDUCTIONS)}.")
    if token_budget is not None:
        token_budget = whole_number("token_budget", token_budget, 1)
    intervention.check_base(model)
    given = arguments(chat_template_kwargs, intervention)
    positive, negative = encode_pairs(model, tokenizer, pairs, given)
    losses = torch.empty(len(grid), len(pairs), SIDES, dtype=torch.float64)
    pushes = torch.empty(len(grid), len(pairs), dtype=torch.float64)
    with (
        at_rest(model),
        torch.no_grad(),
        tqdm(total=losses.numel(), disable=not progress, desc="sweep") as bar,
    ):
        for part, rows, found, moved in _measured(
            model, tokenizer, intervention, names, positive, negative, grid, token_budget
        ):
            if not (known := torch.isfinite(found).flatten(1).all(1).cpu()).all():
                bad = strengths[part][~known.numpy()].tolist()
                raise FloatingPointError(
                    f"losses are not finite at m = {bad}: activations overflow {dtype_name(model)} "
                    "there. Smaller |m|, or bfloat16 or float32, keep them finite."
                )
            losses[part, rows], pushes[part, rows] = found.double().cpu(), moved.double().cpu()
            bar.update(found.numel())
    if reduction == "sum":
        losses *= torch.tensor(
            [[p.answer_length, n.answer_length] for p, n in zip(positive, negative, strict=True)]
        )
    loss_positive, loss_negative = losses.permute(2, 0, 1).reshape(SIDES, -1).numpy()
    return pd.DataFrame(
        {
            "m": strengths.repeat(len(pairs)),
            "pair": np.tile(np.arange(len(pairs)), len(grid)),
            "loss_positive": loss_positive,
            "loss_negative": loss_negative,
            "preference": preference_log_odds(loss_positive, loss_negative),
            "utility": utility_log_odds(loss_positive, loss_negative),
            "push": pushes.flatten().numpy(),
        }
    )


def token_names(intervention: Steering, tokens: str | None) -> list[str]:
    """The tokens that each term acts on: `tokens`, or its own for None. Raises: ValueError, see `TOKENS`."""
    if tokens is not None:
        check_names(tokens)
    return [term.tokens if tokens is None else tokens for _, term in intervention.terms]


_Found = Iterator[
    tuple[slice, list[int], Float[Tensor, "strength pair side"], Float[Tensor, "strength pair"]]
]


def _measured(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Steering,
    names: list[str],
    positive: Sequence[Encoded],
    negative: Sequence[Encoded],
    grid: Tensor,
    token_budget: int | None,
) -> _Found:
    """Losses, part by part: strengths of the grid, pairs, L of their answers, and the push."""
    # the lowest one's, where there are several
    by_layer = sorted((term for _, term in intervention.terms), key=lambda term: term.layer)
    replay = Replay(model, by_layer[0].layer, by_layer[0].form, names[0])
    highest = resolve_sites(model, by_layer[-1].layer).layer
    budget = replay.budget if token_budget is None else token_budget
    lengths = torch.tensor([[len(p.ids), len(n.ids)] for p, n in zip(positive, negative, strict=True)])
    sites = [(term.layer, get_form(term.form).site) for _, term in intervention.terms]
    places = set(zip(sites, names, strict=True))
    for rows in buckets(lengths.sum(1).tolist(), budget):
        of_rows = [positive[row] for row in rows], [negative[row] for row in rows]
        if len(places) > 1:
            # what a term above changes depends on those below it, and so on m
            both = [sequence for pair in zip(*of_rows, strict=True) for sequence in pair]
            batch = pad_batch(tokenizer, both, range(len(both))).to(replay.device)
            masks = [chosen_tokens(batch.answer_mask, name) for name in names]
            # a mask leaves BOS and padding to the caller
            steered = torch.stack(masks).any(0) & steered_tokens(batch.input_ids, bos_ids(model))
            steered &= batch.attention_mask.bool()
            with leaving(highest) as unsteered:
                replay.whole_losses(batch)
            h = unsteered[-1].to(replay.device)
            for number, m in enumerate(grid):
                with intervention.attached(model, [m] * len(masks), masks), leaving(highest) as seen:
                    found = replay.whole_losses(batch)
                moved = push([seen[-1].to(replay.device)], h, steered)
                yield slice(number, number + 1), rows, found.view(1, -1, SIDES), moved
            continue
        fork = record_fork(replay, tokenizer, *of_rows)
        whole, h = fork.whole, fork.whole.activations["output"]
        steered = replay.steered_tokens(whole.batch) & whole.batch.attention_mask.bool()
        dh, together = fork.deltas(intervention), max(1, budget // fork.tokens)
        change, ones = intervention.delta(whole.x), h.new_ones(len(h), dtype=torch.float32)
        for start in range(0, len(grid), together):
            part = slice(start, start + together)
            strengths = grid[part].to(replay.device)
            with leaving(replay.sites.layer) as seen:
                found = fork.losses(replay, dh, strengths)
            # where the layers run again, the stream is seen in them
            streams = seen[-1].to(replay.device).split(len(h)) if seen else ()
            moved = push(streams or (replay.steered(whole, change, m * ones) for m in strengths), h, steered)
            yield part, rows, found, moved


def matching_strength(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: Sequence[Pair],
    *,
    tokens: str | None = None,
    shared: SharedRows | None = None,
    progress: bool = False,
    chat_template_kwargs: TemplateArguments | None = None,
) -> float:
    """m = median |h| / median |dh|: at this strength m dh is as large as the activation h it is added to.

    The unit of every relative grid, for all forms and models. Medians are over all steered tokens of all
    pairs, norms over `hidden`. h is the residual stream (after the layer for a vector, before the FFN's
    output is added for a weight form), except where a norm follows the down-projection (Gemma2): there m dh
    competes with that projection's output.

    `tokens` are the steered ones, as in `sweep`. `shared` holds what `train` recorded on the same pairs: then
    the model does not run again.
    `progress`, `chat_template_kwargs`: as in `sweep`.

    Raises:
        TypeError: when `intervention` is none.
        ValueError: when dh is zero, besides what `sweep` raises.
    """
    if not isinstance(intervention, Intervention):
        raise TypeError(f"the third argument is one Intervention, not a {type(intervention).__name__}.")
    if not isinstance(shared, (SharedRows, type(None))):
        raise TypeError(f"shared is a trainer.SharedRows(), not a {type(shared).__name__}.")
    names = token_names(intervention, tokens)
    model = plain_model(model)
    intervention.check_base(model)
    given = arguments(chat_template_kwargs, intervention)
    positive, negative = encode_pairs(model, tokenizer, pairs, given)
    norms: list[torch.Tensor] = []
    sequences = [*positive, *negative]
    with (
        at_rest(model),
        torch.no_grad(),
        tqdm(total=len(sequences), disable=not progress, desc="matching strength") as bar,
    ):
        replay = Replay(model, intervention.layer, intervention.form, names[0])
        if shared is None:
            recordings = (replay.record(batch) for batch in batches(tokenizer, sequences, replay.budget))
        else:
            rows = shared.record(model, replay, tokenizer, sequences)
            recordings = (recording for _, recording in stacked(replay, tokenizer, sequences, rows))
        for recording in recordings:
            steered = recording.batch.attention_mask.bool() & replay.steered_tokens(recording.batch)
            dh, h = intervention.delta(recording.x), recording.activations[replay.added_to]
            norms.append(torch.stack([h[steered].norm(dim=-1), dh[steered].norm(dim=-1)]).double().cpu())
            bar.update(len(recording.batch.index))
    h_norm, dh_norm = torch.cat(norms, dim=1).median(dim=1).values.tolist()
    if dh_norm == 0:
        raise ValueError(f"the {intervention.form} changes nothing (dh = 0): no strength matches.")
    intervention.matching_strength = h_norm / dh_norm
    return intervention.matching_strength
