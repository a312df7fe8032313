"""Moves of equal length: towards natural activations of another prompt, and in random directions.

For C9's second test. A unit is a test pair and another of its task, with another question, drawn from those
that are not next to it (`FAR`). At every token t of either text of the pair, but BOS,

    natural: h'_t = h_t + s (a_t - h_t),        random: h'_t = h_t + s Q (a_t - h_t),        0 <= s <= 1.

h_t is the unsteered residual stream that leaves the steered layer. a_t is the other pair's, in its text with
the answer of the same side, at the token as far through its prompt, or its answer, as t is in its own (the
first token's is the first). Q is an orthogonal matrix drawn evenly from all (Haar), one for a unit.

So both kinds move each token by the same length, and the moves of any two tokens make the same angle: a shift
that is alike at all tokens in one kind is so in the other. They differ in direction alone. At s = 1 the
natural move ends on what the model makes of another text, all tokens of it together. A direction that is the
same at all tokens would end nowhere in particular, and one target for all tokens would make them all alike.

**Push** is s median_t |a_t - h_t| / |h_t|, over the unit's moved tokens; the unit's s follow from `PUSHES`. A
push that takes s > 1 is not made, of either kind: behind its target, a natural move leads away again.

This was settled before a number was seen. Whether natural moves do stay nearer to the manifold stands beside
the log-odds: the distance after the move, by both rulers.
"""

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from splitkit.runs.cells import own_threads
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.studies.decisions.manifold_claims import ESTIMATORS, KINDS
from splitkit.tasks import task_family

# what steers models is imported where it is used: to read the committed tables takes none of it
if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from splitkit.steering.pairs import Pair
    from splitkit.steering.replay import Recording, Replay
    from splitkit.steering.tokenization import Encoded
    from splitkit.studies.manifold.estimators import Manifold

    Text = tuple[Encoded, Tensor]

