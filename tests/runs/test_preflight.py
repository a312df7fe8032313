"""Preflight: the requests that the judge's budget is compared with, counted by hand."""

import psutil
import pytest

from splitkit.runs.preflight import _check_memory, judge_requests
from splitkit.runs.profiles import Cell, get_profile

MODEL = "google/gemma-2-9b-it"
PAPER = get_profile("paper")


def test_requests_by_hand() -> None:
    """14 strengths of 8 questions and 8 at the chosen one, by three rubrics; unsteered once, for diffmean."""
    concept = PAPER.tasks[2]
    assert judge_requests(Cell(MODEL, concept, "lora", "split"), PAPER) == (14 * 8 + 8) * 3
    assert judge_requests(Cell(MODEL, concept, "vector", "diffmean"), PAPER) == (14 * 8 + 16) * 3


def test_nobody_is_asked_about_yes_and_no_or_the_world() -> None:
    assert judge_requests(Cell(MODEL, "paper/psychopathy", "lora", "split"), PAPER) == 0
    assert judge_requests(get_profile("embedded").cells()[0], get_profile("embedded")) == 0


def test_too_little_memory_is_told_before_any_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    small = get_profile("small")
    cell = next(c for c in small.cells() if c.model.startswith("Qwen") and c.task == "paper/powerseeking")
    free = psutil.virtual_memory()._replace(available=3 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    _check_memory(small, [(cell, "curves")])
    # 630 and 268 million numbers of four bytes
    with pytest.raises(MemoryError, match=r"Gemma-3-270M and Qwen2\.5.*take 3\.3 GiB .* 3\.0 GiB are free"):
        _check_memory(small, [(cell, "answers")])
