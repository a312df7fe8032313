"""Figures of verdicts: each number with its interval, the bars of its rule, and the controls beside it."""

import numpy as np

from splitkit.plots import style
from splitkit.plots.style import Canvas, entry, panels
from splitkit.studies.decisions.view import ClaimView

GRADES = {
    "holds": ("o", None),
    "in part": ("o", "0.75"),
    "does not hold": ("o", "white"),
    "undecided": ("X", None),
}
"""Marker of each grade, and what it is filled with (None: the line's own colour)."""
CONTROLS = {"control": ("directions", "|"), "random_curves": ("random curves", "x")}
"""Columns of controls, with their label and marker."""


@style.styled()
def figure_verdicts(view: ClaimView) -> Canvas:
    """The numbers of one claim (of `decisions.view.claim_view`) with their 95 % intervals, a row per verdict.

    Dashed lines are the rule's two bars. What stands beside a claim, such as the usable window, has a row of
    its own below it, in grey. ValueError where no tier has a record.
    """
    rows = view.verdicts.iloc[::-1].reset_index(drop=True)
    if rows.empty:
        raise ValueError(f"no tier has a verdict on {view.rule.claim} yet")
    figure, grid = panels(8.6, 1.6 + 0.27 * len(rows), 1, 1)
    axes, labels = grid[0, 0], []
    for height, row in rows.iterrows():
        own = row["part"] == "claim"
        marker, inside = GRADES[row["verdict"]]
        colour = "black" if own else style.GREY
        axes.hlines(height, row["low"], row["high"], color=colour, linewidth=1.4 if own else 0.8)
        look = {"color": colour, "markerfacecolor": inside or colour}
        if np.isfinite(row["ours"]):
            axes.plot(row["ours"], height, marker, ms=6.5 if own else 4.5, zorder=3, **look)
        for name, (_, mark) in CONTROLS.items():
            axes.plot(row[name], height, mark, color=style.CONTROLS["random"].colour, ms=8, mew=1.6)
        words = [row["tier"], row["model"], row["task"] if own else row["part"]]
        labels.append(", ".join(words) + ("" if np.isfinite(row["ours"]) else " (no number)"))
    for bar in {view.rule.holds, view.rule.in_part}:
        axes.axvline(bar, color="0.6", linestyle="--", linewidth=1.0, zorder=0)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_xlabel(view.rule.number if len(view.rule.number) < 100 else "the rule's number", fontsize=8)
    axes.set_title(f"{view.rule.claim}. {view.rule.text}", fontsize=10)
    kinds = [
        entry(grade, marker=marker, linestyle="", color="black", markerfacecolor=inside or "black")
        for grade, (marker, inside) in GRADES.items()
    ]
    colour = style.CONTROLS["random"].colour
    kinds += [
        entry(label, marker=mark, linestyle="", color=colour, mew=1.6)
        for name, (label, mark) in CONTROLS.items()
        if rows[name].notna().any()
    ]
    figure.legend_below(kinds, 6)
    return figure
