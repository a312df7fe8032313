"""Validity decay D(m) (Eq. 12): the share of a steered activation that is still on the model's manifold."""

import math
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Breakdown:
    """The strengths at which validity has fallen to a half, and a note where there is none.

    `positive` and `negative` are in units of m, NaN on a side where D = 1/2 is not reached within the grid
    (then `note` names the side).
    """

    positive: float
    negative: float
    note: str = ""


@dataclass(frozen=True)
class Validity:
    """D(m) = (1 + (m - m+)^2 / L+)^-p+ for m >= 0, (1 + (m - m-)^2 / L-)^-p- for m < 0 (Eq. 12).

    Dimensionless, in (0, 1]. Centres are in units of m, widths L > 0 in units of m squared, exponents p > 0.
    Continuity at m = 0 is a constraint on the six numbers, met by the fits: see `gap`.
    """

    m_plus: float
    L_plus: float
    p_plus: float
    m_minus: float
    L_minus: float
    p_minus: float

    def __call__(self, m: np.ndarray | float) -> np.ndarray:
        """D at each m, of m's shape."""
        m = np.asarray(m, dtype=float)
        right = (1 + (m - self.m_plus) ** 2 / self.L_plus) ** -self.p_plus
        left = (1 + (m - self.m_minus) ** 2 / self.L_minus) ** -self.p_minus
        return np.where(m >= 0, right, left)

    @property
    def gap(self) -> float:
        """D(0+) - D(0-), which the continuity constraint makes 0."""
        right = (1 + self.m_plus**2 / self.L_plus) ** -self.p_plus
        return right - (1 + self.m_minus**2 / self.L_minus) ** -self.p_minus

    def scaled(self, unit: float) -> "Validity":
        """The same curve with m measured in another unit: D_scaled(unit m) = D(m)."""
        a, b, c, d, e, f = astuple(self)
        return Validity(a * unit, b * unit**2, c, d * unit, e * unit**2, f)

    @property
    def reach(self) -> tuple[float, float]:
        """D(m) = 1/2: the outermost m = m± ± (L± (2^(1/p±) - 1))^(1/2) of the negative and positive side."""
        left = self.m_minus - math.sqrt(self.L_minus * (2 ** (1 / self.p_minus) - 1))
        return left, self.m_plus + math.sqrt(self.L_plus * (2 ** (1 / self.p_plus) - 1))

    def breakdown(self, lowest: float, highest: float) -> Breakdown:
        """The m of each side at which D(m) = 1/2 (see `reach`), within lowest..highest.

        D is 1 at the centres, so this is half of what D is at its best unless both centres are beyond 0 on
        the other side. On a side where D is below 1/2 from the start the answer is NaN as well.
        """
        reach_left, reach_right = self.reach
        positive, right = _within("m > 0", reach_right, 0.0, highest)
        negative, left = _within("m < 0", reach_left, lowest, 0.0)
        return Breakdown(positive, negative, "; ".join(note for note in (right, left) if note))


def _within(side: str, value: float, lowest: float, highest: float) -> tuple[float, str]:
    if lowest <= value <= highest:
        return value, ""
    beyond = value > highest if lowest == 0 else value < lowest
    return math.nan, f"{side}: D = 1/2 is outside the grid" if beyond else f"{side}: D < 1/2 from m = 0 on"
