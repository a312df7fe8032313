"""Training: the replayed loop against a hooked one written by hand, seeds, settings and bad input."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from splitkit.steering.generation import answers
from splitkit.steering.interventions import load_intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.objectives import CLOSED, CONTROLS, OBJECTIVES
from splitkit.steering.prompts.settings import bos_ids
from splitkit.steering.sweeps import matching_strength, sweep
from splitkit.steering.tokenization import answer_ids, prompt_ids
from splitkit.steering.trainer import Trainer
from splitkit.steering.training import TrainConfig, default_config, train
from tests.conftest import LAYER, random_intervention, tiny_model, tiny_tokenizer

FACTOR = 1.5
CONFIG = TrainConfig(lr=0.02, epochs=4, batch_size=5, dropout=0.0, factor_min=FACTOR, factor_max=FACTOR)


def hooked_losses(model, tokenizer, pairs, form, objective, start, config) -> list[float]:
    """Full-batch training through hooks on the whole model, one unpadded sequence at a time."""
    values = {name: p.clone().requires_grad_() for name, p in start.items()}
    optimizer = torch.optim.AdamW(values.values(), lr=config.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=config.epochs)
    weights = OBJECTIVES[objective].defaults

    def loss_of(pair, answer, m) -> tuple[torch.Tensor, int]:
        prompt, target = prompt_ids(tokenizer, pair.question), answer_ids(tokenizer, answer)
        acts = torch.tensor([0.0] + [1.0] * (len(prompt + target) - 1))[:, None]

        def steer(module, args, output):
            x = args[0]
            if form == "vector":
                return output + m * acts * values["vector"]
            if form == "lora":
                return output + m * acts * (x @ values["A"].T @ values["B"].T)
            return output + m * acts * (x @ values["weight"].T + values["bias"])

        layer = model.model.layers[LAYER]
        handle = (layer if form == "vector" else layer.mlp.down_proj).register_forward_hook(steer)
        logits = model(torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
        handle.remove()
        return functional.cross_entropy(logits, torch.tensor(target)), len(target)

    history = []
    for _ in range(config.epochs):
        losses = []
        for sign in (1.0, -1.0):
            for pair in pairs:
                winner, loser = pair.positive, pair.negative
                if sign < 0:
                    winner, loser = loser, winner
                (won, n_won), (lost, n_lost) = (loss_of(pair, a, sign * FACTOR) for a in (winner, loser))
                if objective == "sft":
                    losses.append(won)
                elif objective == "split":
                    margin = torch.relu(weights["theta"] - (lost - won))
                    losses.append(
                        weights["lambda_p"] * won + weights["lambda_n"] * lost + weights["gamma"] * margin
                    )
                else:
                    with torch.no_grad():
                        base_won, base_lost = (loss_of(pair, a, 0.0)[0] for a in (winner, loser))
                    if objective == "dpo":
                        gained, other = n_won * (base_won - won), n_lost * (base_lost - lost)
                        losses.append(-functional.logsigmoid(weights["beta"] * (gained - other)))
                        continue
                    scale = max(float(n_won * base_won - n_lost * base_lost), 1.0)
                    losses.append(-functional.logsigmoid(-scale * won + lost))
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward(inputs=list(values.values()))
        torch.nn.utils.clip_grad_norm_(values.values(), 1.0)
        optimizer.step()
        schedule.step()
        history.append(loss.item())
    return history


@pytest.mark.parametrize(
    ("objective", "side"), [("sft", "left"), ("reps", "right"), ("dpo", "left"), ("split", "left")]
)
def test_equals_the_hooked_loop_step_by_step(model, form, objective, side, pairs) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    trainer = Trainer(model, tokenizer, pairs, form, objective, LAYER, 3, CONFIG)
    start = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    found = list(trainer)
    expected = hooked_losses(model, tokenizer, pairs, form, objective, start, CONFIG)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-5)
    assert found[-1] < found[0]


def test_same_seed_same_bits_and_nothing_global(form, tokenizer, pairs) -> None:
    model, options = tiny_model("gemma2"), dict(form=form, objective="split", epochs=2, batch_size=2)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    one, two = (train(model, tokenizer, pairs, seed=5, **options) for _ in range(2))
    other = train(model, tokenizer, pairs, seed=6, **options)
    assert torch.equal(torch.get_rng_state(), state)
    for name, values in one.parameters.items():
        assert torch.equal(values, two.parameters[name])
        assert not torch.equal(values, other.parameters[name])


def test_a_drawn_direction_is_one_of_the_two_at_each_step(tokenizer, pairs) -> None:
    config = TrainConfig(lr=1e-9, epochs=40, batch_size=len(pairs), dropout=0.0, negative="drawn")
    trainer = Trainer(tiny_model("qwen2"), tokenizer, pairs, "vector", "dpo", LAYER, 0, config)
    drawn = [trainer._directions() for _ in range(40)]
    assert {tuple(one) for one in drawn} == {((0, 1.0),), ((1, -1.0),)}
    assert default_config("vector", "dpo").negative == "drawn"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_with_mirrored_pairs_and_without(tokenizer, pairs, objective) -> None:
    model, settings = tiny_model("qwen2"), {"epochs": 3, "dropout": 0.0, "lr": 0.05}
    vectors, losses = {}, {}
    for negative in ("none", "negated"):
        iv = train(model, tokenizer, pairs, "vector", objective, layer=LAYER, negative=negative, **settings)
        vectors[negative], losses[negative] = iv.parameters["vector"], iv.details["losses"]
    assert all(values[-1] < values[0] for values in losses.values()) and iv.details["config"]["negative"]
    assert not torch.equal(*vectors.values())
    # without them only the first answer of a pair is ever the winner: SFT does not see the other one
    blank = [replace(pair, negative=pair.negative + "!") for pair in pairs]
    again = train(model, tokenizer, blank, "vector", objective, layer=LAYER, negative="none", **settings)
    assert torch.equal(again.parameters["vector"], vectors["none"]) == (objective == "sft")


def test_the_base_model_stays_as_it_was(model, form, tokenizer, pairs) -> None:
    digest, flags = model_digest(model), [p.requires_grad for p in model.parameters()]
    iv = train(model, tokenizer, pairs, form, "sft", layer=2, epochs=1)
    assert iv.layer == 2 and iv.base_digest == digest == model_digest(model)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert iv.details["config"]["epochs"] == 1 and len(iv.details["losses"]) == 1


@pytest.mark.parametrize("objective", ["sft", "reps", "dpo", "split"])
def test_what_is_trained_raises_preference(form, objective, tokenizer, pairs) -> None:
    model = tiny_model("qwen2")
    iv = train(model, tokenizer, pairs, form, objective, config=CONFIG, lr=0.05, epochs=15)
    preference = (
        sweep(model, tokenizer, iv, pairs, m=[-FACTOR, 0.0, FACTOR]).groupby("m")["preference"].mean()
    )
    assert preference.is_monotonic_increasing


def test_diffmean_is_the_difference_of_means(model, tokenizer, pairs) -> None:
    iv = train(model, tokenizer, pairs, "vector", "diffmean")
    means = []
    for side in ("positive", "negative"):
        seen = []
        for pair in pairs:
            prompt, answer = prompt_ids(tokenizer, pair.question), answer_ids(tokenizer, getattr(pair, side))
            states = model(torch.tensor([prompt + answer]), output_hidden_states=True).hidden_states
            seen.append(states[LAYER + 1][0, len(prompt) :])
        means.append(torch.cat(seen).mean(0))
    torch.testing.assert_close(iv.parameters["vector"], means[0] - means[1], rtol=1e-4, atol=1e-5)


def test_controls_are_drawn_by_seed_and_task(tokenizer, pairs) -> None:
    model = tiny_model("llama")
    drawn = [train(model, tokenizer, pairs, "vector", name, seed=3) for name in CONTROLS for _ in range(2)]
    random, again, natural, same = (iv.parameters["vector"] for iv in drawn)
    assert torch.equal(random, again) and torch.equal(natural, same) and drawn[0].details["seed"] == 3
    assert random.norm().item() == pytest.approx(1)
    others = [train(model, tokenizer, pairs, "vector", "random", seed=4)]
    others.append(train(model, tokenizer, pairs[1:], "vector", "random", seed=3))
    assert not any(torch.equal(random, other.parameters["vector"]) for other in others)
    # natural is the difference of two of the texts without the concept
    means, bos = [], bos_ids(model)
    for pair in pairs:
        ids = [*prompt_ids(tokenizer, pair.question), *answer_ids(tokenizer, pair.negative)]
        states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
        means.append(states[[n for n, token in enumerate(ids) if token not in bos]].mean(0))
    assert min((a - b - natural).abs().max() for a in means for b in means) < 1e-4


def test_factors_are_drawn_evenly_from_first_to_last(tokenizer, pairs) -> None:
    trainer = Trainer(
        tiny_model("llama"), tokenizer, pairs, "vector", "split", 1, 0, default_config("lora", "split")
    )
    drawn = trainer._factors(2, 5000)
    values, counts = drawn.round(decimals=3).unique(return_counts=True)
    torch.testing.assert_close(values, torch.arange(1, 11) * 0.2)
    assert counts.min() > 800
    assert (drawn[0] != drawn[1]).any()


def test_a_zero_factor_has_no_gradient_and_padding_side_no_influence(form, tokenizer, pairs) -> None:
    model = tiny_model("gemma2")
    zero = train(
        model, tokenizer, pairs, form, "sft", config=CONFIG, negative="zero", factor_min=0.0, factor_max=0.0
    )
    assert (
        zero.parameters["B" if form == "lora" else "vector" if form == "vector" else "weight"].abs().max()
        == 0
    )
    left = tiny_tokenizer()
    left.padding_side = "left"
    losses = [
        train(model, side, pairs, form, "split", epochs=2, lr=0.01, dropout=0.3).details["losses"]
        for side in (tokenizer, left)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_diverging_loss_names_step_and_pair(tokenizer, pairs) -> None:
    model = tiny_model("llama")
    with pytest.raises(FloatingPointError, match=r"step [1-9]\d*: the loss of pair \d+ is (nan|inf)"):
        train(model, tokenizer, pairs, "vector", "sft", lr=1e37, epochs=4, factor_min=1e3, factor_max=1e3)


def test_bad_settings_list_what_there_is(tokenizer, pairs) -> None:
    model = tiny_model("llama")
    with pytest.raises(ValueError, match="diffmean, random, natural, sft, reps, split, dpo"):
        train(model, tokenizer, pairs, "vector", "bipo")
    with pytest.raises(ValueError, match="local_weight, lora, vector"):
        train(model, tokenizer, pairs, "matrix", "sft")
    for closed in CLOSED:
        with pytest.raises(
            ValueError, match=f"{closed} is a closed form for the form 'vector', .* or .* sft, reps"
        ):
            train(model, tokenizer, pairs, "lora", closed)
    with pytest.raises(ValueError, match="two questions or more"):
        train(model, tokenizer, pairs[:1], "vector", "natural")
    with pytest.raises(ValueError, match="closed form and has no settings: leave out lr"):
        train(model, tokenizer, pairs, "vector", "diffmean", lr=0.1)
    with pytest.raises(ValueError, match="seed is a whole number of 64 bits"):
        train(model, tokenizer, pairs, "vector", "sft", seed=2**64)
    with pytest.raises(TypeError, match=r"shared is a trainer.SharedRows\(\), not a list"):
        train(model, tokenizer, pairs, "vector", "sft", shared=[])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weights are a dict"):
        TrainConfig(lr=0.1, weights=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learning_rate.*lr, epochs.*gamma"):
        train(model, tokenizer, pairs, "lora", "split", learning_rate=0.1)
    with pytest.raises(ValueError, match="gamma.*for sft no more"):
        train(model, tokenizer, pairs, "lora", "sft", gamma=1.0)
    with pytest.raises(ValueError, match="layers 0 to 2"):
        train(model, tokenizer, pairs, "lora", "sft", layer=3)
    with pytest.raises(ValueError, match="empty"):
        train(model, tokenizer, [], "lora", "sft")
    for bad in (
        {"lr": math.nan},
        {"epochs": 0},
        {"dropout": 1.0},
        {"negative": "no"},
        {"factor_min": 3.0},
        {"lr": "fast"},
        {"rank": None},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            train(model, tokenizer, pairs, "lora", "sft", **bad)
    with pytest.raises(ValueError, match="loss weight gamma must be a finite number, 0 or more, not -1"):
        train(model, tokenizer, pairs, "lora", "split", gamma=-1.0)


@pytest.mark.parametrize("name", ["epochs", "batch_size", "rank"])
@pytest.mark.parametrize("value", [1.5, 2.0, True, "2", None, 0, np.float64(2), math.nan])
def test_what_is_counted_is_a_whole_number(name, value) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number, 1 or more, not "):
        TrainConfig(lr=0.1, **{name: value})


def test_a_trained_intervention_is_saved_with_its_settings(tokenizer, pairs, tmp_path) -> None:
    model = tiny_model("qwen2")
    iv = train(model, tokenizer, pairs, "lora", "split", epochs=1, gamma=3.0, rank=2)
    loaded = load_intervention(iv.save(tmp_path), model)
    assert loaded.details == iv.details and loaded.details["config"]["weights"]["gamma"] == 3.0
    assert loaded.parameters["A"].shape == (2, 48)
    assert random_intervention(model, "lora").details == {}


def test_numpys_numbers_are_numbers(tokenizer, pairs, tmp_path) -> None:
    model = tiny_model("llama")
    plain = dict(layer=1, seed=3, epochs=1, lr=0.25, factor_min=1, gamma=3.0, rank=2)
    kinds = dict(layer=np.int64, seed=np.int64, epochs=np.int64, lr=np.float32, factor_min=np.int8)
    others = {name: kinds.get(name, np.float64)(value) for name, value in plain.items() if name != "rank"}
    one, other = (
        train(model, tokenizer, pairs, "lora", "split", **settings)
        for settings in (plain, others | {"rank": np.uint8(2)})
    )
    assert all(torch.equal(one.parameters[name], p) for name, p in other.parameters.items())
    loaded = load_intervention(other.save(tmp_path), model)
    assert vars(loaded) | {"parameters": 0} == vars(one) | {"parameters": 0}
    with pytest.raises(ValueError, match="seed must be a whole number, not 1.5"):
        train(model, tokenizer, pairs, "lora", "split", seed=1.5)


@pytest.mark.parametrize("config", [{"lr": 0.1}, {}, "fast"])
def test_a_config_of_another_kind_names_train_config(config, tokenizer, pairs) -> None:
    with pytest.raises(TypeError, match=r"config is a (dict|str), not a splitkit.TrainConfig"):
        train(tiny_model("llama"), tokenizer, pairs, "lora", "split", config=config)


@pytest.mark.parametrize("objective", ["split", "diffmean"])
def test_a_base_model_in_another_type_says_how_to_load_it(objective, tokenizer, pairs, tmp_path) -> None:
    settings = {} if objective == "diffmean" else {"epochs": 1}
    half, whole = tiny_model("llama").bfloat16(), tiny_model("llama")
    saved = train(half, tokenizer, pairs, "vector", objective, **settings).save(tmp_path)
    assert load_intervention(saved, half).details["dtype"] == "bfloat16"
    with pytest.raises(
        ValueError, match='It was made in bfloat16, this one is float32: load with dtype="bfloat16"'
    ):
        load_intervention(saved, whole)
    with pytest.raises(ValueError, match=r"another base model: .* Load that model, or train anew"):
        load_intervention(saved, tiny_model("llama", seed=1).bfloat16())
    load_intervention(saved, half.float())  # the same values in a wider type


@pytest.mark.parametrize("objective", ["split", "diffmean"])
def test_bars_reach_their_end_and_change_nothing(objective: str, tokenizer, pairs, capsys) -> None:
    model, settings = tiny_model("qwen2"), {} if objective == "diffmean" else {"epochs": 1}

    def everything(progress: bool) -> tuple:
        iv = train(model, tokenizer, pairs, "vector", objective, progress=progress, **settings)
        unit = matching_strength(model, tokenizer, iv, pairs, progress=progress)
        swept = sweep(model, tokenizer, iv, pairs, [0.0, unit], progress=progress)
        texts = answers(model, tokenizer, ["Who?"], max_new_tokens=3, progress=progress)
        return iv.parameters["vector"].tolist(), unit, swept.to_csv(), texts

    silent = everything(progress=False)
    assert capsys.readouterr().err == ""
    assert everything(progress=True) == silent
    last = {line.split(":")[0]: line for line in capsys.readouterr().err.replace("\r", "\n").splitlines()}
    bars = {"recording", "matching strength", "sweep", "answers"}
    bars |= {"vector split"} if objective == "split" else set()
    assert {bar for bar in last if "100%" in last[bar]} == bars
