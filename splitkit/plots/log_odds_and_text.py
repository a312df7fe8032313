"""Figures of log-odds beside what the model writes: along the strength, between cells, by nats spent."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from splitkit.plots import style
from splitkit.plots.style import FORMS, Canvas, entry, panels
from splitkit.plots.style import save as save
from splitkit.studies.frames import families_of
from splitkit.studies.text.log_odds import USABLE_NATS
from splitkit.tasks import FAMILIES

_AXES = {"utility": "utility (nats above unsteered)", "preference": "preference (nats above unsteered)"}
_EFFECTS = {name: family.label for name, family in FAMILIES.items()} | {"axbench": "concept (0-2)"}
_THIN: dict[str, Any] = {"linewidth": 0.6, "alpha": 0.45, "zorder": 1}
_THICK: dict[str, Any] = {"linewidth": 2.2, "zorder": 3}


@style.styled()
def figure_along(table: pd.DataFrame, odds: str, measure: str, least: float | None = None) -> Canvas:
    """A measure of answers against a log-odds, along m from 0: a row per model, a column per family.

    Thick lines are means of a form over units at equal strength, thin ones its units (concepts or seeds);
    the line is dotted from where utility has lost `USABLE_NATS`, and its marker stands at m = 1. `table` is
    of `studies.text.log_odds.joined`; `least` is the left end of the x-axis.
    """
    style.require(table, "model", "family", "form", "unit", "m_relative", "utility", odds, measure)
    figure, drawn = _panels(table.dropna(subset=[measure]))
    for axes, family, part in drawn:
        for form in FORMS.among(part["form"]):
            _path(axes, part[part["form"] == form], form, odds, measure)
        axes.set_ylabel(measure if measure == "fluency" else _EFFECTS[family])
        axes.set_xlabel(_AXES[odds])
        axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        if least is not None:
            axes.set_xlim(least, -least / 20)
    return figure


def _path(axes: Axes, rows: pd.DataFrame, form: str, odds: str, measure: str) -> None:
    rows, colour = rows.round({"m_relative": 4}), FORMS[form].colour
    columns = list(dict.fromkeys([odds, measure, "utility"]))
    for _, unit in rows.groupby("unit"):
        line = unit.groupby("m_relative")[columns].mean()
        axes.plot(line[odds], line[measure], color=colour, **_THIN)
    mean = rows.groupby(["unit", "m_relative"])[columns].mean().groupby("m_relative").mean()
    # up to the first strength that costs too much, so that the dotted rest goes on from there
    inside = (mean["utility"] < -USABLE_NATS).cumsum() <= 0
    axes.plot(mean[odds], mean[measure], ":", color=colour, **_THICK)
    axes.plot(mean.loc[inside, odds], mean.loc[inside, measure], color=colour, **_THICK)
    one = mean.iloc[[abs(mean.index - 1.0).argmin()]]
    axes.plot(one[odds], one[measure], ms=7, mec="white", zorder=4, **FORMS[form].drawn)


@style.styled()
def figure_between(points: pd.DataFrame, found: pd.DataFrame) -> Canvas:
    """What is steered for on test answers against preference, a point per cell at its chosen strength.

    A row per model, a column per family; `points` is of `studies.text.log_odds.chosen`, `found` of
    `between_cells`: its correlation stands in the title.
    """
    style.require(points, "model", "family", "form", "preference", "effect")
    figure, drawn = _panels(points)
    rho = found.set_index(["model", "family"])["rho"]
    for axes, family, part in drawn:
        for form in FORMS.among(part["form"]):
            own = part[part["form"] == form]
            axes.plot(own["preference"], own["effect"], ls="", ms=4.5, alpha=0.6, mew=0, **FORMS[form].drawn)
        model = part["model"].iloc[0]
        said = f"ρ = {rho[model, family]}" if rho[model, family] else "ρ not judged: floor or ceiling"
        axes.set_title(f"{axes.get_title()}\n{said}", fontsize=9.5)
        axes.set(xlabel=_AXES["preference"], ylabel=_EFFECTS[family])
    return figure


@style.styled()
def figure_budgets(losses: pd.DataFrame) -> Canvas:
    """Score lost against the best strength by the nats of utility spent at most.

    A row per model, a column per family; thick lines are means of a form over units, thin ones its units.
    `losses` is of `studies.text.nats_spent`.
    """
    style.require(losses, "model", "family", "form", "unit", "rule", "constant", "lost")
    figure, drawn = _panels(losses[losses["rule"] == "spend"], sharey=True)
    for axes, _, part in drawn:
        for form in FORMS.among(part["form"]):
            units = part[part["form"] == form].groupby(["constant", "unit"])["lost"].mean().unstack("unit")
            axes.plot(units.index, units, color=FORMS[form].colour, **_THIN)
            axes.plot(units.index, units.mean(axis=1), color=FORMS[form].colour, **_THICK)
        axes.axvline(0.5, color=style.GREY, linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_xticks([0.05, 0.2, 0.5, 1, 3], ["0.05", "0.2", "0.5", "1", "3"])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="nats of utility spent at most", ylabel="score lost (% of scale)")
    return figure


def _panels(table: pd.DataFrame, **shared: bool) -> tuple[Canvas, Iterator[tuple[Axes, str, pd.DataFrame]]]:
    """A figure with a row per model and a column per family, its panels, and a legend of forms below."""
    if table.empty:
        raise ValueError("The table has no row that could be drawn.")
    models, families = list(table["model"].unique()), families_of(table["task"])
    size = (3.3 * len(families) + 0.6, 2.6 * len(models) + 0.5)
    figure, grid = panels(*size, len(models), len(families), **shared)
    figure.legend_below(
        [entry(FORMS[f].label, lw=2.2, **FORMS[f].drawn) for f in FORMS.among(table["form"])], 3
    )

    def each() -> Iterator[tuple[Axes, str, pd.DataFrame]]:
        for (model, family), axes in zip(product(models, families), grid.flat, strict=True):
            axes.set_title(f"{model}: {style.FAMILIES[family].label}")
            yield axes, family, table[(table["model"] == model) & (table["family"] == family)]

    return figure, each()
