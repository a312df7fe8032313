"""Figures of curves, the paper's 2, 4 and 5 among them: a tidy table in, a matplotlib figure out."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from splitkit.plots import style
from splitkit.plots.schematic import figure1_forms
from splitkit.plots.style import CURVES, FORMS, OBJECTIVES, Canvas, entry, panels, save, selected
from splitkit.studies.frames import family_curves

__all__ = ["figure1_forms", "figure2_curves", "figure5_curves", "figure_reductions", "save"]


@style.styled()
def figure2_curves(curves: pd.DataFrame, model: str, family: str = "axbench", split: str = "train") -> Canvas:
    """The paper's Figures 2 and 4: solid preference (left axis) and dashed utility (right) against m.

    The upper panel shows the objectives of the vector, the lower one LoRA and local weight. A line is the
    mean over the family's concepts and seeds at equal relative strength (`frames.family_curves`); a thin band
    is one standard deviation of preference over them.
    """
    table = selected(family_curves(curves), model=model, task=family, split=split)
    figure, grid = panels(8.6, 8.4, 2, 1, sharex=True)
    for (title, forms), axes in zip(_halves(table["form"]), grid[:, 0], strict=True):
        _draw(axes, table[table["form"].isin(forms)], first=True, last=True, band=True)
        axes.set_title(title)
    style.strength_axis(grid[-1, 0], table["m_relative"].abs().max())
    figure.suptitle(f"{model}, {style.FAMILIES[family].label}, {split} pairs{_number(table)}")
    figure.legend_below(_legend(table), 4)
    return figure


@style.styled()
def figure5_curves(
    curves: pd.DataFrame,
    models: Sequence[str],
    families: Sequence[str] = ("powerseeking", "psychopathy"),
    split: str = "train",
) -> Canvas:
    """The paper's Figure 5: (a) PowerSeeking and (b) Psychopathy, both models, drawn as in Figure 2.

    A column per model; of each family two rows, the vector above LoRA and local weight. Means over seeds.
    """
    table = selected(family_curves(curves), model=list(models), task=list(families), split=split)
    height = 5.2 * len(families) + 1.0
    figure = Canvas(figsize=(4.1 * len(models) + 1.2, height), layout="constrained")
    blocks = figure.subfigures(len(families), 1, squeeze=False)[:, 0]
    for letter, family, block in zip("abcdefgh", families, blocks, strict=False):
        own = table[table["task"] == family]
        grid = block.subplots(2, len(models), squeeze=False, sharex=True)
        for (title, forms), row in zip(_halves(table["form"]), grid, strict=True):
            for column, (model, axes) in enumerate(zip(models, row, strict=True)):
                part = own[(own["model"] == model) & own["form"].isin(forms)]
                _draw(axes, part, first=column == 0, last=column == len(models) - 1)
                axes.set_title(f"{model}: {title}")
        for axes in grid[-1]:
            style.strength_axis(axes, table["m_relative"].abs().max())
        title = f"({letter}) {style.FAMILIES[family].label}, {split} pairs{_number(own)}"
        block.suptitle(title, fontsize=12)
    figure.legend_below(_legend(table), 4)
    return figure


@style.styled()
def figure_reductions(curves: pd.DataFrame, model: str) -> Canvas:
    """Curves of means (left axes, solid) and of sums (right axes, dashed): preference above, utility below.

    `curves` is the table "reduction_curves"; a column per task, a line per form.
    """
    table = selected(curves, model=model, reduction=["mean", "sum"])
    tasks = list(table["task"].unique())
    figure, grid = panels(3.9 * len(tasks) + 0.8, 6.0, 2, len(tasks), sharex=True)
    for (curve, look), row in zip(CURVES.items(), grid, strict=True):
        for task, axes in zip(tasks, row, strict=True):
            right = axes.twinx()
            right.grid(False)
            sides = {"mean": (axes, "-"), "sum": (right, "--")}
            for (form, reduction), own in table[table["task"] == task].groupby(["form", "reduction"]):
                side, dash = sides[str(reduction)]
                drawn = FORMS[str(form)].drawn
                side.plot(own["m_relative"], own[curve], dash, markevery=4, ms=3.5, **drawn)
            axes.set_title(f"{task}: {curve}")
        row[0].set_ylabel(f"{look.label}, means (solid)")
        right.set_ylabel("sums (dashed)")
    for axes in grid[-1]:
        style.strength_axis(axes, table["m_relative"].abs().max(), fontsize=9)
    figure.suptitle(f"{model}: losses as means per token and as sums, in nats")
    forms = FORMS.among(table["form"])
    figure.legend_below([entry(FORMS[form].label, **FORMS[form].drawn) for form in forms], len(forms))
    return figure


def _halves(forms: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Titles and forms of the paper's two panels: the vector, and all forms that change weights."""
    others = [form for form in FORMS.among([*FORMS, *forms]) if form != "vector"]
    return [(" and ".join(FORMS[form].label for form in half), half) for half in (["vector"], others)]


def _draw(axes: Axes, table: pd.DataFrame, first: bool, last: bool, band: bool = False) -> None:
    """Preference on the left axis and utility on a right one, a line per form and objective."""
    right = style.twin(axes, first, last)
    for (form, objective), mean in table.groupby(["form", "objective"], sort=False):
        m, shown = mean["m_relative"].to_numpy(), style.curve_look(str(form), str(objective))
        thin = {"linewidth": 1.1} if form == "local_weight" else {"linewidth": 1.8}
        axes.plot(m, mean["preference"], "-", **shown | thin)
        small = {"linewidth": 1.1, "alpha": 0.85, "markersize": 3.0}
        right.plot(m, mean["utility"], "--", **shown | small)
        if band:
            low, high = (mean["preference"] + sign * mean["preference_sd"] for sign in (-1, 1))
            axes.fill_between(m, low, high, color=shown["color"], alpha=0.1, linewidth=0)


def _number(table: pd.DataFrame) -> str:
    """A note on the number of curves behind a line, empty where it is one."""
    counts = sorted(set(table["n_cells"]))
    between = " to ".join(map(str, counts[:: max(1, len(counts) - 1)]))
    return "" if counts == [1] else f" (means of {between} cells)"


def _legend(table: pd.DataFrame) -> list[Line2D]:
    names = OBJECTIVES.among(table["objective"])
    plain = {"color": style.GREY, "markersize": 4.5}
    lines = [entry(OBJECTIVES[name].label, **style.curve_look("vector", name)) for name in names]
    lines += [entry("preference", **plain), entry("utility", linestyle="--", **plain)]
    points = {"marker": "o", "linestyle": "", **plain}
    return [*lines, entry("vector, LoRA", **points), entry("local weight", mfc="white", **points)]
