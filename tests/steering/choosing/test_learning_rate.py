"""The rate that nobody names: by its own equation, and only where nobody names one."""

import math

import pytest
import torch

import splitkit as sk
from splitkit.steering.architectures import resolve_sites
from splitkit.steering.choosing import broken_text
from splitkit.steering.choosing.broken_text import BrokenText
from splitkit.steering.forms import FORMS
from splitkit.steering.trainer import SharedRows
from splitkit.steering.training import default_config, train
from tests.conftest import tiny_model, tiny_tokenizer

PAIRS = [sk.Pair("Who?", "me", "you"), sk.Pair("Where is it?", "here", "there, there")]


@pytest.mark.parametrize("form", FORMS)
def test_the_rate_is_that_of_its_equation(form: str) -> None:
    """By a training's own parameters: |dh| where each has moved by lr (steps + 1) / 2, against |h|."""
    model, tokenizer, shared = tiny_model("llama"), tiny_tokenizer(), SharedRows()
    iv = train(model, tokenizer, PAIRS, form, "sft", 1, epochs=1, batch_size=1, shared=shared)
    config = iv.details["config"]
    a, m = config["lr"] * (2 + 1) / 2, (config["factor_min"] + config["factor_max"]) / 2
    sites = resolve_sites(model, 1, FORMS[form].site)
    rows = shared._rows
    lengths = [len("me") + 1, len("here") + 1, len("you") + 1, len("there, there") + 1]
    x, h = (
        torch.cat([row[name][-n:] for row, n in zip(rows, lengths, strict=True)])
        for name in (("output",) * 2 if form == "vector" else ("down_input", "residual"))
    )
    sums = x.abs().sum(1)
    if form == "vector":
        each = torch.full_like(sums, a)
    elif form == "local_weight":
        each = a * (sums + 1)
    else:
        drawn = FORMS[form].fresh(sites.down_width, 1, 4, torch.Generator().manual_seed(0))["A"].abs() + a
        each = a * (x.abs() @ drawn.T).sum(1)
    reach = m * each.median() * math.sqrt(sites.width) / h.norm(dim=1).median()
    # the rate is rounded to two digits
    assert reach.item() == pytest.approx(FORMS[form].reach, rel=0.1 if form == "lora" else 0.06)
    assert iv.details["chosen"].startswith(f"lr {config['lr']:g}, ") and iv.details["push"] > 0


def test_a_rate_is_scaled_only_where_nobody_names_one() -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    named = train(model, tokenizer, PAIRS, "vector", "sft", 1, epochs=1, lr=0.08)
    config = train(
        model, tokenizer, PAIRS, "vector", "sft", 1, config=default_config("vector", "sft"), epochs=1
    )
    for iv in (named, config):
        assert iv.details["config"]["lr"] == 0.08 and not {"chosen", "push"} & set(iv.details)
    assert torch.equal(named.parameters["vector"], config.parameters["vector"])


def test_the_shipped_models_keep_the_rates_made_for_them() -> None:
    model, tokenizer = sk.load_model("tiny-qwen2")
    iv = sk.train(model, tokenizer, sk.load_pairs("psychopathy")[:2], "vector", "sft", epochs=1)
    assert iv.details["config"]["lr"] == 0.08 and "chosen" not in iv.details


def test_what_breaks_text_is_told() -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    with pytest.warns(BrokenText, match="pushes the residual stream by .* smaller lr than 5"):
        iv = train(model, tokenizer, PAIRS, "vector", "sft", 1, epochs=2, lr=5.0)
    table = sk.sweep(model, tokenizer, iv, PAIRS, m=[11.0])
    assert table["push"].median() > broken_text.MOST_PUSH


def test_the_rule() -> None:
    assert broken_text.fault(1.1, 11.0, [2.0, 1.0]).startswith("at the mean factor 11 of training it pushes")
    assert "rose from 2 in the first epoch to 2.5" in broken_text.fault(0.5, 11.0, [2.0, 1.0, 2.5])
    assert broken_text.fault(0.9, 11.0, [2.0, 2.1]) == ""


def test_a_long_training_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitkit.steering.training.LONG", 0.0)
    with pytest.warns(UserWarning, match=r"about 0 minutes \(1 steps\)"):
        train(tiny_model("llama"), tiny_tokenizer(), PAIRS, "vector", "sft", 1, epochs=1)
