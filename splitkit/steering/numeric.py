"""Numbers as they are given, numpy's among them: made plain Python ones, or refused by name."""

import math
import operator
from numbers import Integral, Real
from typing import Any


def whole_number(name: str, value: Any, least: int | None = 0) -> int:
    """`value` as an int; `name` is what an error calls it. numpy's whole numbers are some, 2.0 and True not.

    Raises:
        ValueError: for anything that is no whole number, or one below `least`, if there is one.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        bound = "" if least is None else f", {least} or more"
        raise ValueError(f"{name} must be a whole number{bound}, not {value!r}.")
    return number


def real_number(name: str, value: Any) -> float:
    """`value` as a float, or as an int where it is whole by type; `name` is what an error calls it.

    Raises:
        ValueError: for anything that is no finite real number (a text, None, True, NaN).
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}.")
    return int(value) if isinstance(value, Integral) else float(value)
