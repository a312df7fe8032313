"""Eq. 12 against the formula written out, and its half-way points against root finding."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from splitkit.curves.validity import Validity

CURVE = Validity(m_plus=0.5, L_plus=2.0, p_plus=1.5, m_minus=-0.2, L_minus=0.4, p_minus=0.8)


def test_both_sides_by_hand() -> None:
    expected = [(1 + (-3.0 + 0.2) ** 2 / 0.4) ** -0.8, (1 + 0.25 / 2) ** -1.5, 1.0]
    np.testing.assert_allclose(CURVE(np.array([-3.0, 0.0, 0.5])), expected)
    assert CURVE.gap == pytest.approx((1 + 0.25 / 2) ** -1.5 - (1 + 0.04 / 0.4) ** -0.8)


def test_another_unit_of_m() -> None:
    m = np.linspace(-3, 3, 13)
    np.testing.assert_allclose(CURVE.scaled(1000.0)(1000 * m), CURVE(m))


def test_breakdown_is_where_the_curve_crosses_one_half() -> None:
    found = CURVE.breakdown(-10.0, 10.0)
    assert found.positive == pytest.approx(brentq(lambda m: CURVE(m) - 0.5, 0.5, 10.0))
    assert found.negative == pytest.approx(brentq(lambda m: CURVE(m) - 0.5, -10.0, -0.2))
    assert found.note == ""


def test_breakdown_outside_the_grid_is_nan_and_said() -> None:
    found = CURVE.breakdown(-10.0, 1.0)
    assert math.isnan(found.positive) and found.negative < 0
    assert found.note == "m > 0: D = 1/2 is outside the grid"
    below = Validity(-2.0, 1.0, 1.0, -2.0, 1.0, 1.0).breakdown(-10.0, 10.0)
    assert math.isnan(below.positive) and below.negative == pytest.approx(-3.0)
    assert below.note == "m > 0: D < 1/2 from m = 0 on"
