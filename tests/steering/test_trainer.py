"""Rows: one recording for several trainings changes no bit, and is never taken for another's."""

import pytest
import torch

from splitkit.runs import answers
from splitkit.runs.profiles import PROFILES
from splitkit.steering import model_files, trainer
from splitkit.steering.sweeps import matching_strength
from splitkit.steering.trainer import SharedRows
from splitkit.steering.training import train
from tests.conftest import LAYER, tiny_model, tiny_tokenizer

FORMS = ["vector", "lora", "local_weight"]


def trained(
    model, pairs, form: str, shared: SharedRows | None, layer: int = LAYER
) -> dict[str, torch.Tensor]:
    found = train(model, tiny_tokenizer(), pairs, form, "reps", layer, lr=0.02, epochs=1, shared=shared)
    return found.parameters


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sequences were recorded, one number per recording."""
    seen: list[int] = []
    record = trainer.record_rows

    def counted(replay, tokenizer, sequences, *rest):
        seen.append(len(sequences))
        return record(replay, tokenizer, sequences, *rest)

    monkeypatch.setattr(trainer, "record_rows", counted)
    return seen


@pytest.mark.parametrize("model", ["gemma2", "qwen2"])
def test_trainings_that_share_rows_are_the_same_to_the_last_bit(model, pairs, recordings) -> None:
    base, shared = tiny_model(model), SharedRows()
    for form in FORMS[::-1]:
        own, other = trained(base, pairs, form, None), trained(base, pairs, form, shared)
        assert all(torch.equal(own[name], other[name]) for name in own)
    # each on its own, and the weight forms' recording serves the vector too
    assert len(recordings) == len(FORMS) + 1


def test_a_vectors_rows_do_not_serve_a_weight_form(pairs, recordings) -> None:
    base, shared = tiny_model("gemma2"), SharedRows()
    for form in FORMS:
        trained(base, pairs, form, shared)
    assert len(recordings) == 2


def test_another_model_layer_or_pair_is_recorded_anew(pairs, recordings) -> None:
    base, shared = tiny_model("gemma2"), SharedRows()
    trained(base, pairs, "lora", shared)
    trained(base, pairs[:-1], "lora", shared)
    trained(base, pairs[:-1], "lora", shared, layer=LAYER - 1)
    trained(tiny_model("gemma2"), pairs[:-1], "lora", shared, layer=LAYER - 1)
    assert len(recordings) == 4


def test_the_unit_needs_no_recording_beside_a_trainings(pairs, form, sided_tokenizer, recordings) -> None:
    base, shared = tiny_model("gemma2"), SharedRows()
    iv = train(base, sided_tokenizer, pairs, form, "sft", LAYER, epochs=1, shared=shared)
    unit = matching_strength(base, sided_tokenizer, iv, pairs, shared=shared)
    assert unit == matching_strength(base, sided_tokenizer, iv, pairs)
    assert len(recordings) == 1


def test_too_many_rows_are_not_held(pairs, recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "MOST", 0)
    base, shared = tiny_model("gemma2"), SharedRows()
    own = trained(base, pairs, "lora", None)
    for _ in range(2):
        assert torch.equal(trained(base, pairs, "lora", shared)["B"], own["B"])
    assert len(recordings) == 3


@pytest.mark.parametrize("form", ["lora", "vector"])
def test_a_step_in_groups_is_the_step_at_once(form, pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    base, sizes = tiny_model("gemma2"), []
    replayed = trainer.Trainer._replayed

    def counted(self, rows, *rest):
        sizes.append(len(rows))
        return replayed(self, rows, *rest)

    monkeypatch.setattr(trainer.Trainer, "_replayed", counted)
    expected = trained(base, pairs, form, None)
    assert sizes == [4 * len(pairs)]
    monkeypatch.setattr(trainer, "tokens_that_fit", lambda model, differentiated: 300)
    found = trained(base, pairs, form, None)
    assert len(sizes) > 3 and sum(sizes[1:]) == sizes[0]
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-5)


def test_a_shipped_model_and_its_rows_are_held_until_it_is_another(pairs, monkeypatch) -> None:
    monkeypatch.setattr(answers, "_held", {})
    profile, name = PROFILES["smoke"], "tiny-qwen2"
    model, tokenizer = answers.load(profile, name)
    train(model, tokenizer, pairs, "lora", "sft", epochs=1, shared=answers.shared_rows())
    assert answers.load(profile, name)[0] is model
    assert answers.shared_rows()._model is model
    # trained anew, or another one asked for
    monkeypatch.setattr(model_files, "named_model_digest", lambda name: "another")
    assert answers.load(profile, name)[0] is not model
    assert answers.shared_rows()._model is None
