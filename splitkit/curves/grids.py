"""Grids: strengths of both signs, in units of the matching strength."""

import math


def strength_grid(limit: float, n: int, curvature: float = 5.0) -> tuple[float, ...]:
    """m_i = limit sinh(c t_i) / sinh(c), t_i even in [-1, 1]: symmetric, 0 in the middle, denser near it.

    In units of the matching strength. ValueError unless n is odd and at least 3 and limit is positive.
    """
    if n < 3 or n % 2 == 0:
        raise ValueError(f"a symmetric grid with 0 in it needs an odd number of points, at least 3; got {n}")
    if not (limit > 0 and math.isfinite(limit)):
        raise ValueError(f"the largest strength must be positive and finite; got {limit}")
    half = n // 2
    # mirrored, not computed twice, so that the grid is symmetric to the last bit
    positive = [limit * math.sinh(curvature * i / half) / math.sinh(curvature) for i in range(1, half + 1)]
    return (*(-m for m in reversed(positive)), 0.0, *positive)
