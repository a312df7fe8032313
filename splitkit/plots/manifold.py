"""Figures of distances to the activation manifold, of their relation to utility, and of angles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from splitkit.plots.style import FORMS, Canvas, strength_axis, style
from splitkit.studies.manifold.relation import CONTROLS, falling, utility_change

FORM_COLOURS = {"vector": "#0173b2", "lora": "#de8f05", "local_weight": "#029e73"}
FORM_MARKERS = {"vector": "o", "lora": "s", "local_weight": "^"}
CONTROL_MARKERS = {"random": "x", "natural": "+"}
CONTROL_LABELS = {"random": "random direction", "natural": "random natural direction"}
DISTANCE_LABELS = {
    "within": "within the subspace",
    "outside": "outside the subspace",
    "subspace": "subspace, both parts",
    "neighbours": "nearest neighbours",
    "moved": "length of the move",
    "strength": "|m|",
}
_UNITS = {"moved": "mean |h' − h| / mean |h|", "strength": "|m| (matching strengths)"}
_SITES = {"layer": "leaving the steered layer", "end": "what the head reads"}
_DIRECTIONS = {
    "utility": "gradient of utility",
    "probe": "probe of valid text",
    "preference": "gradient of preference",
}


def figure_distances(distances: pd.DataFrame, model: str, task: str) -> Canvas:
    """Distance against m of every cell: a row per site, a column per estimator, colour by form.

    Raises:
        ValueError: when the table has no such model and task.
    """
    table = part_of(distances, model, task)
    shown = ("within", "outside", "neighbours")
    with style():
        figure = Canvas(figsize=(9.6, 5.6), layout="constrained")
        grid = figure.subplots(2, len(shown), sharex=True)
        for (site, title), row in zip(_SITES.items(), grid, strict=True):
            for estimator, axes in zip(shown, row, strict=True):
                here = table[table["site"] == site]
                for (form, objective, _), cell in here.groupby(["form", "objective", "seed"], sort=False):
                    control = objective in CONTROLS
                    axes.plot(
                        cell["m_relative"],
                        cell[estimator],
                        color="0.6" if control else FORM_COLOURS[str(form)],
                        linestyle={"random": ":", "natural": "--"}.get(str(objective), "-"),
                        linewidth=1.0,
                        alpha=0.8,
                    )
                axes.axhline(1, color="0.3", linewidth=0.8)
                if site == "layer":
                    axes.set_yscale("log")
                    axes.yaxis.set_major_formatter("{x:g}")
                    axes.yaxis.set_minor_formatter(NullFormatter())
                axes.set_title(f"{DISTANCE_LABELS[estimator]}\n{title}", fontsize=9.5)
        for axes in grid[-1]:
            strength_axis(axes, float(table["m_relative"].max()), fontsize=8)
        for axes in grid[:, 0]:
            axes.set_ylabel("distance (natural = 1)")
        figure.suptitle(f"{model}, {task}")
        lines = [Line2D([], [], color=FORM_COLOURS[form], label=name) for form, name in FORMS.items()]
        styles: dict[str, Any] = {"random": ":", "natural": "--"}
        lines += [
            Line2D([], [], color="0.6", linestyle=styles[name], label=text)
            for name, text in CONTROL_LABELS.items()
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=5)
    return figure


def figure_relation(
    distances: pd.DataFrame, relation: pd.DataFrame, model: str, tasks: Sequence[str], site: str = "layer"
) -> Canvas:
    """Utility lost against distance, every cell and strength, with the one falling curve for all forms.

    A row per task; a column for each of two estimators and of two rivals that know of no manifold.
    `relation` from `studies.manifold.relation.relation_table` gives the R² of the titles.

    Raises:
        ValueError: when a table has no such model and task.
    """
    shown = ("subspace", "neighbours", "moved", "strength")
    with style():
        figure = Canvas(figsize=(10.4, 2.5 * len(tasks) + 0.9), layout="constrained")
        grid = figure.subplots(len(tasks), len(shown), squeeze=False, sharex="col", sharey="row")
        for task, row in zip(tasks, grid, strict=True):
            table = part_of(distances, model, task, site=site)
            table = table.assign(strength=table["m_relative"].abs(), change=utility_change(table))
            table = table.dropna(subset=["change"])
            numbers = part_of(relation, model, task, site=site).set_index("estimator")
            for estimator, axes in zip(shown, row, strict=True):
                _points(axes, table, estimator)
                learned = table[~table["objective"].isin(CONTROLS)].sort_values(estimator)
                x, y = learned[estimator].to_numpy(), learned["change"].to_numpy()
                axes.plot(x, falling(x, y), color="black", linewidth=1.3)
                axes.set_title(
                    f"{DISTANCE_LABELS[estimator]}\nR² {numbers.loc[estimator, 'r2_one_curve']:.2f}, "
                    f"per form {numbers.loc[estimator, 'r2_per_form']:.2f}",
                    fontsize=9,
                )
            row[0].set_ylabel(f"{task}\nutility − utility at m = 0")
        for estimator, axes in zip(shown, grid[-1], strict=True):
            strength_axis(axes, float(table[estimator].max()))
            axes.set_xlim(left=0)
            axes.set_xlabel(_UNITS.get(estimator, "distance (natural = 1)"), fontsize=8)
        figure.suptitle(f"{model}, activations {_SITES[site]}")
        plain: dict[str, Any] = {"linestyle": ""}
        handles = [
            Line2D([], [], color=FORM_COLOURS[form], marker=FORM_MARKERS[form], label=name, **plain)
            for form, name in FORMS.items()
        ]
        handles += [
            Line2D([], [], color="0.5", marker=CONTROL_MARKERS[name], label=text, **plain)
            for name, text in CONTROL_LABELS.items()
        ]
        handles.append(Line2D([], [], color="black", label="one falling curve for all forms"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def figure_angles(angles: pd.DataFrame) -> Canvas:
    """|cos| of dh with each direction, a panel per model: one mark per cell, the lines where random ones end.

    Solid line: 95 % of isotropic random directions are left of it; dashed: of those with the covariance of
    natural activations.
    """
    models = list(dict.fromkeys(angles["model"]))
    with style():
        figure = Canvas(figsize=(4.4 * len(models) + 0.6, 3.2), layout="constrained")
        grid = figure.subplots(1, len(models), squeeze=False, sharex=True, sharey=True)[0]
        for model, axes in zip(models, grid, strict=True):
            for height, direction in enumerate(reversed(_DIRECTIONS)):
                part = angles[(angles["model"] == model) & (angles["direction"] == direction)]
                for shift, (form, colour) in zip((0.22, 0.0, -0.22), FORM_COLOURS.items(), strict=True):
                    values = part.loc[part["form"] == form, "cosine"].abs()
                    axes.plot(
                        values, np.full(len(values), height + shift), FORM_MARKERS[form],
                        color=colour, ms=4.5, alpha=0.7, mec="none",
                    )  # fmt: skip
                for kind, dash in (("isotropic_95", "-"), ("natural_95", "--")):
                    edge = part[kind].median()
                    axes.plot([edge, edge], [height - 0.4, height + 0.4], dash, color="0.25", linewidth=1.2)
            axes.set_yticks(range(len(_DIRECTIONS)), list(reversed(_DIRECTIONS.values())))
            axes.set_xlim(0, 1)
            axes.set_xlabel("|cos| of the angle with dh")
            axes.set_title(model)
        handles = [
            Line2D([], [], color=colour, marker=FORM_MARKERS[form], linestyle="", label=FORMS[form])
            for form, colour in FORM_COLOURS.items()
        ]
        handles.append(Line2D([], [], color="0.25", label="95 % of random"))
        handles.append(Line2D([], [], color="0.25", linestyle="--", label="95 % of random natural"))
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def _points(axes: Axes, table: pd.DataFrame, estimator: str) -> None:
    for (form, objective), cell in table.groupby(["form", "objective"], sort=False):
        control = str(objective) in CONTROLS
        axes.plot(
            cell[estimator],
            cell["change"],
            CONTROL_MARKERS[str(objective)] if control else FORM_MARKERS[str(form)],
            color="0.5" if control else FORM_COLOURS[str(form)],
            ms=4 if control else 3.2,
            alpha=0.8 if control else 0.55,
            mec=None if control else "none",
            rasterized=True,
        )


def part_of(table: pd.DataFrame, model: str, task: str, **further: object) -> pd.DataFrame:
    """The rows of a table that are about a model, a task and whatever else is named; there must be some."""
    wanted = {"model": model, "task": task, **further}
    part = table[table[list(wanted)].eq(list(wanted.values())).all(axis=1)]
    if part.empty:
        there = sorted(set(zip(table["model"], table["task"], strict=True)))
        raise ValueError(f"the table has no {', '.join(map(str, wanted.values()))}; there are {there}.")
    return part
