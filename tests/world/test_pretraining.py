"""Pretraining goes on where it was killed, bit for bit, and what it ships can be loaded and checked."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from splitkit.world import model_card, pretraining
from splitkit.world.pretraining import RECIPES, batch_of_step, build_tokenizer, learning_rate, pretrain

NAME = "tiny-gemma2"
SMALL = replace(RECIPES[NAME], steps=6, settling=2, batch_size=2, vocabulary=400, warmup=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(RECIPES, NAME, SMALL)
    monkeypatch.setattr(pretraining, "CACHE", tmp_path)


def test_a_killed_run_ends_where_an_undisturbed_one_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    undisturbed, _ = pretrain(NAME, checkpoint_every=100, progress=False)
    real = pretraining.batch_of_step

    def killed(step: int, *rest: object) -> object:
        if step == 5:
            raise KeyboardInterrupt
        return real(step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pretraining, "batch_of_step", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(NAME, checkpoint_every=2, progress=False)
    assert [file.suffix for file in (tmp_path / "pretraining").iterdir()] == [".safetensors"]
    monkeypatch.setattr(pretraining, "batch_of_step", real)
    resumed, _ = pretrain(NAME, checkpoint_every=2, progress=False)
    for (name, one), (_, other) in zip(
        undisturbed.named_parameters(), resumed.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name


def test_another_recipe_world_or_code_goes_on_from_no_old_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, _ = pretrain(NAME, checkpoint_every=2, progress=False)
    for other in ({"peak_lr": 1e-3}, {"seed": 1}):
        monkeypatch.setitem(RECIPES, NAME, replace(SMALL, **other))
        second, _ = pretrain(NAME, checkpoint_every=2, progress=False)
        assert any(
            not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
        )
    before = pretraining.checkpoint_file(NAME)
    for what in ("data_digest", "code_digest"):
        with monkeypatch.context() as patched:
            patched.setattr(pretraining, what, lambda *_: "another")
            assert pretraining.checkpoint_file(NAME) != before


def test_only_a_good_model_replaces_the_one_there_was_and_the_next_run_trains_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pretraining, "MODELS", tmp_path / "models")
    monkeypatch.setattr("sys.argv", ["pretraining", NAME])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    real = pretraining.pretrain
    monkeypatch.setattr(pretraining, "pretrain", lambda name: real(name, checkpoint_every=2, progress=False))
    quality = {key: sum(bounds) / 2 for key, bounds in model_card.BOUNDS.items()}
    monkeypatch.setattr(model_card, "measure", lambda *_: quality | {"fluent": 0.1})
    folder = tmp_path / "models" / NAME
    folder.mkdir(parents=True)
    (folder / "old").write_text("the one there was")
    with pytest.raises(SystemExit, match="not good enough to steer: fluent"):
        pretraining.main()
    assert [path.name for path in (tmp_path / "models").rglob("*")] == [NAME, "old"]
    assert pretraining.checkpoint_file(NAME).exists()
    monkeypatch.setattr(model_card, "measure", lambda *_: quality)
    pretraining.main()
    there = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "splitkit.json", "README.md"} < there and "old" not in there
    assert not list((tmp_path / "pretraining").iterdir())


def test_labels_are_the_answer_and_its_end() -> None:
    tokenizer = build_tokenizer(SMALL, documents=50)
    ids, mask, labels = batch_of_step(3, SMALL, tokenizer)
    assert ids.shape == mask.shape == labels.shape
    for row in range(len(ids)):
        answer = labels[row] != -100
        assert torch.equal(ids[row][answer], labels[row][answer])
        text = tokenizer.decode(ids[row][answer])
        assert text.endswith("<end_of_turn>")
        assert tokenizer.decode(ids[row][: int(answer.nonzero()[0])]).endswith("<start_of_turn>model\n")
        assert not answer[mask[row] == 0].any()


def test_any_text_can_be_encoded() -> None:
    tokenizer = build_tokenizer(SMALL, documents=50)
    text = "Ünïcode ✓, 数字 and\ttabs"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(step, SMALL) for step in range(SMALL.steps)]
    assert max(rates) == pytest.approx(SMALL.peak_lr)
    assert rates[0] == SMALL.peak_lr / 2
    assert rates[2:] == sorted(rates[2:], reverse=True)
    settling = [learning_rate(SMALL.steps + step, SMALL) for step in range(SMALL.settling)]
    assert settling == pytest.approx([0.1 * SMALL.peak_lr, 0.05 * SMALL.peak_lr])


def test_unknown_model_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="unknown embedded model 'gpt'; there is: tiny-gemma2"):
        pretrain("gpt")
