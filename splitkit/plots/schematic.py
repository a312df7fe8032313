"""Figure 1: the three forms as additions to a linear layer, and their preference and utility."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from splitkit.plots import style
from splitkit.plots.style import CURVES, FORMS, Canvas

_CHANGED = {
    "local_weight": ("W + m ΔW", "b + m Δb"),
    "lora": ("W + m BA", "b"),
    "vector": ("W", "b + m v"),
}


@style.styled()
def figure1_forms(curves: pd.DataFrame | None = None) -> Canvas:
    """h' = (W + m ΔW) h + (b + m Δb) (Eq. 1, 4): the paper's Figure 1, composed anew.

    Left, each form as a branch m Δh added to the layer's output, and as the same change of W and b. Right,
    preference and utility against m: sketches by formula, or measured curves where `curves` is given, one row
    per form and m_relative, with preference and utility (one model, task, objective and split).
    """
    real = curves is not None
    table = _sketch() if curves is None else _checked(curves)
    figure = Canvas(figsize=(11.5, 5.6))
    grid = figure.add_gridspec(
        6, 2, width_ratios=[2.1, 1], left=0.01, right=0.985, top=0.92, bottom=0.1, wspace=0.14, hspace=0.2
    )
    schema = figure.add_subplot(grid[:, 0])
    _schema(schema)
    top, bottom = figure.add_subplot(grid[:3, 1]), figure.add_subplot(grid[3:, 1])
    for axes, (curve, named) in zip((top, bottom), CURVES.items(), strict=True):
        for form in reversed(FORMS.among(table["form"])):
            part, look = table[table["form"] == form], FORMS[form]
            axes.plot(part["m_relative"], part[curve], look.dash, color=look.colour, label=look.label, lw=2)
        axes.axvline(0, color="0.75", linewidth=0.8, zorder=0)
        axes.set_ylabel(named.label)
        if not real:
            axes.set_xticks([0], ["0"])
            axes.set_yticks([])
    top.tick_params(labelbottom=False)
    top.legend(loc="upper left", fontsize=9)
    top.set_title("measured" if real else "what steering does (sketch)")
    bottom.set_xlabel("strength m", fontsize=9)
    if real:
        for axes in (top, bottom):
            style.strength_axis(axes, table["m_relative"].abs().max(), fontsize=9)
        top.set_xlabel("")
    return figure


def _sketch() -> pd.DataFrame:
    m = np.linspace(-5, 5, 201)
    shapes = {"local_weight": (2.2, 0.95), "lora": (1.5, 1.0), "vector": (1.0, 0.9)}
    parts = []
    for form, (speed, height) in shapes.items():
        utility = height / (1 + (speed * m / 2.4) ** 2) ** 0.9
        odds = {"preference": height * np.tanh(speed * m / 2), "utility": utility}
        parts.append(pd.DataFrame({"form": form, "m_relative": m, **odds}))
    return pd.concat(parts)


def _checked(curves: pd.DataFrame) -> pd.DataFrame:
    style.require(curves, "form", "m_relative", *CURVES)
    if curves.duplicated(["form", "m_relative"]).any():
        raise ValueError(
            "The table has a form and strength twice: select one model, task, objective, split, seed."
        )
    return curves.sort_values("m_relative")


def _schema(axes: Axes) -> None:
    axes.set(xlim=(0, 100), ylim=(0, 62))
    axes.set_axis_off()
    axes.text(35, 60, "added branch:  h′ = W h + b + m Δh", ha="center", weight="bold", fontsize=10.5)
    axes.text(82, 60, "the same as changed weights", ha="center", weight="bold", fontsize=10.5)
    for form, base in zip(_CHANGED, (40, 20, 0), strict=True):
        _row(axes, form, base)


def _row(axes: Axes, form: str, base: float) -> None:
    """One form: the layer with the form's branch below it at the left, the changed layer at the right."""
    colour = FORMS[form].colour
    axes.text(1, base + 9, FORMS[form].label, color=colour, weight="bold", fontsize=11, va="center")
    frame = "round,pad=0,rounding_size=1.5"
    axes.add_patch(FancyBboxPatch((0, base + 0.6), 99, 16.8, boxstyle=frame, fc="none", ec="0.88"))
    high, low, split, join = base + 13, base + 5, 22.0, 57.0
    axes.text(18.5, high, "h", ha="center", va="center", fontsize=11, style="italic")
    _arrow(axes, (20, high), (30, high))
    _box(axes, 30, high, 13, "W, b", "0.55", "0.95")
    _arrow(axes, (43, high), (join - 1.6, high))
    axes.add_patch(Circle((join, high), 1.6, fc="white", ec="0.3", lw=1.2))
    axes.text(join, high, "+", ha="center", va="center", fontsize=12)
    _arrow(axes, (join + 1.6, high), (63, high))
    axes.text(64.8, high, "h′", ha="center", va="center", fontsize=11, style="italic")
    if form == "vector":
        _box(axes, 33, low, 7, "v", colour)
    else:
        axes.plot([split + 1, split + 1, 28], [high, low, low], color=colour, lw=1.3, solid_capstyle="round")
        _arrow(axes, (27, low), (30, low), colour)
    if form == "local_weight":
        _box(axes, 30, low, 13, "ΔW, Δb", colour)
    if form == "lora":
        _trapezium(axes, 30, low, 6, (5.6, 2.6), "A", colour)
        _trapezium(axes, 37, low, 6, (2.6, 5.6), "B", colour)
    start = 40 if form == "vector" else 43
    _arrow(axes, (start, low), (46.8, low), colour)
    axes.text(49.2, low, "× m", ha="center", va="center", color=colour, fontsize=10)
    axes.plot([51.6, join, join], [low, low, high - 3], color=colour, lw=1.3)
    _arrow(axes, (join, high - 4), (join, high - 1.6), colour)
    axes.text(join + 1.2, low + 1.2, "m Δh", color=colour, fontsize=9.5, va="center")
    middle = base + 9
    weight, bias = _CHANGED[form]
    axes.text(70, middle, "h", ha="center", va="center", fontsize=11, style="italic")
    _arrow(axes, (71.2, middle), (74, middle))
    changed = {True: (colour, None), False: ("0.55", "0.95")}
    _box(axes, 74, middle + 3.2, 17, weight, *changed[weight != "W"])
    _box(axes, 74, middle - 3.2, 17, bias, *changed[bias != "b"])
    _arrow(axes, (91, middle), (94.5, middle))
    axes.text(96.5, middle, "h′", ha="center", va="center", fontsize=11, style="italic")


