"""The dial in a notebook writes the answer of its strength and marks it in the curves."""

import re
from html import escape

import pytest

import splitkit as sk

ipywidgets = pytest.importorskip("ipywidgets", reason="the extra [live] is not installed")


def test_a_move_of_the_dial_writes_the_answer_of_that_strength() -> None:
    from splitkit.plots.dial import dial

    model, tokenizer = sk.load_model("tiny-qwen2")
    pairs = sk.load_pairs("axbench/ocean", split="train")[:2]
    vector = sk.train(model, tokenizer, pairs, form="vector", objective="diffmean")
    unit, question = sk.matching_strength(model, tokenizer, vector, pairs), pairs[0].question
    box = dial(model, tokenizer, vector, pairs, question, reach=2.0, strengths=9, max_new_tokens=8)
    slider, answer, curves = box.children
    marks = []
    for m in (0.0, 2.0):
        slider.value = m
        (text,) = sk.answers(model, tokenizer, [question], intervention=vector, m=unit * m, max_new_tokens=8)
        assert escape(text) in answer.value
        assert f"measured at m = {m:.2f}:" in curves.value
        marks.append(float(re.search(r"left:([\d.]+)%", curves.value)[1]))
    assert 45 < marks[0] < 62 and 90 < marks[1] < 100
