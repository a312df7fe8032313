"""Layer scan: its rows are those of a sweep by hand, and the choice among them."""

import pandas as pd
import pytest

import splitkit as sk
from splitkit.steering.choosing.layer_scan import best_layer, scan_layers, spread
from tests.conftest import tiny_model, tiny_tokenizer


def test_rows_are_of_a_sweep_by_hand() -> None:
    model, tokenizer = sk.load_model("tiny-qwen2")
    pairs = sk.load_pairs("psychopathy")[:6]
    scan = scan_layers(model, tokenizer, pairs[:4], pairs[4:], [1, 3], relative=(0.0, 0.5))
    assert scan["layer"].tolist() == [1, 1, 3, 3] and (scan["pairs"] == 2).all()
    iv = sk.train(model, tokenizer, pairs[:4], "vector", "diffmean", 3)
    unit = sk.matching_strength(model, tokenizer, iv, pairs[:4])
    sweep = sk.sweep(model, tokenizer, iv, pairs[4:], m=[0.5 * unit], reduction="sum")
    assert scan["m"].iloc[3] == pytest.approx(0.5 * unit)
    assert scan["preference"].iloc[3] == pytest.approx(sweep["preference"].mean())
    unsteered = scan.loc[scan["m_relative"] == 0, "preference"]
    assert unsteered.iloc[0] == pytest.approx(unsteered.iloc[1], rel=1e-4)


def test_the_best_layer_keeps_the_models_utility() -> None:
    rows = [(1, 0, 0.5, 0, 0), (1, 0.3, 0.7, 1, -0.5), (2, 0, 0.5, 0, 0), (2, 0.3, 0.9, 3, -1.5)]
    scan = pd.DataFrame(rows, columns=["layer", "m_relative", "accuracy", "preference", "utility"])
    assert best_layer(scan) == 1 and best_layer(scan, most_lost=2.0) == 2
    same = scan.assign(accuracy=0.5, preference=0.0, utility=0.0)
    assert best_layer(same) == best_layer(same[::-1]) == 1
    with pytest.raises(ValueError, match="no row at strength 0"):
        best_layer(scan[scan["m_relative"] > 0])
    with pytest.raises(ValueError, match=r"column\(s\) \['accuracy'\]"):
        best_layer(scan.drop(columns="accuracy"))
    with pytest.raises(ValueError, match="no layer has a utility"):
        best_layer(scan.assign(utility=float("nan")))


def test_layers_that_nobody_names() -> None:
    assert spread(30) == [11, 13, 15, 16, 18, 20] and spread(6) == [1, 2, 3] and spread(1) == [0]
    with pytest.raises(ValueError, match="no layer to scan"):
        scan_layers(tiny_model("llama"), tiny_tokenizer(), [], [], [])
    pair = sk.Pair("Who?", "Me.", "You.")
    with pytest.raises(ValueError, match="the list of pairs is empty"):
        scan_layers(tiny_model("llama"), tiny_tokenizer(), [pair], [])
    with pytest.raises(ValueError, match="relative has to hold 0"):
        scan_layers(tiny_model("llama"), tiny_tokenizer(), [pair], [pair], 1, relative=(0.1, 0.2))