N_UNITS = 12
"""Test pairs of a task that are moved, or as many as there are."""
FAR = 0.5
"""Push at s = 1 that a drawn target takes, where any does: the low end of the range of `rules.REACH`."""
PUSHES = (0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Up to the high end of the range of `rules.REACH`, whose value and ends are among them."""


@kept("manifold_moves", tolerance=0.05, digits=4, of="itself")
def manifold_moves(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """`moves_table` of every model and task of a profile, its log-odds by the profile's reduction.

    One row per (model, task, unit, kind, push); see `moves_table`.
    """
    from splitkit.studies.manifold.reference import layer_manifold

    groups = list(dict.fromkeys((cell.model, cell.task) for cell in profile.cells()))
    models = list(dict.fromkeys(model for model, _ in groups))
    with Parallel(n_jobs=jobs) as work:
        manifolds = work(delayed(layer_manifold)(model, profile) for model in models)
        known = dict(zip(models, manifolds, strict=True))
        parts = work(delayed(_measured)(*group, profile, known[group[0]]) for group in groups)
    return {"manifold_moves": pd.concat(parts, ignore_index=True)}


@own_threads()
def _measured(model_name: str, task: str, profile: Profile, manifold: "Manifold") -> pd.DataFrame:
    from splitkit.runs import answers

    model, tokenizer = answers.load(profile, model_name)
    pairs = answers.pairs(profile, task, "test", model, tokenizer)[:N_UNITS]
    reduction = profile.reduction.get(task_family(task), "mean")
    table = moves_table(model, tokenizer, pairs, profile.layer(model_name), manifold, reduction, task)
    return pd.concat([pd.DataFrame({"model": model_name, "task": task}, index=table.index), table], axis=1)


def moves_table(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    pairs: "Sequence[Pair]",
    layer: int,
    manifold: "Manifold",
    reduction: str = "mean",
    seed: str = "",
) -> pd.DataFrame:
    """PrefOdds (Eq. 7) and UtilOdds (Eq. 8) of every pair after moves of both `KINDS`.

    Args:
        model, tokenizer: the unsteered model, and its tokenizer.
        pairs: each is a unit, and what others move towards.
        layer: that steered.
        manifold: of the stream that leaves it.
        reduction: of the losses, as in `sweeps.sweep`.
        seed: of the draws, with the unit's number.

    Returns:
        One row per (unit, kind, push), push 0 among them: unit (the pair's number), kind, push, share (s of
        the head of this file), utility (NaN where Eq. 8 is undefined), preference, and the mean distance of
        the moved answers' tokens to the manifold, subspace and neighbours.

    Raises:
        ValueError: for a pair that no other question stands beside, besides bad pairs and layers.
    """
    import torch

    from splitkit.steering.prompts.settings import bos_ids
    from splitkit.steering.replay import Replay, at_rest
    from splitkit.steering.tokenization import batches, encode_pairs

    positive, negative = encode_pairs(model, tokenizer, pairs)
    sequences, parts = [*positive, *negative], []
    with at_rest(model), torch.no_grad():
        replay = Replay(model, layer, "vector")
        rows: dict[int, Tensor] = {}
        for batch in batches(tokenizer, sequences, replay.budget):
            rows |= {index: values["output"] for index, values in replay.record(batch).rows()}
        texts = [[(sequences[n], rows[n]) for n in (unit, unit + len(pairs))] for unit in range(len(pairs))]
        for unit, pair in enumerate(pairs):
            every = {
                n: natural_moves(texts[unit], texts[n])
                for n, other in enumerate(pairs)
                if other.question != pair.question
            }
            if not every:
                raise ValueError(f"pair {unit} has nowhere to move: all pairs ask the same question.")
            whole = {n: push_of(texts[unit], found, bos_ids(model)) for n, found in every.items()}
            far = [n for n, push in whole.items() if push >= FAR] or [max(whole, key=whole.__getitem__)]
            rng = np.random.default_rng(zlib.crc32(f"{seed} {unit}".encode()))
            chosen = int(rng.choice(far))
            recording = with_moves(tokenizer, texts[unit], every[chosen], rng)
            parts.append(_after(replay, recording, whole[chosen], manifold, reduction).assign(unit=unit))
    table = pd.concat(parts, ignore_index=True)
    return table[["unit", *table.columns.drop("unit")]]


def natural_moves(own: "Sequence[Text]", towards: "Sequence[Text]") -> "list[Tensor]":
    """a_t - h_t of each text (token, hidden), see the head of this file; a text comes with its stream."""
    return [
        target[_places(text, other)].float() - stream.float()
        for (text, stream), (other, target) in zip(own, towards, strict=True)
    ]


def push_of(own: "Sequence[Text]", moves: "Sequence[Tensor]", bos: tuple[int, ...]) -> float:
    """Median |a_t - h_t| / |h_t| over all tokens of the texts but BOS: the push at s = 1."""
    import torch

    from splitkit.steering.prompts.settings import steered_tokens

    found = []
    for (text, stream), move in zip(own, moves, strict=True):
        share = move.double().norm(dim=-1) / stream.double().norm(dim=-1)
        found.append(share[steered_tokens(torch.tensor(text.ids, device=share.device), bos)])
    return torch.cat(found).median().item()


def with_moves(
    tokenizer: "PreTrainedTokenizerBase",
    own: "Sequence[Text]",
    moves: "Sequence[Tensor]",
    rng: np.random.Generator,
) -> "Recording":
    """A Recording of texts, with both moves (batch, token, hidden) of each token at s = 1 beside them."""
    import torch
    from scipy.stats import ortho_group

    from splitkit.steering.replay import stack_rows

    h = own[0][1]
    q = torch.from_numpy(ortho_group.rvs(h.shape[-1], random_state=rng)).to(h.device, torch.float32)
    rows = [
        {"output": stream, "natural": move, "random": move @ q.T}
        for (_, stream), move in zip(own, moves, strict=True)
    ]
    return stack_rows(tokenizer, [text for text, _ in own], rows)


def _places(own: "Encoded", other: "Encoded") -> np.ndarray:
    """Of each token of a text the place in the other text, see the head of this file.

    First stands on first, alone: models park attention on it, and its stream is like no other token's.
    """
    p, q = own.prompt_length, other.prompt_length
    # a prompt may be one token
    prompt = np.minimum(1 + _spread(p - 1, max(1, q - 1)), q - 1)
    return np.concatenate([[0], prompt, q + _spread(own.answer_length, other.answer_length)])


def _spread(n: int, among: int) -> np.ndarray:
    """Of each of n places in a row, the place in a row of another length: ends on ends."""
    return np.linspace(0, among - 1, n).round().astype(int)


def _after(
    replay: "Replay", recording: "Recording", whole: float, manifold: "Manifold", reduction: str
) -> pd.DataFrame:
    """The rows of a unit, of the positive text and the negative one; `whole` is the push at s = 1."""
    import torch

    from splitkit.curves.log_odds import preference_log_odds, utility_log_odds

    batch = recording.batch
    pushes = np.array([0.0, *(push for push in PUSHES if push <= whole)])
    shares = np.append(0.0, pushes[1:] / whole)
    at_once = max(1, replay.budget // batch.input_ids.numel())
    lengths = batch.answer_mask.sum(1).cpu().numpy()
    frames = []
    for kind in KINDS:
        for part in np.split(np.arange(len(shares)), range(at_once, len(shares), at_once)):
            many = recording.repeated(len(part))
            s = torch.from_numpy(shares[part]).to(replay.device, torch.float32)
            given = (many, many.activations[kind], s.repeat_interleave(len(lengths)))
            losses = replay.losses(*given).double().view(len(part), -1).cpu().numpy()
            odds = (losses * lengths if reduction == "sum" else losses).T
            ends = replay.steered(*given)[many.batch.answer_mask].float().cpu().numpy()
            distances = manifold.distances(ends.reshape(len(part), -1, ends.shape[-1]))
            frame = {"kind": kind, "push": pushes[part], "share": shares[part]}
            frame |= {"utility": utility_log_odds(*odds), "preference": preference_log_odds(*odds)}
            frame |= {ruler: distances[ruler].mean(axis=1) for ruler in ESTIMATORS}
            frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)
