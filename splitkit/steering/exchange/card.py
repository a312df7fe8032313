"""Cards: a model card in Markdown, with a YAML head, for an intervention or what it was exported to."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from splitkit.curves.decay import mean_curve
from splitkit.curves.operating_point import operating_point
from splitkit.steering.forms import get_form

_LIMITS = (
    "It belongs to this one base model. On another, fine-tuned or not, it is an untested change.",
    "*m* has no unit of its own: numbers of another intervention, layer or model are not comparable.",
    "Losses of given answers do not see loops in free text: read answers at the strength before use.",
    "splitkit leaves BOS unsteered. Files for other tools (peft, checkpoints, llama.cpp) steer every token.",
)


def card(
    intervention: Any,
    sweep: pd.DataFrame | None,
    m: float | None,
    reason: str,
    base: str,
    limits: Sequence[str],
) -> str:
    """A model card as text; see `Steering.card`."""
    chosen, table = reason, None
    if sweep is not None:
        table = mean_curve(sweep)
        if m is None:
            point = operating_point(sweep)
            m, chosen = point.m, reason or f"{point.reason} By losses alone."
    terms = intervention.terms
    what = " + ".join(f"{term.form} by {term.objective}" for _, term in terms)
    head = {
        **({"base_model": base} if base else {}),
        "library_name": "splitkit",
        "tags": ["steering", *dict.fromkeys(term.form for _, term in terms)],
    }
    lines = ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items())]
    lines += ["---", "", f"# Steering: {what}", "", "h' = h + m dh, with *m* the strength.", ""]
    for weight, term in terms:
        lines += _term(weight, term)
    lines += ["## Strength", ""]
    if m is None:
        lines += ["None was chosen: sweep held-out pairs, and read answers."]
    else:
        lines += [f"m = {m:.6g}. {chosen}".rstrip()]
    if table is not None:
        lines += ["", *_curves(table)]
    lines += ["", "## Limits", "", *(f"* {one}" for one in (*_LIMITS, *limits)), ""]
    return "\n".join(lines)


def _term(weight: float, term: Any) -> list[str]:
    """How one intervention was made, as a list."""
    details = term.details
    site = "residual stream that leaves" if get_form(term.form).site == "layer" else "down-projection of"
    said = {
        "changes": f"the {site} layer {term.layer} (from 0), tokens: {term.tokens}",
        "weight in the sum": f"{weight:g}" if weight != 1 else None,
        "base model": f"sha256 of its parameters {term.base_digest}",
        "type of its weights": details.get("dtype"),
        "file": details.get("source", {}).get("file"),
        "imported from": details.get("imported", {}).get("file"),
        "training pairs": details.get("pairs"),
        "seed": details.get("seed"),
        "settings": json.dumps(details["config"]) if "config" in details else None,
        "norms": ", ".join(f"{name} {p.detach().double().norm():.4g}" for name, p in term.parameters.items()),
    }
    return [*(f"* {name}: {value}" for name, value in said.items() if value is not None), ""]


def _curves(table: pd.DataFrame) -> list[str]:
    """Mean curves over the swept pairs, as a Markdown table."""
    pairs, defined = int(table["n_pairs"].iloc[0]), int(table["n_pairs_utility"].iloc[0])
    lines = [
        f"Over {pairs} pairs, in nats, means and their standard errors; utility over the {defined} that have "
        "it at every strength:",
        "",
        "| m | preference | ± | utility | ± |",
        "|---:|---:|---:|---:|---:|",
    ]
    columns = ["m", "preference", "preference_sem", "utility", "utility_sem"]
    return lines + [f"| {' | '.join(f'{x:.4g}' for x in row)} |" for row in table[columns].to_numpy()]
