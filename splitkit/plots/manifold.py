"""Figures of the activation manifold: the paper's Figure 3, distances, utility against them, and angles."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from splitkit.plots import style
from splitkit.plots.style import CURVES, FORMS, OBJECTIVES, Canvas, entry, panels, selected
from splitkit.studies.manifold.relation import falling, utility_change

NEAR = 4.0
"""Largest strength in Figure 3, in matching strengths."""


@style.styled()
def figure3_manifold(
    cloud: pd.DataFrame, projections: pd.DataFrame, distances: pd.DataFrame, model: str, task: str
) -> Canvas:
    """The paper's Figure 3 from data: one cell's activations P at m = 0, P1 and P2 at either side of it.

    Tables as from `studies.manifold.tables`; the cell is the one that `cloud` has of this model and task.
    """
    points = selected(cloud, model=model, task=task)
    cell = {"model": model, "task": task} | {n: points[n].iloc[0] for n in ("form", "objective", "seed")}
    tables = (selected(projections, **cell), selected(distances, **cell, site="layer"))
    along, apart = (t[t["m_relative"].abs() <= NEAR].sort_values("m_relative") for t in tables)
    figure, grid = panels(9.2, 7.0, 2, 2)
    (off, plane), (gain, decay) = grid
    form = FORMS[cell["form"]]
    _cloud(off, points, form, "distance", "distance to the manifold")
    off.axhline(1, color="0.4", linestyle=":", linewidth=1.0)
    off.set(ylim=(0, None), title="off the manifold")
    _cloud(plane, points, form, "utility_axis", "on the utility axis (natural sd)")
    plane.set_title("along the two axes")
    for name, look in CURVES.items():
        y = along[f"{name}_axis"]
        gain.plot(along["m_relative"], y, look.dash, color=look.colour, label=f"{name} axis")
    gain.set(title="projection gain", ylabel="mean position (natural sd)")
    gain.legend()
    right = decay.twinx()
    right.grid(False)
    for name, dash in (("subspace", "-"), ("neighbours", ":")):
        decay.plot(apart["m_relative"], apart[name], dash, color="0.25", label=style.DISTANCES[name])
    utility = CURVES["utility"]
    right.plot(apart["m_relative"], apart["utility"], utility.dash, color=utility.colour, label="utility")
    decay.set(title="distance and utility", ylabel="mean distance (held-out natural = 1)")
    right.set_ylabel(f"{utility.label} (dashed)")
    decay.set_ylim(bottom=0)
    handles = [*decay.get_lines(), *right.get_lines()]
    decay.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8)
    for axes in (gain, decay):
        axes.set_xlabel(style.STRENGTH)
    figure.suptitle(f"{model}, {task}: {form.label}, {OBJECTIVES[cell['objective']].label}")
    return figure


def _cloud(axes: Axes, points: pd.DataFrame, form: style.Look, y: str, label: str) -> None:
    """Tokens at three strengths, steered ones in the form's colour; arrows lead from P to the others."""
    middle = points[points["m_relative"] == 0][["preference_axis", y]].mean()
    grey = OBJECTIVES["vanilla"].colour
    looks = (("P₂", "v", form.colour), ("P", "o", grey), ("P₁", "^", form.colour))
    for (strength, here), (name, marker, colour) in zip(points.groupby("m_relative"), looks, strict=False):
        axes.plot(here["preference_axis"], here[y], marker, color=colour, alpha=0.4, ms=3, mec="none")
        centre = here[["preference_axis", y]].mean()
        if strength:
            arrow = {"arrowstyle": "->", "color": "black", "lw": 1.3}
            axes.annotate("", tuple(centre), tuple(middle), arrowprops=arrow)
        axes.annotate(
            f"{name} (m = {strength:+.1f})" if strength else f"{name} (m = 0)",
            (centre.iloc[0], here[y].quantile(0.97)), (0, 8), textcoords="offset points",
            fontsize=9, fontweight="bold", ha="center",
        )  # fmt: skip
    axes.margins(x=0.15, y=0.12)
    axes.set(xlabel="position on the preference axis (natural sd)", ylabel=label)


