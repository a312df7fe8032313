"""Steering (Eq. 5) against rewritten weights (Eq. 1): the identity of both, measured in float64."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from splitkit.runs import answers
from splitkit.runs.cells import own_threads
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.runs.results import read_table, write_table
from splitkit.steering import model_files
from splitkit.steering.architectures import resolve_sites
from splitkit.steering.formats.shipped import MODELS
from splitkit.steering.forms import FORMS, PAPER_LAYERS, parameter_table
from splitkit.steering.interventions import Intervention
from splitkit.steering.memory import count_parameters, inner_width
from splitkit.steering.models import load_model
from splitkit.steering.pairs import Pair
from splitkit.steering.prompts.settings import bos_ids
from splitkit.steering.rewriting import as_down_bias, random_intervention, rewritten
from splitkit.steering.strengths import as_factors
from splitkit.steering.sweeps import matching_strength
from splitkit.steering.tokenization import Batch, Encoded, encode_pairs, pad_batch

SLIP = 0.01
"""Relative error of m in the comparison that has to fail."""
COMPARED = ("rewritten", "untouched", "1 % off", "BOS too", "bias before the norm")
"""Names of the comparisons with steering; only the first has to be equal."""
FLOOR = 1e-17
"""The smallest difference that is reported: float64 tells no smaller ones."""
STRENGTHS, N_PAIRS = (-24.0, -2.0, -0.5, 0.5, 2.0, 24.0), 4
"""Strengths in matching strengths, and test pairs of the profile's first task, of the kept tables."""
CLOSE = {"magnitude": 0.2, "m": 0.02, "site": 0.2, "stream": 0.2, "stream_change": 0.02}
"""Tolerance of the kept tables: a magnitude of -13 may be -11 on another processor, but not -7; 0 stays 0."""

Models = dict[str, tuple[PreTrainedModel, PreTrainedTokenizerBase]]
"""Models with their tokenizers, by name."""

LARGE = 50_000_000
"""Number of parameters from which on a small copy stands for a model."""
SMALL: dict[str, int] = {
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
"""Sizes of a small copy, where the architecture has them."""


def subject(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """A model small enough to copy in float64, its tokenizer, and a note to print (empty if none).

    From `LARGE` parameters on, a model of the same architecture with `SMALL` sizes, the same vocabulary and
    random weights stands for it: the identity holds for any weights. Raises what `load_model` raises.
    """
    if name in MODELS:
        return *load_model(name), ""
    place = model_files.fetch(name)
    # a released model is one GGUF file, its config inside
    where, options = (place.parent, {"gguf_file": place.name}) if place.is_file() else (place, {})
    config = AutoConfig.from_pretrained(where, trust_remote_code=False, **options)
    count = count_parameters(config)
    if count < LARGE:
        return *load_model(name if options else place), ""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(_in_small(config), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **options)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    said = f"{name} has {count / 1e9:.2g} billion parameters, too many for copies in float64: here its "
    return model.eval(), tokenizer, f"{said}architecture in small, with random weights, stands for it."


def subjects(names: Sequence[str]) -> tuple[Models, list[str]]:
    """The `subject` of each model: models and tokenizers by name, and the notes there are."""
    found = {name: subject(name) for name in names}
    models = {name: (model, tokenizer) for name, (model, tokenizer, _) in found.items()}
    return models, [f"{said}\n" for *_, said in found.values() if said]


def layer_size(name: str) -> tuple[int, int]:
    """Widths (d_in, d_out) of a model's down-projections: the feed-forward network's and the hidden size."""
    folder = model_files.fetch(name)
    text = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    return inner_width(text), int(text.hidden_size)


def _in_small(config: Any) -> Any:
    text = config.get_text_config()
    for key, value in SMALL.items():
        if getattr(text, key, None) is not None:
            # layers only ever fewer: each has a type in the config
            setattr(text, key, min(value, text.num_hidden_layers) if key == "num_hidden_layers" else value)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]
    return config


class DoublePrecision(TorchFunctionMode):
    """float64 in place of float32 in all that is computed inside the `with`.

    The architectures do norms, softmax and rotary angles in float32 whatever the model's own type; a
    difference of 1e-16 before such a step is 1e-7 after it, when it tips a rounding.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call into torch with float64 in place of float32."""
        func = torch.Tensor.double if func is torch.Tensor.float else func
        args = [torch.float64 if value is torch.float32 else value for value in args]
        named = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return func(*args, **named)


def probes(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], bos: bool = False
) -> Batch:
    """One padded batch of questions with their positive answers, without BOS unless `bos` asks for it.

    Nowhere: some chat templates begin every turn with it (SmolLM2's), and no token of it is steered.
    """
    kept, left_out = [], () if bos else bos_ids(model)
    for sequence in encode_pairs(model, tokenizer, pairs)[0]:
        parts = sequence.ids[: sequence.prompt_length], sequence.ids[sequence.prompt_length :]
        prompt, answer = (tuple(token for token in part if token not in left_out) for part in parts)
        kept.append(Encoded(sequence.pair, (*prompt, *answer), len(prompt)))
    return pad_batch(tokenizer, kept, range(len(kept)))


