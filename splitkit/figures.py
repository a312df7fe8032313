"""Figures of curves and fits: a tidy table in, a matplotlib figure out, one function per figure."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from splitkit.fits import fitted_curve
from splitkit.looks import (
    CURVE_COLOURS,
    FORMS,
    OBJECTIVES,
    PREFERENCE,
    UTILITY,
    Canvas,
    look,
    save,
    strength_axis,
    style,
)
from splitkit.paper import task_family
from splitkit.schematic import figure1_forms

__all__ = ["figure1_forms", "figure2_curves", "figure_fits", "figure_r2_beside_paper", "save", "style"]


def figure2_curves(curves: pd.DataFrame, model: str, tasks: Sequence[str], split: str = "train") -> Figure:
    """The paper's Figures 2, 4 and 5: solid preference (left axis) and dashed utility (right) against m.

    Top row the objectives of the vector, bottom row LoRA and local weight; one column per task. `curves` has
    one row per cell, split and m_relative; seeds are averaged.

    Raises:
        ValueError: when a column is missing, or the table has no such model, task or split (listing those it
        has).
    """
    table = _selected(curves, model=[model], task=tasks, split=[split])
    panels = {"vector": ["vector"], "LoRA and local weight": ["lora", "local_weight"]}
    with style():
        figure = Canvas(figsize=(3.6 * len(tasks) + 1.0, 6.6), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.12)  # type: ignore[union-attr,call-arg]
        grid = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
        for (title, forms), row in zip(panels.items(), grid, strict=True):
            for column, (task, axes) in enumerate(zip(tasks, row, strict=True)):
                right = _twin(axes, first=column == 0, last=column == len(tasks) - 1)
                part = table[(table["task"] == task) & table["form"].isin(forms)]
                for (form, objective), cell in part.groupby(["form", "objective"], sort=False):
                    mean = cell.groupby("m_relative")[["preference", "utility"]].mean()
                    shown = look(str(form), str(objective))
                    axes.plot(mean.index, mean["preference"], "-", linewidth=1.7, **shown)
                    right.plot(
                        mean.index,
                        mean["utility"],
                        "--",
                        linewidth=1.2,
                        alpha=0.8,
                        **shown | {"markersize": 3},
                    )
                axes.set_title(f"{task}: {title}")
        for axes in grid[-1]:
            strength_axis(axes, table["m_relative"].abs().max())
        figure.suptitle(f"{model}, {split} pairs")
        figure.legend(handles=_legend(table), loc="outside lower center", ncols=4)
    return figure


def figure_fits(
    curves: pd.DataFrame, fits: pd.DataFrame, model: str, task: str, split: str = "train"
) -> Figure:
    """Measured points with Eq. 15 and 17 fitted to them, and R²: a row per form, a column per objective.

    `curves` as for `figure2_curves`, with one seed; `fits` from `splitkit.fits.fit_table`. Dotted lines mark
    where the validity of the preference fit is one half.

    Raises:
        ValueError: when a column is missing, or the table has no such model, task or split (listing those it
        has).
    """
    points = _selected(curves, model=[model], task=[task], split=[split])
    lines = _selected(fits, model=[model], task=[task], split=[split])
    forms = [form for form in FORMS if form in set(points["form"])]
    objectives = [name for name in OBJECTIVES if name in set(points["objective"])]
    limit = float(points["m_relative"].abs().max())
    dense = np.sinh(np.linspace(-np.arcsinh(limit), np.arcsinh(limit), 401))
    with style():
        figure = Canvas(figsize=(3.0 * len(objectives) + 1.0, 2.5 * len(forms) + 0.8), layout="constrained")
        grid = figure.subplots(len(forms), len(objectives), squeeze=False, sharex=True)
        for form, row in zip(forms, grid, strict=True):
            for column, (objective, axes) in enumerate(zip(objectives, row, strict=True)):
                cell = points[(points["form"] == form) & (points["objective"] == objective)]
                if cell.empty:
                    axes.set_axis_off()
                    continue
                right = _twin(axes, first=False, last=column == len(objectives) - 1)
                axes.set_ylabel("" if column and row[column - 1].axison else f"{PREFERENCE} (solid)")
                own = lines[(lines["form"] == form) & (lines["objective"] == objective)]
                found = {str(line["curve"]): line for line in own.to_dict("records")}
                for side, curve, marker, dash in (
                    (axes, "preference", "o", "-"),
                    (right, "utility", "s", "--"),
                ):
                    colour = CURVE_COLOURS[curve]
                    side.plot(cell["m_relative"], cell[curve], marker, color=colour, mfc="none", ms=3.2)
                    side.plot(dense, fitted_curve(found[curve], dense), dash, color=colour, linewidth=1.4)
                for edge in ("breakdown_negative", "breakdown_positive"):
                    axes.axvline(found["preference"][edge], color="0.5", linestyle=":", linewidth=1.0)
                values = [found[curve]["r2"] for curve in ("preference", "utility")]
                r2 = ", ".join("undefined" if np.isnan(value) else f"{value:.3f}" for value in values)
                axes.set_title(f"{FORMS[form]}, {OBJECTIVES[objective]}\nR² = {r2}", fontsize=9.5)
        for column in grid.T:
            lowest = [axes for axes in column if axes.axison][-1]
            lowest.tick_params(labelbottom=True)
            strength_axis(lowest, limit, fontsize=8)
        figure.suptitle(f"{model}, {task}, {split} pairs")
        figure.legend(handles=_fit_legend(), loc="outside lower center", ncols=5)
    return figure


def figure_r2_beside_paper(table: pd.DataFrame) -> Figure:
    """R² of our fits beside the paper's Table 2, 6 or 7: a panel per model and curve, a line per kind.

    `table` comes from `splitkit.paper.beside`: model, task, form, objective, curve, r2 and paper (NaN where
    the paper gives no number). Values below the axis are drawn at its edge as arrows with the number.

    Raises:
        ValueError: when a column is missing.
    """
    table = _selected(table.assign(paper=table.get("paper", np.nan)), curve=["preference", "utility"])
    models = list(dict.fromkeys(table["model"]))
    present = set(zip(table["form"], table["objective"], strict=True))
    kinds = [(form, objective) for form in FORMS for objective in OBJECTIVES if (form, objective) in present]
    place = {kind: len(kinds) - 1 - i for i, kind in enumerate(kinds)}
    tasks = list(dict.fromkeys(table["task"]))
    markers = dict(zip(tasks, cycle("os^DvP*X"), strict=False))
    families = table["task"].map(task_family)
    # the paper has one number for all concepts of AxBench: drawn once, not once per concept
    repeated = families.groupby([table[key] for key in ("model", "form", "objective", "curve")])
    table = table.assign(paper=table["paper"].mask(repeated.transform(lambda names: names.duplicated())))
    lowest = max(0.8, min(0.9, float(table[["r2", "paper"]].min().min()) - 0.02))
    with style():
        size = (8.6, (0.36 * len(kinds) + 0.7) * len(models) + 0.9)
        figure = Canvas(figsize=size, layout="constrained")
        grid = figure.subplots(len(models), 2, squeeze=False, sharex=True, sharey=True)
        for model, row in zip(models, grid, strict=True):
            for curve, axes in zip(("preference", "utility"), row, strict=True):
                part = table[(table["model"] == model) & (table["curve"] == curve)]
                for line in part.to_dict("records"):
                    height = place[(line["form"], line["objective"])]
                    shift = 0.5 * (tasks.index(line["task"]) - (len(tasks) - 1) / 2) / max(1, len(tasks) - 1)
                    marker = markers[line["task"]]
                    hollow = {"mfc": "white", "mec": "0.25"}
                    filled = {"mfc": CURVE_COLOURS[curve], "mec": "none"}
                    _dot(axes, line["paper"], height + shift, lowest, marker, hollow)
                    _dot(axes, line["r2"], height + shift, lowest, marker, filled)
                axes.set_title(f"{model}: {curve}")
                axes.set_yticks(list(place.values()), [f"{FORMS[f]}, {OBJECTIVES[o]}" for f, o in kinds])
                axes.set_xlim(lowest, 1.005)
                axes.xaxis.set_major_locator(MaxNLocator(6))
        for axes in grid[-1]:
            axes.set_xlabel("R²")
        shapes = [Line2D([], [], color="0.35", marker=markers[t], linestyle="", label=t) for t in tasks]
        ours = Line2D([], [], color="0.2", marker="o", linestyle="", label="ours (filled)")
        paper = Line2D(
            [],
            [],
            mec="0.25",
            mfc="white",
            marker="o",
            linestyle="",
            label="paper (hollow; one for all concepts)",
        )
        figure.legend(handles=[ours, paper, *shapes], loc="outside lower center", ncols=3)
    return figure


def _dot(axes: Axes, value: float, height: float, lowest: float, marker: str, look: dict[str, Any]) -> None:
    if value < lowest:
        axes.annotate(
            f"{value:.2f}", (lowest, height), (12, 0), textcoords="offset points", fontsize=7, va="center",
            arrowprops={"arrowstyle": "->", "color": "0.4"},
        )  # fmt: skip
    elif not np.isnan(value):
        axes.plot(value, height, marker, ms=6, **look)


def _selected(table: pd.DataFrame, **wanted: Sequence[str]) -> pd.DataFrame:
    for column, values in wanted.items():
        if column not in table:
            raise ValueError(f"The table lacks the column {column!r}; it has {list(table.columns)}.")
        if unknown := [value for value in values if value not in set(table[column])]:
            there = sorted(table[column].unique())
            raise ValueError(f"The table has no {column} {', '.join(map(repr, unknown))}; it has {there}.")
        table = table[table[column].isin(values)]
    return table


def _twin(axes: Axes, first: bool, last: bool) -> Axes:
    """A right axis for utility beneath the left one's lines, labelled only where a row begins and ends."""
    right = axes.twinx()
    right.grid(False)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    if first:
        axes.set_ylabel(f"{PREFERENCE} (solid)")
    if last:
        right.set_ylabel(f"{UTILITY} (dashed)")
    return right


def _legend(table: pd.DataFrame) -> list[Line2D]:
    named = [name for name in OBJECTIVES if name in set(table["objective"])]
    entries = [Line2D([], [], label=OBJECTIVES[name], **look("vector", name)) for name in named]
    plain: dict[str, Any] = {"color": "0.3", "markersize": 4.5}
    return [
        *entries,
        Line2D([], [], label="preference", **plain),
        Line2D([], [], label="utility", linestyle="--", **plain),
        Line2D([], [], label="vector, LoRA", marker="o", linestyle="", **plain),
        Line2D([], [], label="local weight", marker="o", mfc="white", linestyle="", **plain),
    ]


def _fit_legend() -> list[Line2D]:
    blue, orange = CURVE_COLOURS.values()
    return [
        Line2D([], [], color=blue, marker="o", mfc="none", linestyle="", label="preference"),
        Line2D([], [], color=blue, label="Eq. 15"),
        Line2D([], [], color=orange, marker="s", mfc="none", linestyle="", label="utility"),
        Line2D([], [], color=orange, linestyle="--", label="Eq. 17"),
        Line2D([], [], color="0.5", linestyle=":", label="D = 1/2 (Eq. 15)"),
    ]
