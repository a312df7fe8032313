"""The shipped models are good enough to steer, measured from the shipped weights."""

import json

import pytest
import torch

from splitkit.steering.formats.shipped import MODELS
from splitkit.steering.models import load_model
from splitkit.world.quality import BOUNDS, failures, measure


@pytest.mark.parametrize("name", MODELS)
def test_shipped_model_is_good_enough_and_its_card_says_so(name: str) -> None:
    torch.set_num_threads(1)
    measured = measure(*load_model(name))
    assert failures(measured) == []
    card = json.loads((MODELS[name].folder / "splitkit.json").read_text(encoding="utf-8"))["quality"]
    # two greedy answers of a hundred may turn out otherwise on another processor
    assert card == pytest.approx(measured, abs=0.02)


def test_every_bound_can_fail() -> None:
    good = {name: (low + high) / 2 for name, (low, high) in BOUNDS.items()}
    assert failures(good) == []
    for name, (low, high) in BOUNDS.items():
        for value in (low - 0.01, high + 0.01):
            assert [f.split()[0] for f in failures({**good, name: value})] == [name]


@pytest.mark.parametrize("name", MODELS)
def test_shipped_files_are_small_and_no_pickles(name: str) -> None:
    files = [f for f in MODELS[name].folder.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files if f.suffix == ".safetensors") <= 8_000_000
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".jinja", ".md"}
