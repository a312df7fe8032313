"""Figures of how far a fit can be trusted: rivals judged where they were not fitted, and null curves."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from splitkit.looks import CURVE_COLOURS, Canvas, style
from splitkit.rivals import RIVALS

_JUDGED = {"interleaved": "left out: every other m", "outer": "left out: the outer quarter"}
_OUTSIDE = 30.0
"""Errors in standard deviations of a curve beyond which it no longer matters how wrong a curve is."""

_DIGITS = 1e-4
"""R² is committed with four digits: below this 1 - R² is not known."""


def figure_rivals(table: pd.DataFrame) -> Figure:
    """Errors of Eq. 15 / 17 and of their rivals at strengths that were left out, over all curves.

    `table` comes from `splitkit.contest.rival_table`. One point per curve, a bar at the median; a panel per
    curve and way of leaving out. Errors beyond 30 standard deviations are drawn at 30. Free parameters, 4 to
    8, are printed in brackets.

    Raises:
        ValueError: when a column is missing.
    """
    needed = ["curve", "rival", "parameters", *_JUDGED]
    if missing := [column for column in needed if column not in table]:
        raise ValueError(f"The table lacks the column(s) {missing}; it has {list(table.columns)}.")
    with style():
        figure = Canvas(figsize=(8.6, 5.6), layout="constrained")
        grid = figure.subplots(2, 2, sharex=True)
        for (curve, colour), row in zip(CURVE_COLOURS.items(), grid, strict=True):
            for (name, title), axes in zip(_JUDGED.items(), row, strict=True):
                part = table[table["curve"] == curve]
                labels = []
                for height, (rival, label) in enumerate(reversed(RIVALS.items())):
                    own = part[part["rival"] == rival]
                    values = own[name].dropna().clip(1e-4, _OUTSIDE).to_numpy()
                    # spread by order, not by chance: equal tables are equal figures
                    shift = 0.5 * ((np.arange(len(values)) * 0.618) % 1 - 0.5)
                    axes.plot(values, height + shift, "o", color=colour, alpha=0.35, ms=3.5, mec="none")
                    if len(values):
                        axes.vlines(
                            np.median(values), height - 0.38, height + 0.38, color="0.15", linewidth=2
                        )
                    labels.append(f"{label} ({own['parameters'].iloc[0]})" if len(own) else label)
                axes.set_yticks(range(len(RIVALS)), labels if name == "interleaved" else [])
                axes.set_ylim(-0.6, len(RIVALS) - 0.4)
                axes.set_xscale("log")
                axes.axvline(1, color="0.5", linestyle=":", linewidth=1.0)
                axes.set_title(f"{curve}, {title}")
                if part[name].isna().all():
                    axes.text(0.5, 0.5, "too few strengths", transform=axes.transAxes, ha="center")
        for axes in grid[-1]:
            axes.set_xlabel("error / standard deviation of the curve", fontsize=9)
        figure.suptitle("Free parameters in brackets; dotted: no better than the mean")
    return figure


def figure_null(null: pd.DataFrame, fits: pd.DataFrame, bars: dict[str, float]) -> Figure:
    """Share of null curves and of measured ones that Eq. 15 and 17 fit with at most the 1 - R² below it.

    `null` comes from `splitkit.nulls.null_fits` (shape, curve, r2), `fits` has curve and r2 of measured
    curves, `bars` the R² that a claim asks of each curve, drawn as a line.
    """
    with style():
        figure = Canvas(figsize=(8.6, 3.4), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        groups = [("measured", fits, "-"), *((str(n), p, "") for n, p in null.groupby("shape", sort=False))]
        dashes: dict[str, Any] = {"smooth random curve": "--", "white noise": ":"}
        for (curve, colour), axes in zip(CURVE_COLOURS.items(), panels, strict=True):
            for name, part, dash in groups:
                values = np.sort(1 - part.loc[part["curve"] == curve, "r2"].dropna().to_numpy())
                if (dash or dashes.get(name)) and len(values):
                    share = np.arange(1, len(values) + 1) / len(values)
                    shade = colour if name == "measured" else "0.35"
                    axes.step(values.clip(_DIGITS), share, dash or dashes[name], where="post", color=shade)
            axes.axvline(1 - bars[curve], color="0.6", linewidth=1.0)
            axes.annotate(f"R² = {bars[curve]}", (1 - bars[curve], 0.03), (4, 0), textcoords="offset points")
            axes.set_xscale("log")
            axes.set_ylim(0, 1.04)
            axes.set_title(curve)
            axes.set_xlabel("1 - R²")
        panels[0].set_ylabel("share of curves fitted this well")
        grey = [Line2D([], [], color="0.35", linestyle=dash, label=name) for name, dash in dashes.items()]
        ours = Line2D([], [], color=CURVE_COLOURS["preference"], label="measured (colour)")
        figure.legend(handles=[ours, *grey], loc="outside lower center", ncols=3)
    return figure
