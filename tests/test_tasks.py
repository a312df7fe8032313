"""Tasks: their pairs, their families, and a family of a reader's own."""

import pytest

from splitkit.steering.pairs import Pair
from splitkit.tasks import load_pairs


def test_unknown_tasks_and_splits_list_the_choices() -> None:
    with pytest.raises(ValueError, match="psychopathy, powerseeking, axbench/"):
        load_pairs("sociopathy")
    with pytest.raises(ValueError, match="train, validation, test"):
        load_pairs("psychopathy", "dev")


def test_pairs_of_the_world_are_pairs() -> None:
    pairs = load_pairs("psychopathy")
    assert isinstance(pairs[0], Pair)
    assert pairs == load_pairs("psychopathy", split="train")
    assert {pair.question for pair in pairs}.isdisjoint(p.question for p in load_pairs("psychopathy", "test"))