@style.styled()
def figure_distances(distances: pd.DataFrame, model: str, task: str) -> Canvas:
    """Distance against m of every cell: a row per site, a column per estimator, colour by form."""
    table = selected(distances, model=model, task=task)
    shown = ("within", "outside", "neighbours")
    figure, grid = panels(9.6, 5.6, 2, len(shown), sharex=True)
    for (site, estimator), axes in zip(product(style.SITES, shown), grid.flat, strict=True):
        here = table[table["site"] == site]
        for (form, objective, _), cell in here.groupby(["form", "objective", "seed"], sort=False):
            look = style.CONTROLS.get(str(objective))
            dash, colour = (look.dash, look.colour) if look else ("-", FORMS[str(form)].colour)
            axes.plot(cell["m_relative"], cell[estimator], dash, color=colour, linewidth=1.0, alpha=0.8)
        axes.axhline(1, color="0.3", linewidth=0.8)
        if site == "layer":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{style.DISTANCES[estimator]}\n{style.SITES[site]}", fontsize=9.5)
    for axes in grid[-1]:
        style.strength_axis(axes, float(table["m_relative"].max()), fontsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel("distance (natural = 1)")
    figure.suptitle(f"{model}, {task}")
    lines = [entry(look.label, color=look.colour) for look in _forms(table)]
    lines += [entry(look.label, color=look.colour, linestyle=look.dash) for look in style.CONTROLS.values()]
    figure.legend_below(lines, 5)
    return figure


@style.styled()
def figure_relation(
    distances: pd.DataFrame, relation: pd.DataFrame, model: str, tasks: Sequence[str]
) -> Canvas:
    """Utility lost against distance at the steered layer, with one falling curve for all forms.

    A row per task; a column for each of two estimators and of two rivals that know of no manifold. Every cell
    and strength is drawn. `relation`, from `studies.manifold.relation.relation_table`, has the titles' R².
    """
    shown = ("subspace", "neighbours", "moved", "strength")
    figure, grid = panels(10.4, 2.5 * len(tasks) + 0.9, len(tasks), len(shown), sharex="col", sharey="row")
    for task, row in zip(tasks, grid, strict=True):
        table = selected(distances, model=model, task=task, site="layer")
        table = table.assign(strength=table["m_relative"].abs(), change=utility_change(table))
        table = table.dropna(subset=["change"])
        numbers = selected(relation, model=model, task=task, site="layer").set_index("estimator")
        for estimator, axes in zip(shown, row, strict=True):
            _points(axes, table, estimator)
            learned = table[~table["objective"].isin(style.CONTROLS)].sort_values(estimator)
            x, y = learned[estimator].to_numpy(), learned["change"].to_numpy()
            axes.plot(x, falling(x, y), color="black", linewidth=1.3)
            r2 = (numbers.loc[estimator, name] for name in ("r2_one_curve", "r2_per_form"))
            title = "{}\nR² {:.2f}, per form {:.2f}".format(style.DISTANCES[estimator], *r2)
            axes.set_title(title, fontsize=9)
        row[0].set_ylabel(f"{task}\nutility − utility at m = 0")
    for estimator, axes in zip(shown, grid[-1], strict=True):
        style.strength_axis(axes, float(table[estimator].max()))
        axes.set_xlim(left=0)
        axes.set_xlabel(style.UNITS.get(estimator, "distance (natural = 1)"), fontsize=8)
    figure.suptitle(f"{model}, activations {style.SITES['layer']}")
    looks = [*_forms(distances), *style.CONTROLS.values()]
    handles = [entry(look.label, linestyle="", **look.drawn) for look in looks]
    figure.legend_below([*handles, entry("one falling curve for all forms", color="black")], 3)
    return figure


def _points(axes: Axes, table: pd.DataFrame, estimator: str) -> None:
    for (form, objective), cell in table.groupby(["form", "objective"], sort=False):
        control = str(objective) in style.CONTROLS
        look = style.CONTROLS[str(objective)] if control else FORMS[str(form)]
        size = {"ms": 4, "alpha": 0.8} if control else {"ms": 3.2, "alpha": 0.55, "mec": "none"}
        drawn = look.drawn | {"linestyle": "", "rasterized": True} | size
        axes.plot(cell[estimator], cell["change"], **drawn)


@style.styled()
def figure_angles(angles: pd.DataFrame) -> Canvas:
    """|cos| of dh with each direction, a panel per model: a mark per cell, and lines where random ones end.

    95 % of isotropic random directions are left of the solid line, of natural ones left of the dashed one.
    """
    models, forms = list(angles["model"].unique()), FORMS.among(angles["form"])
    shifts = np.linspace(0.22, -0.22, len(forms))
    figure, grid = panels(4.4 * len(models) + 0.6, 3.2, 1, len(models), sharex=True, sharey=True)
    for model, axes in zip(models, grid[0], strict=True):
        for height, direction in enumerate(reversed(style.DIRECTIONS)):
            part = angles[(angles["model"] == model) & (angles["direction"] == direction)]
            for shift, form in zip(shifts, forms, strict=True):
                values = part.loc[part["form"] == form, "cosine"].abs()
                drawn = FORMS[form].drawn | {"linestyle": "", "ms": 4.5, "alpha": 0.7, "mec": "none"}
                axes.plot(values, np.full(len(values), height + shift), **drawn)
            for kind, (_, dash) in style.EDGES.items():
                edge = part[kind].median()
                axes.plot([edge, edge], [height - 0.4, height + 0.4], dash, color="0.25", linewidth=1.2)
        axes.set_yticks(range(len(style.DIRECTIONS)), list(reversed(style.DIRECTIONS.values())))
        axes.set(xlim=(0, 1), xlabel="|cos| of the angle with dh", title=model)
    handles = [entry(look.label, linestyle="", **look.drawn) for look in _forms(angles)]
    handles += [entry(label, color="0.25", linestyle=dash) for label, dash in style.EDGES.values()]
    figure.legend_below(handles, 5)
    return figure


def _forms(table: pd.DataFrame) -> list[style.Look]:
    return [FORMS[form] for form in FORMS.among(table["form"])]
