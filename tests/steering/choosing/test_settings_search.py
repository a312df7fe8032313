"""The search: equal trials for all, a table of them, and settings that `train` takes."""

import math

import pytest

import splitkit as sk
from splitkit.steering.choosing import settings_search
from splitkit.steering.choosing.settings_search import RATES, search_settings
from tests.conftest import tiny_model, tiny_tokenizer

PAIRS = [sk.Pair("Who?", "me", "you"), sk.Pair("Where?", "here", "there")]
HELD_OUT = [sk.Pair("When?", "now", "then")]


def test_equal_trials_a_table_and_settings_that_train_takes() -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    found = search_settings(
        model, tokenizer, PAIRS, HELD_OUT, forms=("lora", "vector"), objectives=("sft", "diffmean"),
        layer=1, trials=2, epochs=1, rank=2, reduction="sum", tolerance=math.inf,
    )  # fmt: skip
    table = found.table
    assert table.groupby(["form", "objective"])["trial"].count().to_dict() == {
        ("lora", "sft"): 2, ("vector", "diffmean"): 1, ("vector", "sft"): 2,
    }  # fmt: skip
    rates = table[table["objective"] == "sft"].set_index(["form", "trial"])["lr"]
    for form in ("lora", "vector"):
        assert rates[form, 1] == pytest.approx(RATES[1] * rates[form, 0], rel=1e-2)
    assert table["lr"].isna().tolist() == (table["objective"] == "diffmean").tolist()
    assert table.loc[~table["broken"], "score"].is_monotonic_decreasing and (table["score"] >= 0).all()
    assert {name: found.best[name] for name in ("form", "objective")} == dict(
        table.iloc[0][["form", "objective"]]
    )
    iv = sk.train(model, tokenizer, PAIRS, **found.best)
    unit = sk.matching_strength(model, tokenizer, iv, PAIRS)
    at = [0.0, table["m_relative"].iloc[0] * unit]
    means = sk.sweep(model, tokenizer, iv, HELD_OUT, m=sorted(set(at)), reduction="sum")["preference"]
    assert table["score"].iloc[0] == pytest.approx(means.iloc[-1] - means.iloc[0], abs=1e-4)
    assert "best: {" in repr(found) and "<table" in found._repr_html_()


def test_a_trial_that_breaks_text_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_search, "RATES", (1.0, 1e4))
    given = dict(forms=["vector"], objectives=["sft"], layer=1, trials=2, reduction="sum", tolerance=math.inf)
    found = search_settings(tiny_model("llama"), tiny_tokenizer(), PAIRS, HELD_OUT, epochs=2, **given)
    assert found.table["trial"].tolist() == [0, 1] and found.table["broken"].tolist() == [False, True]


def test_what_it_refuses() -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    for given, said in (
        ({"trials": 8}, "7 at most"),
        ({"lr": 0.1}, "what is searched"),
        ({"forms": ["lora"], "objectives": ["diffmean"]}, "no form and objective"),
        ({"objectives": ("sft", "spilt")}, "Unknown objective 'spilt'"),
        ({"forms": "vectors"}, "'vectors'"),
    ):
        with pytest.raises(ValueError, match=said):
            search_settings(model, tokenizer, PAIRS, HELD_OUT, **given)