@torch.no_grad()
def _logits(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "batch token vocabulary"]:
    with DoublePrecision():
        return model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
        ).logits


def deviations(
    model: PreTrainedModel,
    batch: Batch,
    intervention: Intervention,
    m: Sequence[float],
    twins: Mapping[str, tuple[Intervention, float]],
) -> dict[str, list[float]]:
    """max |logits of h + m dh (Eq. 5) - logits of W + m dW, b + m db (Eq. 1)|, one number per m, in float64.

    The largest difference is over all tokens of all sequences and the whole vocabulary. A twin (intervention,
    slip) is the model with that intervention written into its weights at m (1 + slip); a slip of -1 leaves
    them. Strengths are the float32 numbers that `applied` takes them for.
    """
    exact = copy.deepcopy(model).double()
    factors = as_factors(m).double().tolist()
    rows = len(batch.index)
    # all strengths in one batch, a strength per row
    repeated = Batch(*(part.repeat(len(factors), 1) for part in vars(batch).values()))
    with intervention.applied(exact, [factor for factor in factors for _ in range(rows)]):
        steered = _logits(exact, repeated).unflatten(0, (len(factors), rows))
    real = batch.attention_mask.bool()
    found: dict[str, list[float]] = {}
    for name, (own, slip) in twins.items():
        written: dict[float, Tensor] = {}
        for factor, ours in zip(factors, steered, strict=True):
            at = factor * (1 + slip)
            if at not in written:
                written = {at: _logits(rewritten(exact, own, at), batch)}
            found.setdefault(name, []).append(float((ours - written[at])[real].abs().max()))
    return found


def magnitude(value: float) -> int:
    """The k with 10^(k-1) < value <= 10^k, which, unlike a rounding error, no processor changes."""
    return math.ceil(math.log10(max(value, FLOOR)))


def identity_table(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    strengths: Sequence[float],
    seed: int = 0,
) -> pd.DataFrame:
    """Eq. 1 against Eq. 5 for random interventions of every form, and the comparisons that have to fail.

    Strengths are in units of each intervention's matching strength, without 0.

    Returns:
        A row per form, comparison and strength: model, form, compared_with, m_relative, m, magnitude (of the
        largest difference of a logit), deviation (that difference). compared_with is one of `COMPARED`:
        "rewritten" is the identity; "untouched" weights, weights written "1 % off", "BOS too" where prompts
        have a BOS, and "bias before the norm", a vector as the down-projection's bias where a norm follows,
        must differ.
    """
    batch, with_bos = probes(model, tokenizer, pairs), probes(model, tokenizer, pairs, bos=True)
    parts = []
    for form in FORMS:
        iv = random_intervention(model, form, seed)
        sites = resolve_sites(model, iv.layer)
        unit = matching_strength(model, tokenizer, iv, pairs)
        m = [unit * strength for strength in strengths]
        twins = {"rewritten": (iv, 0.0), "untouched": (iv, -1.0), "1 % off": (iv, SLIP)}
        if form == "vector" and sites.after_down is not None:
            twins["bias before the norm"] = (as_down_bias(iv, sites.down_width), 0.0)
        found = deviations(model, batch, iv, m, twins)
        if with_bos.input_ids.shape != batch.input_ids.shape:
            found |= deviations(model, with_bos, iv, m, {"BOS too": (iv, 0.0)})
        for compared_with in sorted(found, key=COMPARED.index):
            keys = {"model": name, "form": form, "compared_with": compared_with}
            table = pd.DataFrame({**keys, "m_relative": strengths, "m": m})
            largest = found[compared_with]
            parts.append(table.assign(magnitude=[*map(magnitude, largest)], deviation=largest))
    return pd.concat(parts, ignore_index=True)


