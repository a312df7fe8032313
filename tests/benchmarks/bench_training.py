"""Training: SPLIT on 16 pairs, beside loops over the whole model that have the same losses step by step."""

from dataclasses import replace

import pytest

import splitkit as sk
from splitkit.steering.objectives import OBJECTIVES
from splitkit.steering.tokenization import encode_pairs
from splitkit.steering.training import default_config
from tests.benchmarks.racing import Race, Way
from tests.benchmarks.rivals import LAYER, Hooks, Peft, answer_losses
from tests.benchmarks.rivaltraining import train_split

PAIRS, EPOCHS, LOOPED = 16, 4, 1
"""The loops are measured over one epoch: they have nothing that is done once for all epochs."""


@pytest.mark.parametrize("form", ["vector", "lora"])
def test_training(race: Race, loaded, name: str, form: str) -> None:
    model, tokenizer = loaded
    pairs = sk.load_pairs("axbench/ocean", "train")[:PAIRS]
    weights = dict(OBJECTIVES["split"].defaults)
    config = replace(default_config(form, "split"), epochs=EPOCHS, weights=weights)

    def encoded(some):
        positive, negative = encode_pairs(model, tokenizer, some)
        return [*positive, *negative]

    def ours(some, settings):
        return sk.train(model, tokenizer, some, form=form, objective="split", layer=LAYER, config=settings)

    def loop(settings, some=pairs, kind=Hooks, **how):
        return train_split(kind, model, encoded(some), form, LAYER, settings, **how)

    # one step an epoch, so that each step's loss is an epoch's; without dropout there is nothing else to draw
    few = pairs[:4]
    exact = replace(config, dropout=0.0, epochs=5, batch_size=4)
    steps = ours(few, exact).details["losses"]
    assert len(steps) == 5
    for how in ({}, {"losses": answer_losses}, {"official": True}):
        assert loop(exact, few, **how) == pytest.approx(steps, abs=1e-5, rel=0)

    def hooked(*args):
        return Hooks(*args, dropout=config.dropout)

    short, part = replace(config, epochs=LOOPED), LOOPED / EPOCHS
    others = {
        "hook loop, head at answers": Way(lambda: loop(short, kind=hooked, losses=answer_losses), part),
        "hook loop": Way(lambda: loop(short, kind=hooked), part, ("ratio", ">=", 1.8)),
        "8 passes of batch 4 (official)": Way(
            lambda: loop(short, kind=hooked, official=True), part, ("ratio", ">=", 5)
        ),
    }
    if form == "lora":
        assert loop(exact, few, kind=Peft) == pytest.approx(steps, abs=1e-5, rel=0)
        others["peft"] = Way(lambda: loop(replace(short, dropout=0.0), kind=Peft), part)
    race.run(lambda: ours(pairs, config), others, benchmark="training", model=name, case=form)
