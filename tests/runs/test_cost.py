"""Costs by hand: a cell's tokens and requests, hours, and the command line, on made data."""

from dataclasses import replace
from pathlib import Path

import pytest

from splitkit.runs import cost, work
from splitkit.runs.profiles import Cell, get_profile
from splitkit.runs.work import Lengths, Work, cell_work, judge_requests, lengths
from tests import madedata

MODEL = "google/gemma-2-9b-it"
PAPER = get_profile("paper")


@pytest.fixture(autouse=True)
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    madedata.install(monkeypatch, tmp_path, madedata.made())


def test_a_cell_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 pairs for 12 epochs, two sides, no mirrored direction; 16 pairs swept; 8 + 8 questions answered."""
    cell = Cell(MODEL, PAPER.tasks[2], "lora", "split")
    found = cell_work(cell, PAPER, Lengths(prompt=30.0, answer=70.0), tail=0.5)
    recorded = (64 + 64) * 200 * 0.5
    trained = 12 * 64 * 200 * 0.5 * 2
    swept = 2 * 16 * (200 * 0.5 + 170 * 41 * 0.5)  # the prompt once for both answers
    answered = 14 * 8 + 8
    assert found.forward == pytest.approx(recorded + trained + swept + answered * 30)
    assert found.generated == answered * 128
    assert found.requests == judge_requests(cell, PAPER) == answered * 3
    monkeypatch.setattr(work, "UNIT_PAIRS", 32)
    fewer = cell_work(cell, PAPER, Lengths(prompt=30.0, answer=70.0), tail=0.5)
    assert found.forward - fewer.forward == pytest.approx(32 * 200 * 0.5)


@pytest.mark.parametrize("objective", ["reps", "dpo", "split", "sft"])
def test_a_reference_is_one_more_pass_forward(objective: str) -> None:
    """Once through all pairs where the loss needs it, beside forward and backward of each epoch."""
    of = replace(
        PAPER, answered=(), curve_seeds={"axbench": 0}, overrides={"epochs": 2, "negative": "negated"}
    )
    found = cell_work(Cell(MODEL, PAPER.tasks[2], "vector", objective), of, Lengths(30.0, 70.0), tail=0.25)
    recorded = (64 + 64) * 200 * 0.75
    trained = 2 * 64 * 2 * 200 * 0.25 * 2 * (0.5 if objective == "sft" else 1)
    reference = 64 * 200 * 0.25 if objective in ("reps", "dpo") else 0
    assert found.forward == pytest.approx(recorded + trained + reference)


def test_nobody_is_asked_about_yes_and_no_or_the_world() -> None:
    assert judge_requests(Cell(MODEL, "paper/psychopathy", "lora", "split"), PAPER) == 0
    assert judge_requests(get_profile("embedded").cells()[0], get_profile("embedded")) == 0


def test_hours_are_tokens_by_throughput() -> None:
    assert Work(forward=7200.0, generated=360.0).hours(2.0, 0.1) == pytest.approx(2.0)


def test_lengths_are_counted_by_a_tokenizer_or_by_characters() -> None:
    class Letters:
        def __call__(self, texts: list[str], add_special_tokens: bool) -> dict[str, list[list[int]]]:
            return {"input_ids": [list(range(len(text))) for text in texts]}

    by_letters, by_quarter = lengths("paper/powerseeking", Letters()), lengths("paper/powerseeking")
    assert by_letters.answer - 1 == pytest.approx(4 * (by_quarter.answer - 1))


def test_the_whole_of_a_profile_and_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    one = replace(PAPER, models=(MODEL,), seeds=(0,))
    table = cost.estimate_cost(one).set_index("part")
    assert table.loc["cells", "cells"] == 156
    assert table.loc["few pairs", "cells"] == 40
    many = cost.concepts_cost(one, 500)
    assert many["cells"].tolist() == [6000]
    assert cost.main(["--profile", "paper", "--model", MODEL, "--tokens-per-second", "1000"]) == 0
    slow = capsys.readouterr().out
    assert cost.main(["--profile", "paper", "--model", MODEL, "--concepts", "500"]) == 0
    assert "(assumed)" in slow and "6,000" in capsys.readouterr().out


def test_missing_data_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("SPLITKIT_DATA", str(tmp_path / "nowhere"))
    assert cost.main(["--profile", "paper", "--model", MODEL]) == 1
    said = capsys.readouterr()
    assert "no cost was counted" in said.err and "nowhere" in said.err and not said.out
