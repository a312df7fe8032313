"""Layer scan: the difference of means at each of some layers, and what it does to held-out pairs."""

from collections.abc import Sequence

import pandas as pd
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.architectures import check_layer, layer_list
from splitkit.steering.pairs import Pair, require_pairs
from splitkit.steering.strengths import as_grid
from splitkit.steering.sweeps import UNIT_PAIRS, matching_strength, sweep
from splitkit.steering.training import train

RELATIVE: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.45, 0.7)
"""Strengths that a scan tries, in matching strengths: where a vector changes a model and leaves it fluent."""
DEPTH = (0.4, 0.7)
"""Shares of the depth that a scan looks between unless layers are named, with the layers at both ends."""
MOST = 6
"""Layers of such a scan, spread evenly."""


def scan_layers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    layers: Sequence[int] | int | None = None,
    *,
    relative: Sequence[float] = RELATIVE,
    reduction: str = "sum",
    progress: bool = False,
) -> pd.DataFrame:
    """PrefOdds and UtilOdds of held-out pairs under the DiffMean vector of each layer; nothing is trained.

    `best_layer` chooses by the table, `plot_layers` draws it.

    Args:
        pairs, held_out: the pairs that the vectors come from, and those they are measured on.
        layers: the layers to try, from 0; for None six, spread evenly from 40 to 70 % of the depth. Below,
            a stream does not yet hold what a text is about, above it is already that of the next token: the
            paper steers at 48 and 50 %, scans of SmolLM2-135M and Qwen2.5-Coder-0.5B chose 60 and 54 %.
        relative: the strengths, in matching strengths of each vector; 0 is the unsteered model.
        reduction: of the losses, see `sweeps.sweep`.
        progress: show a bar of the layers, with the time that is left.

    Returns:
        One row per layer and strength: layer, m_relative, m, accuracy (the share of pairs with PrefOdds > 0),
        preference and utility (means over the pairs, nats), undefined (the share without a utility), pairs.

    Raises:
        ValueError, TypeError, FloatingPointError: what `train` and `sweep` raise; ValueError for no layer.

    Example:
        >>> import splitkit as sk
        >>> model, tokenizer = sk.load_model("tiny-qwen2")
        >>> pairs = sk.load_pairs("axbench/ocean")
        >>> scan = sk.scan_layers(model, tokenizer, pairs[:4], pairs[4:6], relative=(0.0, 0.3))
        >>> sk.best_layer(scan) in (1, 2, 3)
        True
    """
    wanted = [layers] if isinstance(layers, int) else layers
    chosen = spread(len(layer_list(model))) if wanted is None else [check_layer(model, n) for n in wanted]
    if not chosen:
        raise ValueError("there is no layer to scan: the list is empty.")
    pairs, held_out = require_pairs(pairs), require_pairs(held_out)
    if 0 not in (shares := as_grid(relative).tolist()):
        raise ValueError("relative has to hold 0, the unsteered model that utility is compared with.")
    parts = []
    for layer in tqdm(dict.fromkeys(chosen), disable=not progress, desc="scanning", unit="layer"):
        iv = train(model, tokenizer, pairs, "vector", "diffmean", layer)
        unit = matching_strength(model, tokenizer, iv, pairs[:UNIT_PAIRS])
        table = sweep(model, tokenizer, iv, held_out, m=[unit * one for one in shares], reduction=reduction)
        rows = (
            table.assign(accuracy=table["preference"] > 0, undefined=table["utility"].isna())
            .groupby("m", sort=False)[["accuracy", "preference", "utility", "undefined"]]
            .mean()
            .reset_index()
        )
        parts.append(rows.assign(layer=layer, m_relative=shares, pairs=len(held_out)))
    order = ["layer", "m_relative", "m", "accuracy", "preference", "utility", "undefined", "pairs"]
    return pd.concat(parts, ignore_index=True)[order]


def spread(depth: int) -> list[int]:
    """At most `MOST` of a model's layers, evenly over `DEPTH`, from 0."""
    # a layer's share is that of its output: the last one's is 1
    low, high = (max(0, round(share * depth) - 1) for share in DEPTH)
    count = min(MOST, high - low + 1)
    return sorted({round(low + (high - low) * n / max(1, count - 1)) for n in range(count)})


def best_layer(scan: pd.DataFrame, most_lost: float = 1.0) -> int:
    """The layer of the highest accuracy at a strength whose utility is at most `most_lost` below that at 0.

    Of equal ones the layer with the larger mean preference there, then the lowest. `scan` is what
    `scan_layers` returns. ValueError for another table, one without the strength 0 or without any utility.
    """
    if missing := {"layer", "m_relative", "accuracy", "preference", "utility"} - set(scan):
        raise ValueError(f"a scan, as scan_layers returns it, has the column(s) {sorted(missing)}.")
    if not (scan["m_relative"] == 0).any():
        raise ValueError("the scan has no row at strength 0 to compare utilities with")
    unsteered = scan.loc[scan["m_relative"] == 0].set_index("layer")["utility"]
    kept = scan[scan["utility"] >= scan["layer"].map(unsteered) - most_lost]
    if kept.empty:
        raise ValueError(
            "no layer has a utility, Eq. 8 is undefined for every pair: scan with losses summed over tokens "
            '(reduction="sum"), or harder answers.'
        )
    ranked = kept.sort_values(["accuracy", "preference", "layer"], ascending=[False, False, True])
    return int(ranked["layer"].iloc[0])