def _box(
    axes: Axes, left: float, y: float, width: float, text: str, edge: str, face: str | None = None
) -> None:
    shape, corner = "round,pad=0,rounding_size=0.8", (left, y - 2.8)
    axes.add_patch(FancyBboxPatch(corner, width, 5.6, boxstyle=shape, fc="white", ec=edge, lw=1.4))
    inside: dict[str, Any] = {"fc": face or edge, "ec": "none", "alpha": 1.0 if face else 0.14}
    axes.add_patch(FancyBboxPatch(corner, width, 5.6, boxstyle=shape, **inside))
    axes.text(left + width / 2, y, text, ha="center", va="center", fontsize=10)


def _trapezium(
    axes: Axes, left: float, y: float, width: float, heights: tuple[float, float], text: str, colour: str
) -> None:
    """A box as high at its ends as the spaces it maps between: A narrows to the rank, B widens from it."""
    near, far = heights[0] / 2, heights[1] / 2
    corners = [(left, y - near), (left, y + near), (left + width, y + far), (left + width, y - far)]
    axes.add_patch(Polygon(corners, fc=colour, ec="none", alpha=0.14))
    axes.add_patch(Polygon(corners, fc="none", ec=colour, lw=1.4))
    axes.text(left + width / 2, y, text, ha="center", va="center", fontsize=10)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = "0.3") -> None:
    head: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, lw=1.3, **head))
