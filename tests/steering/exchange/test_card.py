"""A model card: YAML head, the curves' numbers, the strength, limits."""

import yaml

from splitkit.curves.operating_point import operating_point
from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import sweep
from tests.conftest import random_intervention, tiny_model


def test_a_card_has_numbers_a_strength_and_limits(tokenizer, pairs: list[Pair]) -> None:
    model = tiny_model("qwen2")
    iv = random_intervention(model, "vector")
    table = sweep(model, tokenizer, iv, pairs, m=[-1.0, 0.0, 1.0], reduction="sum")
    text = iv.card(table, base_model="owner/name: one", limits=["Only ever tried on five pairs."])
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "base_model": "owner/name: one",
        "library_name": "splitkit",
        "tags": ["steering", "vector"],
    }
    point = operating_point(table)
    assert f"m = {point.m:.6g}. {point.reason}" in body
    means = table.groupby("m")["preference"].mean()
    assert [
        line.split(" | ")[1] for line in body.splitlines() if line.startswith(("| -1", "| 0", "| 1"))
    ] == [f"{means[m]:.4g}" for m in (-1.0, 0.0, 1.0)]
    assert "Only ever tried on five pairs." in body
    assert iv.base_digest in body


def test_a_card_without_a_sweep_recommends_nothing() -> None:
    model = tiny_model("qwen2")
    both = random_intervention(model, "lora") + random_intervention(model, "vector", 2)
    assert "None was chosen" in both.card()
    assert "m = 2. By eye." in both.card(m=2.0, reason="By eye.")
