"""Sweeps: losses of every pair at 41 strengths, beside five other ways to get them."""

import pytest
import torch

import splitkit as sk
from splitkit.steering.tokenization import encode_pairs
from tests.benchmarks.racing import Race, Way
from tests.benchmarks.rivals import (
    LAYER,
    Hooks,
    Library,
    Peft,
    answer_losses,
    batched,
    full_losses,
    losses_at,
    official_losses,
)

STRENGTHS, PAIRS = 41, 16
MEASURED = (10, 35)
"""Where on the grid the slower ways are measured; a strength costs them the same wherever it is."""


@pytest.mark.parametrize("form", ["vector", "lora"])
def test_sweep(race: Race, loaded, name: str, form: str) -> None:
    model, tokenizer = loaded
    pairs = sk.load_pairs("axbench/ocean", "train")[:PAIRS]
    settings = {"objective": "diffmean"} if form == "vector" else {"objective": "sft", "epochs": 2}
    iv = sk.train(model, tokenizer, pairs, form=form, layer=LAYER, **settings)
    unit = sk.matching_strength(model, tokenizer, iv, pairs)
    grid = [unit * r / 10 for r in range(-20, 21)]
    chosen = [grid[place] for place in MEASURED]
    positive, negative = encode_pairs(model, tokenizer, pairs)
    sequences = [*positive, *negative]
    batches = batched(sequences)
    hooks = Hooks(model, LAYER, form, iv.parameters)
    library = (Library if form == "vector" else Peft)(model, LAYER, form, iv.parameters)

    table = sk.sweep(model, tokenizer, iv, pairs, grid)
    columns = ["loss_positive", "loss_negative"]
    expected = torch.tensor(
        [table.loc[table["m"] == m, columns].to_numpy().T.ravel() for m in chosen]
    ).float()  # (m, row)
    for steering in (hooks, library):
        for losses in (full_losses, answer_losses):
            found = losses_at(steering, batches, chosen, len(sequences), losses)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    @torch.no_grad()
    def plain(losses):
        for _ in chosen:
            for batch in batches:
                losses(model, batch)

    def looped(steering, losses):
        return lambda: losses_at(steering, batches, chosen, len(sequences), losses)

    part = len(chosen) / STRENGTHS
    package = "steering-vectors" if form == "vector" else "peft"
    race.run(
        lambda: sk.sweep(model, tokenizer, iv, pairs, grid),
        {
            "plain forward, head at answers": Way(
                lambda: plain(answer_losses), part, ("ratio", ">=", 1 / 0.35)
            ),
            "plain forward, all logits": Way(lambda: plain(full_losses), part, ("ratio", ">=", 1 / 0.35)),
            "hook loop": Way(looped(hooks, full_losses), part),
            package: Way(looped(library, full_losses), part),
            "16 single passes (official)": Way(
                lambda: official_losses(hooks, sequences, [0, PAIRS], chosen[0]),
                1 / (PAIRS * STRENGTHS),
                ("ratio", ">=", 80),
            ),
        },
        benchmark="sweep",
        model=name,
        case=form,
    )
