"""Samples are the answers that the rule names, readable as Markdown."""

from types import SimpleNamespace
from typing import cast

import pandas as pd
import pytest

from splitkit.runs.cells import CellResult
from splitkit.runs.profiles import Cell
from splitkit.runs.world_answers import STRENGTHS
from splitkit.studies import samples


def table() -> pd.DataFrame:
    key = {"model": "a", "task": "axbench/ocean", "question": "Write a poem.", "score": 1.5}
    rows = [
        key | {"form": "lora", "objective": "split", "m_relative": 2.0, "answer": "A wave | of\nfog."},
        key | {"form": "lora", "objective": "split", "m_relative": 0.5, "answer": ""},
        key | {"form": "lora", "objective": "sft", "m_relative": 0.5, "answer": "Other."},
        key | {"form": "vanilla", "objective": "vanilla", "m_relative": 0.0, "answer": "A lamp."},
    ]
    return pd.DataFrame(rows)


def test_answers_go_by_strength_after_the_unsteered() -> None:
    rows = samples.sample_answers(table(), "a", "axbench/ocean", "lora", "split")
    assert rows["m_relative"].tolist() == [0.0, 0.5, 2.0]
    assert rows["answer"].tolist() == ["A lamp.", "", "A wave | of\nfog."]
    with pytest.raises(KeyError, match="no samples of a axbench/ocean vector split; there are .*lora sft"):
        samples.sample_answers(table(), "a", "axbench/ocean", "vector", "split")


def test_markdown_holds_one_line_per_answer() -> None:
    text = samples.as_markdown(samples.sample_answers(table(), "a", "axbench/ocean", "lora", "split"))
    lines = text.splitlines()
    assert lines[0] == "**Write a poem.**" and len(lines) == 7
    assert lines[5] == "| 0.5 | 1.50 | (says nothing) |"
    assert lines[6] == "| 2 | 1.50 | A **wave** \\| of fog. |"


def test_of_a_cell_the_first_question_at_the_strengths_shown() -> None:
    unit = 0.3
    answers = pd.DataFrame(
        {"m": unit * m, "question": q, "text": f"{m:g} {q}", "score": 1.0} for m in STRENGTHS for q in (0, 1)
    )
    cell = Cell("a", "axbench/ocean", "lora", "split", 0)
    result = SimpleNamespace(cell=cell, unit=unit, answers=lambda split: answers)
    rows = samples._steered(cast(CellResult, result))
    assert rows["m_relative"].tolist() == list(samples.SHOWN)
    assert rows["text"].tolist() == [f"{m:g} 0" for m in samples.SHOWN]
    assert set(rows["task"]) == {"axbench/ocean"} and "seed" not in rows


def test_the_strengths_shown_are_among_those_tried() -> None:
    assert set(samples.SHOWN) <= set(STRENGTHS)
