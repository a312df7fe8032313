"""Eq. 7 and 8 against decimals of 60 digits and against hand-made numbers."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitkit.curves.log_odds import preference_log_odds, utility_log_odds


def exact_utility(positive: float, negative: float) -> float:
    """Eq. 8 as it is written, with 60 digits; NaN where it is undefined."""
    with localcontext() as context:
        context.prec = 60
        mass = (-Decimal(positive)).exp() + (-Decimal(negative)).exp()
        return math.nan if mass >= 1 else float((mass / (1 - mass)).ln())


def test_preference_is_the_difference_of_losses() -> None:
    result = preference_log_odds(np.array([1.0, 2.5]), np.array([3.0, 2.0]))
    np.testing.assert_array_equal(result, [2.0, -0.5])


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-3, 900.0), st.floats(1e-3, 900.0))
def test_utility_equals_sixty_digits(positive: float, negative: float) -> None:
    expected = exact_utility(positive, negative)
    result = float(utility_log_odds(np.array(positive), np.array(negative)))
    if abs(math.exp(-positive) + math.exp(-negative) - 1) > 1e-9:
        assert result == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


def test_utility_by_hand() -> None:
    # e^-Lp + e^-Ln = 1/4 + 1/4, even odds; 1/10 + 1/10, odds of one to four
    losses = np.log([4.0, 10.0])
    np.testing.assert_allclose(utility_log_odds(losses, losses), [0.0, -math.log(4)], atol=1e-15)


def test_tensor_and_array_agree_and_keep_their_kind() -> None:
    positive, negative = torch.tensor([0.2, 1.3, 700.0]), torch.tensor([4.0, 1.1, 650.0])
    result = utility_log_odds(positive, negative)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result, utility_log_odds(positive.numpy(), negative.numpy()), rtol=1e-6)


def test_utility_is_undefined_not_clamped() -> None:
    utility = utility_log_odds(np.array([0.1, math.log(2), 2.0, 2.0]), np.array([0.1, math.log(2), 2.0, 3.0]))
    assert np.isnan(utility).tolist() == [True, True, False, False]


def test_utility_has_a_finite_gradient() -> None:
    positive = torch.tensor([1.0, 5.0], dtype=torch.float64, requires_grad=True)
    negative = torch.tensor([1.5, 9.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(utility_log_odds, (positive, negative))


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        utility_log_odds(np.zeros(2), np.zeros(3))
    with pytest.raises(TypeError, match="two kinds"):
        preference_log_odds(np.zeros(2), torch.zeros(2))  # type: ignore[type-var]
