"""Projection: how much of a vector's direction the residual stream has at each token of a text."""

import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.steering.architectures import check_layer, resolve_sites
from splitkit.steering.interventions import Intervention
from splitkit.steering.interventions.sums import Steering
from splitkit.steering.model_state.wrappers import plain_model
from splitkit.steering.pairs import Question, is_empty, question_fault
from splitkit.steering.prompts.settings import bos_ids, steered_tokens
from splitkit.steering.prompts.templates import TemplateArguments, arguments
from splitkit.steering.replay import at_rest, leaving
from splitkit.steering.strengths import Strength, as_grid
from splitkit.steering.tokenization import check_tokenizer, prompts


def project(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    intervention: Intervention,
    text: Question,
    m: Strength = 0.0,
    *,
    steered_by: Steering | None = None,
    layer: int | None = None,
    chat_template_kwargs: TemplateArguments | None = None,
) -> pd.DataFrame:
    """h . v / |v| at each token: the residual stream's projection on a vector's direction, in h's unit.

    h is the stream that leaves the layer, under steering where m is not 0. A LoRA and a local weight have no
    direction of their own, since they add another dh at each token: they are refused as `intervention`; read
    what they do along a vector's direction by `steered_by`.

    Args:
        intervention: the vector whose direction is read.
        text: a text, which is read as it is (with BOS where the tokenizer puts it), or a conversation as in
            `Pair`, in the chat template's form, up to where the answer begins.
        m: one strength or several; 0 is the unsteered model.
        steered_by: what steers with m, any form or a sum; the vector itself for None.
        layer: the layer whose output is read; the vector's own for None.
        chat_template_kwargs: arguments of the chat template by name; those of the vector's training for None.

    Returns:
        One row per (m, token): m, position, token (its text), steered (False for BOS, which is never
        steered), projection, norm (|h|), cosine (projection / |h|). `plot_projection` draws it.

    Raises:
        TypeError: when `intervention` or `steered_by` is none, or the text is no text or conversation.
        ValueError: for a form other than a vector, an empty text, another base model, a layer out of range,
            a strength twice.

    Example:
        >>> import splitkit as sk
        >>> model, tokenizer = sk.load_model("tiny-qwen2")
        >>> iv = sk.train(model, tokenizer, sk.load_pairs("axbench/ocean")[:4], "vector", "diffmean")
        >>> table = sk.project(model, tokenizer, iv, "the sea is calm .", m=[0.0, 1.0])
        >>> moved = table.groupby("m")["projection"].mean().diff().iloc[-1]
        >>> bool(abs(moved - iv.parameters["vector"].norm()) < 0.01)
        True
    """
    if not isinstance(intervention, Intervention):
        kind = type(intervention).__name__
        raise TypeError(f"a vector's direction is read: pass one Intervention, not a {kind}.")
    if intervention.form != "vector":
        raise ValueError(
            f"a {intervention.form} adds another change at each token and has no direction of its own: pass "
            "a vector (DiffMean's, say) to read along, and what steers as steered_by."
        )
    steering = intervention if steered_by is None else steered_by
    if not isinstance(steering, Steering):
        raise TypeError(f"steered_by is an Intervention or a sum, not a {type(steering).__name__}.")
    if fault := question_fault(text):
        raise TypeError(f"the text {fault}.")
    model = plain_model(model)
    check_tokenizer(model, tokenizer)
    intervention.check_base(model)
    layer = intervention.layer if layer is None else check_layer(model, layer)
    given = arguments(chat_template_kwargs, intervention)
    if isinstance(text, str):
        ids = list(tokenizer(text)["input_ids"])
    else:
        ids = list(prompts(tokenizer, [text], given)[0].ids)
    if is_empty(text) or not ids:
        raise ValueError("the text is empty: there is no token to read.")
    given_ids = torch.tensor([ids], device=model.device)
    v = intervention.parameters["vector"].double()
    parts = []
    for strength in as_grid(m).tolist():
        parts.append(_read(model, steering, given_ids, strength, layer, v).assign(m=strength))
    steered = steered_tokens(given_ids, bos_ids(model))[0].tolist()
    words = [tokenizer.decode([one]) for one in ids]
    table = pd.concat(parts, ignore_index=True)
    table["token"], table["steered"] = words * len(parts), steered * len(parts)
    return table[["m", "position", "token", "steered", "projection", "norm", "cosine"]]


@torch.inference_mode()
def _read(
    model: PreTrainedModel, steering: Steering, ids: torch.Tensor, m: float, layer: int, v: torch.Tensor
) -> pd.DataFrame:
    """position, projection, norm and cosine of each token at one strength."""
    place = resolve_sites(model, layer).layer
    # the hook that steers comes before the one that reads
    with at_rest(model), steering.applied(model, m), leaving(place) as seen:
        model(input_ids=ids, use_cache=False)
    h = seen[-1][0].double().cpu()  # (token, hidden)
    along, norm = h @ (v / v.norm()), h.norm(dim=-1)
    columns = {"projection": along, "norm": norm, "cosine": along / norm}
    return pd.DataFrame({"position": range(len(h)), **{name: x.numpy() for name, x in columns.items()}})
