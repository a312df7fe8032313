"""The layers of psychopathy: what the table says is what is said of it."""

import pandas as pd

from splitkit.studies.layers import findings


def layers(used: float, best: float, low: float) -> pd.DataFrame:
    table = pd.DataFrame({"model": "a", "layer": [1, 3], "steered": [False, True], "score": [best, used]})
    return table.assign(unsteered=50.0, low=[low, 40.0], high=[99.0, 70.0])


def test_a_layer_is_a_reason_only_where_the_intervals_part() -> None:
    assert "layer 3, used everywhere else, reaches 60 % (unsteered 50 %)" in findings(layers(60, 90, 80))[0]
    assert findings(layers(60, 90, 80))[0].endswith("do not overlap: the layer is a reason.")
    assert findings(layers(60, 90, 65))[0].endswith("overlap: the layer is not shown to be the reason.")
    assert findings(layers(60, 60, 80))[0].endswith("so the layer is not the reason.")
    assert findings(layers(60, 55, 80))[0].endswith("so the layer is not the reason.")
