"""The operating point of curves whose best strength is known."""

import re

import numpy as np
import pandas as pd
import pytest

from splitkit.curves.decay import mean_curve
from splitkit.curves.operating_point import OperatingPoint, operating_point


def sweep(**columns: np.ndarray) -> pd.DataFrame:
    m = np.tile(np.arange(-3.0, 4.0), 2)
    table = pd.DataFrame({"m": m, "pair": np.repeat([0, 1], 7), "preference": m, "utility": -(m**2)})
    return table.assign(**columns)


def test_preference_is_raised_until_utility_forbids() -> None:
    point = operating_point(sweep(), tolerance=4.0)
    assert point.m == 2.0
    assert point.table.loc[point.table["allowed"], "m"].tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert "m = 2" in point.reason and "falls by 4.00" in point.reason and "2 of 2 pairs" in point.reason


def test_the_table_has_the_columns_that_are_described() -> None:
    columns = list(operating_point(sweep()).table.columns)
    described = (OperatingPoint.__doc__ or "").split("table:")[1]
    assert columns == sorted(columns, key=lambda name: re.search(rf"\b{name}\b", described).start())


def test_the_edge_of_the_grid_is_said() -> None:
    point = operating_point(sweep(), tolerance=100.0)
    assert point.m == 3.0 and "edge of the grid" in point.reason


def test_of_equal_preferences_the_smallest_strength_wins() -> None:
    point = operating_point(sweep(preference=np.tile([0, 0, 0, 1, 2, 2, 2], 2)), tolerance=100.0)
    assert point.m == 1.0


def test_no_gain_means_no_steering() -> None:
    point = operating_point(sweep(preference=-(np.tile(np.arange(-3.0, 4.0), 2) ** 2)), tolerance=4.0)
    assert point.m == 0.0 and point.reason.startswith("No strength") and "5 of 7" in point.reason


def test_a_grid_too_coarse_for_the_tolerance_is_said() -> None:
    point = operating_point(sweep(), tolerance=0.5)
    assert point.m == 0.0 and point.table["allowed"].sum() == 1
    assert point.reason.startswith("Only m = 0 of the 7 strengths on this grid")
    assert "smaller |m|" in point.reason and "raises" not in point.reason


def test_undefined_utility_is_handled_openly() -> None:
    table = sweep()
    table.loc[(table["pair"] == 1) & (table["m"] == 0), "utility"] = np.nan
    assert "1 of 2 pairs" in operating_point(table, tolerance=4.0).reason
    with pytest.raises(ValueError, match="each of the 2 pairs"):
        operating_point(sweep(utility=np.nan))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="m = 0"):
        operating_point(sweep().query("m != 0"))
    with pytest.raises(ValueError, match="tolerance"):
        operating_point(sweep(), tolerance=-1.0)
    with pytest.raises(ValueError, match="sweep must be a DataFrame with the columns m, pair.*, not a dict"):
        mean_curve({"m": [0.0]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tolerance must be 0 or more nats, not nan"):
        operating_point(sweep(), tolerance=float("nan"))
    with pytest.raises(ValueError, match=r"lacks the column\(s\) \['pair', 'utility'\]"):
        operating_point(sweep().drop(columns=["utility", "pair"]))
    with pytest.raises(ValueError, match="m, pair, preference, utility, not a dict"):
        operating_point(sweep().to_dict())  # type: ignore[arg-type]
