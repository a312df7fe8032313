"""Moves on a random model: what is moved where, against plain forward passes under a hook."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from splitkit.curves.log_odds import preference_log_odds, utility_log_odds
from splitkit.runs import answers
from splitkit.runs.profiles import PROFILES, Profile
from splitkit.steering.pairs import Pair
from splitkit.steering.replay import Recording, Replay, at_rest
from splitkit.steering.sweeps import sweep
from splitkit.steering.tokenization import Encoded, encode_pairs, pad_batch
from splitkit.studies.decisions import intervals
from splitkit.studies.decisions.manifold_claims import decide_c9
from splitkit.studies.manifold import moves, reference
from tests.conftest import LAYER, random_intervention, tiny_model, tiny_tokenizer
from tests.studies.decisions.test_manifold_claims import angles, left_out

PAIRS = [Pair(f"{word}?", f"yes {word}.", f"no {word} at all.") for word in ("one", "two", "three", "four")]
PROFILE = replace(PROFILES["tiny"], models=("tiny",), layers={"tiny": LAYER}, tasks=("psychopathy",))


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[PreTrainedModel, Any]]:
    model, tokenizer = tiny_model("qwen2"), tiny_tokenizer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "load", lambda profile, name: (model, tokenizer))
        patch.setattr(answers, "pairs", lambda profile, task, split, *loaded: PAIRS)
        texts = [(pair.question, pair.negative) for pair in PAIRS]
        patch.setattr(reference, "_dialogues", lambda split, count: texts[:2] if split == "train" else texts)
        yield model, tokenizer


def made(profile: Profile) -> pd.DataFrame:
    return moves.manifold_moves.compute(profile, 1)["manifold_moves"]


@pytest.fixture(scope="module")
def table(loaded: tuple[PreTrainedModel, Any]) -> pd.DataFrame:
    return made(PROFILE)


def recorded(loaded: tuple[PreTrainedModel, Any], unit: int, other: int) -> tuple[Recording, list[Tensor]]:
    """The moves of a unit towards another, and the streams of that one."""
    model, tokenizer = loaded
    positive, negative = encode_pairs(model, tokenizer, PAIRS)
    texts = []
    with at_rest(model), torch.no_grad():
        replay = Replay(model, LAYER, "vector")
        for n in (unit, other):
            both = [positive[n], negative[n]]
            rows = replay.record(pad_batch(tokenizer, both, (0, 1))).rows()
            texts.append([(both[row], values["output"]) for row, values in rows])
    found = moves.with_moves(tokenizer, texts[0], moves.natural_moves(*texts), np.random.default_rng(0))
    return found, [stream for _, stream in texts[1]]


def test_a_whole_natural_move_ends_on_the_other_text(loaded: tuple[PreTrainedModel, Any]) -> None:
    # of texts as long as each other
    recording, streams = recorded(loaded, 0, 1)
    ends = recording.activations["output"] + recording.activations["natural"]
    for row, stream in enumerate(streams):
        torch.testing.assert_close(ends[row, : len(stream)], stream)


@pytest.mark.parametrize("other", [1, 2])
def test_both_moves_have_the_same_lengths_and_angles(loaded: tuple[PreTrainedModel, Any], other: int) -> None:
    recording, _ = recorded(loaded, 0, other)
    natural, random = (recording.activations[kind][0].double() for kind in ("natural", "random"))
    torch.testing.assert_close(natural @ natural.T, random @ random.T, atol=1e-3, rtol=1e-4)
    assert (natural * random).sum() / natural.norm() ** 2 < 0.7
    # BOS does not move, and the first token is the other's first
    assert natural[0].norm() == 0


def test_ends_stand_on_ends_and_first_on_first_alone() -> None:
    def encoded(prompt: int, answer: int) -> Encoded:
        return Encoded(0, tuple(range(prompt + answer)), prompt)

    assert moves._places(encoded(6, 3), encoded(3, 5)).tolist() == [0, 1, 1, 1, 2, 2, 3, 5, 7]
    assert moves._places(encoded(3, 1), encoded(1, 2)).tolist() == [0, 0, 0, 1]


def test_rows_of_a_table(table: pd.DataFrame) -> None:
    assert set(table["unit"]) == {0, 1, 2, 3} and set(table["model"]) == {"tiny"}
    assert table.groupby("unit")["kind"].unique().map(list).tolist() == [["natural", "random"]] * 4
    natural, random = (table[table["kind"] == kind].reset_index() for kind in ("natural", "random"))
    assert natural[["unit", "push", "share"]].equals(random[["unit", "push", "share"]])
    assert table["share"].between(0, 1).all() and natural.groupby("unit").size().min() > 3
    still, other = (kind[kind["push"] == 0]["utility"] for kind in (natural, random))
    pd.testing.assert_series_equal(still, other)
    assert np.isfinite(table[["preference", "utility", "subspace", "neighbours"]]).all(axis=None)
    # a push is in proportion to the share
    ratio = natural[natural["push"] > 0].eval("push / share").groupby(natural["unit"])
    assert ratio.std().max() < 1e-9


def test_unmoved_is_the_unsteered_model(loaded: tuple[PreTrainedModel, Any], table: pd.DataFrame) -> None:
    model, tokenizer = loaded
    expected = sweep(model, tokenizer, random_intervention(model, "vector"), PAIRS, [0.0])
    still = table[(table["push"] == 0) & (table["kind"] == "random")]
    for name in ("preference", "utility"):
        np.testing.assert_allclose(still[name], expected[name], atol=1e-5)


@pytest.mark.parametrize(("kind", "reduction"), [("natural", "mean"), ("random", "sum")])
def test_log_odds_are_those_of_hooked_forward_passes(
    loaded: tuple[PreTrainedModel, Any], monkeypatch: pytest.MonkeyPatch, kind: str, reduction: str
) -> None:
    seen: dict[str, Recording] = {}
    real = moves.with_moves
    monkeypatch.setattr(moves, "with_moves", lambda *given: seen.setdefault(str(len(seen)), real(*given)))
    found = made(replace(PROFILE, reduction={"psychopathy": reduction}))
    row = found[(found["unit"] == 2) & (found["kind"] == kind) & (found["push"] == 0.5)].iloc[0]
    recording, model = seen["2"], loaded[0]
    losses, sizes = [], []
    for number in (0, 1):
        kept = recording.batch.attention_mask[number].bool()
        ids = recording.batch.input_ids[number][kept][None]
        h, move = (recording.activations[name][number][kept] for name in ("output", kind))
        # BOS, the first, is not moved
        sizes.append((move.norm(dim=-1) / h.norm(dim=-1))[1:])
        handle = model.model.layers[LAYER].register_forward_hook(
            lambda _m, _a, out, move=move: out + row["share"] * move
        )
        with torch.no_grad():
            chances = model(ids).logits[0].log_softmax(-1)
        handle.remove()
        start = int(recording.batch.answer_mask[number][kept].nonzero()[0])
        each = -chances[torch.arange(start - 1, ids.shape[1] - 1), ids[0, start:]]
        losses.append(np.array([getattr(each, reduction)().item()]))
    assert row["preference"] == pytest.approx(preference_log_odds(*losses)[0], abs=1e-4)
    assert row["utility"] == pytest.approx(utility_log_odds(*losses)[0], abs=1e-4)
    assert row["share"] * torch.cat(sizes).median().item() == pytest.approx(0.5, rel=1e-5)


def test_a_target_is_drawn_from_those_that_are_far(
    loaded: tuple[PreTrainedModel, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {0: 0.1, 1: 0.9, 2: 0.1, 3: 0.2}
    monkeypatch.setattr(moves, "natural_moves", lambda own, towards: towards[0][0].pair)
    monkeypatch.setattr(moves, "push_of", lambda own, target, bos: whole[target])
    monkeypatch.setattr(moves, "with_moves", lambda tokenizer, own, target, rng: target)
    monkeypatch.setattr(moves, "_after", lambda replay, target, *rest: pd.DataFrame({"target": [target]}))
    manifold = reference.layer_manifold("tiny", PROFILE)
    found = moves.moves_table(*loaded, PAIRS, LAYER, manifold)
    # the second one is the only one far away, and has to take the farthest of the others
    assert found.to_numpy().tolist() == [[0, 1], [1, 3], [2, 1], [3, 1]]


def test_one_question_has_nowhere_to_move(loaded: tuple[PreTrainedModel, Any]) -> None:
    manifold = reference.layer_manifold("tiny", PROFILE)
    with pytest.raises(ValueError, match="pair 0 has nowhere to move"):
        moves.moves_table(*loaded, PAIRS[:1], LAYER, manifold)


def test_the_manifold_is_that_of_the_geometry(loaded: tuple[PreTrainedModel, Any]) -> None:
    ours = reference.layer_manifold("tiny", PROFILE)
    theirs = reference.nature("tiny", PROFILE).manifolds["layer"]
    np.testing.assert_array_equal(ours.reference, theirs.reference)
    assert ours.scale == theirs.scale


def test_c9_judges_the_moves(monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 50)
    three = (left_out(0.3, 0.2, n=5), table, angles(0.05, n=5))
    judged = decide_c9(*(one.assign(model="tiny") for one in three))
    assert judged.verdicts[["claim", "model", "task"]].to_numpy().tolist() == [["C9", "tiny", "psychopathy"]]
    assert judged.tests["n_units"].tolist() == [5, 5, 4, 5]
