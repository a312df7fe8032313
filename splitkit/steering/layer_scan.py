"""Layer scan: the difference of means at each of some layers, and what it does to held-out pairs."""

from collections.abc import Sequence

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import UNIT_PAIRS, matching_strength, sweep
from splitkit.steering.training import train

RELATIVE: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.45, 0.7)
"""Strengths that a scan tries, in matching strengths: where a vector changes a model and leaves it fluent."""


def scan_layers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    layers: Sequence[int],
    *,
    relative: Sequence[float] = RELATIVE,
    reduction: str = "sum",
) -> pd.DataFrame:
    """PrefOdds and UtilOdds of held-out pairs under the DiffMean vector of each layer; nothing is trained.

    Args:
        pairs, held_out: the pairs that the vectors come from, and those they are measured on.
        layers: the layers to try, from 0.
        relative: the strengths, in matching strengths of each vector; 0 is the unsteered model.
        reduction: of the losses, see `sweeps.sweep`.

    Returns:
        One row per layer and strength: layer, m_relative, m, accuracy (the share of pairs with PrefOdds > 0),
        preference and utility (means over the pairs, nats), undefined (the share without a utility), pairs.

    Raises:
        ValueError, TypeError, FloatingPointError: what `train` and `sweep` raise.
    """
    parts = []
    for layer in layers:
        iv = train(model, tokenizer, pairs, "vector", "diffmean", layer)
        unit = matching_strength(model, tokenizer, iv, pairs[:UNIT_PAIRS])
        table = sweep(model, tokenizer, iv, held_out, m=[unit * one for one in relative], reduction=reduction)
        rows = (
            table.assign(accuracy=table["preference"] > 0, undefined=table["utility"].isna())
            .groupby("m", sort=False)[["accuracy", "preference", "utility", "undefined"]]
            .mean()
            .reset_index()
        )
        parts.append(rows.assign(layer=layer, m_relative=list(relative), pairs=len(held_out)))
    order = ["layer", "m_relative", "m", "accuracy", "preference", "utility", "undefined", "pairs"]
    return pd.concat(parts, ignore_index=True)[order]


def best_layer(scan: pd.DataFrame, most_lost: float = 1.0) -> int:
    """The layer of the highest accuracy at a strength whose utility is at most `most_lost` below that at 0.

    Of equal ones the layer with the larger mean preference there, then the lowest. ValueError for a scan
    without the strength 0.
    """
    if not (scan["m_relative"] == 0).any():
        raise ValueError("the scan has no row at strength 0 to compare utilities with")
    unsteered = scan.loc[scan["m_relative"] == 0].set_index("layer")["utility"]
    kept = scan[scan["utility"] >= scan["layer"].map(unsteered) - most_lost]
    ranked = kept.sort_values(["accuracy", "preference", "layer"], ascending=[False, False, True])
    return int(ranked["layer"].iloc[0])
