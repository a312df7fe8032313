"""Figures of released models: the scan of their layers, a direction beside ones that learned nothing."""

from collections.abc import Sequence

import pandas as pd

from splitkit.plots import style
from splitkit.plots.style import CONTROLS, CURVES, OBJECTIVES, Canvas, entry, panels, save, selected
from splitkit.studies.frames import ODDS

__all__ = ["figure_directions", "figure_layers", "save"]


@style.styled()
def figure_layers(scan: pd.DataFrame, steered: dict[str, int]) -> Canvas:
    """Accuracy on held-out pairs against m, a panel per model and a line per layer: the steered one in black.

    `scan` is the table "layer_scan"; `steered` gives each model's layer. A cross where utility has lost more
    than a nat: the scan chooses no such strength.
    """
    style.require(scan, "model", "layer", "m_relative", "accuracy", "utility")
    models = list(dict.fromkeys(scan["model"]))
    figure, grid = panels(3.4 * len(models), 3.4, 1, len(models), sharey=True)
    for model, axes in zip(models, grid[0], strict=True):
        for layer, rows in scan[scan["model"] == model].groupby("layer"):
            used = layer == steered[model]
            look = {"color": "black", "lw": 2.2, "zorder": 3} if used else {"color": "0.75", "lw": 1.0}
            axes.plot(rows["m_relative"], 100 * rows["accuracy"], **look)
            lost = rows[rows["utility"] < rows["utility"].iloc[0] - 1]
            axes.plot(lost["m_relative"], 100 * lost["accuracy"], "x", color=look["color"], ms=5)
        axes.set_title(f"{model}\nsteered: layer {steered[model]}", fontsize=9.5)
        axes.set_xlabel(style.STRENGTH, fontsize=9)
    grid[0, 0].set_ylabel("right answers (%)")
    names = [entry("the steered layer", color="black", lw=2.2), entry("the others", color="0.75")]
    names += [entry("more than a nat of utility lost", color="0.5", marker="x", ls="")]
    figure.legend_below(names, 3)
    return figure


@style.styled()
def figure_directions(
    curves: pd.DataFrame, models: Sequence[str], task: str, objective: str, split: str = "test"
) -> Canvas:
    """Preference above and utility below against m, a column per model: an objective's vectors, controls.

    A thin grey line is one direction that learned nothing (`CONTROLS`). Log-odds are counted from the
    unsteered model's, and divided by the tokens they are summed over.
    """
    table = selected(curves, model=list(models), task=task, form="vector", split=split)
    figure, grid = panels(3.4 * len(models), 5.6, len(ODDS), len(models), sharex=True)
    for odds, row in zip(ODDS, grid, strict=True):
        for model, axes in zip(models, row, strict=True):
            own = table[table["model"] == model]
            for (name, _), line in own.groupby(["objective", "seed"]):
                if name != objective and name not in CONTROLS:
                    continue
                value = (line[odds] / line.get("tokens", 1.0)).to_numpy()
                value = value - value[(line["m_relative"] == 0).to_numpy()]
                look = OBJECTIVES[str(name)]
                thin = {"lw": 0.9, "ls": look.dash} if name in CONTROLS else {"lw": 2.2, "zorder": 3}
                axes.plot(line["m_relative"], value, color=look.colour, **thin)
            axes.axvline(0, color="0.8", lw=0.8, zorder=0)
        row[0].set_ylabel(f"{CURVES[odds].label}\n(nats per token from m = 0)")
    for model, axes in zip(models, grid[0], strict=True):
        axes.set_title(model, fontsize=9.5)
    for axes in grid[-1]:
        style.strength_axis(axes, table["m_relative"].abs().max(), fontsize=9)
    shown = [name for name in OBJECTIVES.among(table["objective"]) if name == objective or name in CONTROLS]
    looks = [OBJECTIVES[name] for name in shown]
    figure.legend_below([entry(one.label, color=one.colour, ls=one.dash) for one in looks], len(looks))
    return figure