@torch.no_grad()
def change_table(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    strengths: Sequence[float],
    seed: int = 0,
) -> pd.DataFrame:
    """The change by steering against m dh (Eq. 5), at the site and in the residual stream after it.

    Returns:
        A row per form and strength: model, form, m_relative; site and stream, magnitudes of max |change -
        m dh| / max |m dh| where the form acts and in the stream that leaves the layer; stream_change, the
        median |change| over the median |h| there.
    """
    exact, batch = copy.deepcopy(model).double(), probes(model, tokenizer, pairs)
    real = batch.attention_mask.bool()
    rows = []
    for form in FORMS:
        iv = random_intervention(model, form, seed)
        unit = matching_strength(model, tokenizer, iv, pairs)
        base = _activations(exact, batch, iv, 0.0)
        dh = iv.delta(base["x"]).double()[real]
        for strength in strengths:
            m = float(as_factors(unit * strength))
            seen = _activations(exact, batch, iv, m)
            site, stream = ((seen[place] - base[place])[real] for place in ("site", "stream"))
            errors = (float((moved - m * dh).abs().max() / (m * dh).abs().max()) for moved in (site, stream))
            size = stream.norm(dim=-1).median() / base["stream"][real].norm(dim=-1).median()
            rows.append((name, form, strength, *map(magnitude, errors), float(size)))
    return pd.DataFrame(rows, columns=["model", "form", "m_relative", "site", "stream", "stream_change"])


def _activations(model: PreTrainedModel, batch: Batch, iv: Intervention, m: float) -> dict[str, Tensor]:
    """The down-projection's input x, the output of the site, the stream that leaves the layer, steered.

    All (batch, token, inner or hidden), float64.
    """
    seen: dict[str, Tensor] = {}

    def keep_down(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.update(x=args[0], site=output)

    def keep_stream(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.update(stream=output, **({"site": output} if iv.form == "vector" else {}))

    with iv.applied(model, m):
        sites = resolve_sites(model, iv.layer)
        # after the intervention's own hooks, so that these see what it made
        handles = (
            sites.down.register_forward_hook(keep_down),
            sites.layer.register_forward_hook(keep_stream),
        )
        with handles[0], handles[1]:
            _logits(model, batch)
    return seen


def layer_parameters(names: Sequence[str]) -> pd.DataFrame:
    """Parameters of each form in one layer, for models and for the paper's own."""
    return parameter_table({name: layer_size(name) for name in names} | PAPER_LAYERS)


def identities(
    profile: Profile, models: Models, pairs: Sequence[Pair], strengths: Sequence[float], seed: int
) -> pd.DataFrame:
    """`identity_table` of several models, kept as the profile's `unified_view.csv`."""
    table = pd.concat(identity_table(name, *own, pairs, strengths, seed) for name, own in models.items())
    # the record of the embedded profile has magnitudes alone
    write_table(table.drop(columns="deviation"), "unified_view", profile, tolerance=CLOSE)
    return read_table("unified_view", profile)


def changes(
    profile: Profile, models: Models, pairs: Sequence[Pair], strengths: Sequence[float], seed: int
) -> pd.DataFrame:
    """`change_table` of several models, kept as the profile's `unified_view_change.csv`."""
    table = pd.concat(change_table(name, *own, pairs, strengths, seed) for name, own in models.items())
    write_table(table, "unified_view_change", profile, digits=3, tolerance=CLOSE)
    return read_table("unified_view_change", profile)


@kept("unified_view", "unified_view_change", tolerance=CLOSE, digits=3, of="itself")
@own_threads()
def unified_views(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """`identity_table` and `change_table` of a profile's models (see `subject`), seed 0."""
    parts: dict[str, list[pd.DataFrame]] = {"unified_view": [], "unified_view_change": []}
    for name in profile.models:
        model, tokenizer, _ = subject(name)
        pairs = answers.pairs(profile, profile.tasks[0], "test", model, tokenizer)[:N_PAIRS]
        for rows, table in zip(parts.values(), (identity_table, change_table), strict=True):
            rows.append(table(name, model, tokenizer, pairs, STRENGTHS))
    return {name: pd.concat(rows, ignore_index=True) for name, rows in parts.items()}
