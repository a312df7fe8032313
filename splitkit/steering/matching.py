"""Matching strength: the unit of every relative grid, one definition for all forms and models."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.interventions import Intervention
from splitkit.steering.pairs import Pair
from splitkit.steering.replay import Replay, at_rest
from splitkit.steering.tokenization import batches, encode_pairs

UNIT_PAIRS = 64
"""Training pairs that the strength of a cell is measured on; its medians are over thousands of tokens."""


def matching_strength(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    pairs: Sequence[Pair],
) -> float:
    """m = median |h| / median |dh|: the strength at which m dh is as large as the activation h it is added
    to.

    Medians are over all steered tokens of all pairs, norms over `hidden`. h is the residual stream (after
    the layer for a vector, before the FFN's output is added for a weight form), except where a norm follows
    the down-projection (Gemma2): there m dh competes with that projection's output. The unit of the
    relative grid.

    Raises:
        TypeError: when `intervention` is none.
        ValueError: when dh is zero, besides what `sweep` raises.
    """
    if not isinstance(intervention, Intervention):
        raise TypeError(f"the third argument is an Intervention, not a {type(intervention).__name__}.")
    intervention.check_base(model)
    positive, negative = encode_pairs(model, tokenizer, pairs)
    bos = getattr(model.config, "bos_token_id", None)
    norms: list[torch.Tensor] = []
    with at_rest(model), torch.no_grad():
        replay = Replay(model, intervention.layer, intervention.form)
        name = "output" if intervention.form == "vector" else "residual"
        if intervention.form != "vector" and replay.sites.after_down is not None:
            name = "down_output"
        for batch in batches(tokenizer, [*positive, *negative]):
            recording = replay.record(batch)
            steered = recording.batch.attention_mask.bool()
            if bos is not None:
                steered &= recording.batch.input_ids != bos
            dh, h = intervention.delta(recording.x), recording.activations[name]
            norms.append(torch.stack([h[steered].norm(dim=-1), dh[steered].norm(dim=-1)]).double().cpu())
    h_norm, dh_norm = torch.cat(norms, dim=1).median(dim=1).values.tolist()
    if dh_norm == 0:
        raise ValueError(f"the {intervention.form} changes nothing (dh = 0): no strength matches.")
    return h_norm / dh_norm
