"""The paper's Figure 3, redrawn from the activations of a real cell."""

import pandas as pd
from matplotlib.axes import Axes

from splitkit.plots.manifold import DISTANCE_LABELS, part_of
from splitkit.plots.style import CURVE_COLOURS, FORMS, OBJECTIVES, STRENGTH, UTILITY, Canvas, style

NEAR = 4.0
"""Strengths drawn, in matching strengths: the straight lines of a projection, and the bell of utility."""


def figure3_manifold(
    cloud: pd.DataFrame, projections: pd.DataFrame, distances: pd.DataFrame, model: str, task: str
) -> Canvas:
    """The paper's Figure 3 from data: one cell's activations P at m = 0, P1 and P2 at either side of it.

    Tables as from `studies.manifold.tables`; the cell is the one that `cloud` has of this model and task.

    Raises:
        ValueError: when `cloud` has no such model and task.
    """
    points = part_of(cloud, model, task)
    form, objective = points["form"].iloc[0], points["objective"].iloc[0]
    of_cell = {"form": form, "objective": objective, "seed": points["seed"].iloc[0]}
    along = part_of(projections, model, task, **of_cell).sort_values("m_relative")
    apart = part_of(distances, model, task, **of_cell, site="layer").sort_values("m_relative")
    along, apart = (table[table["m_relative"].abs() <= NEAR] for table in (along, apart))
    with style():
        figure = Canvas(figsize=(9.2, 7.0), layout="constrained")
        (off, plane), (gain, decay) = figure.subplots(2, 2)
        _cloud(off, points, "distance", "distance to the manifold")
        off.axhline(1, color="0.4", linestyle=":", linewidth=1.0)
        off.set_ylim(bottom=0)
        _cloud(plane, points, "utility_axis", "on the utility axis (natural sd)")
        off.set_title("off the manifold")
        plane.set_title("along the two axes")
        for name, dash in (("preference", "-"), ("utility", "--")):
            colour = CURVE_COLOURS[name]
            gain.plot(along["m_relative"], along[f"{name}_axis"], dash, color=colour, label=f"{name} axis")
        gain.set_title("projection gain")
        gain.set_ylabel("mean position (natural sd)")
        gain.legend()
        right = decay.twinx()
        right.grid(False)
        for name, dash in (("subspace", "-"), ("neighbours", ":")):
            decay.plot(apart["m_relative"], apart[name], dash, color="0.25", label=DISTANCE_LABELS[name])
        right.plot(
            apart["m_relative"], apart["utility"], "--", color=CURVE_COLOURS["utility"], label="utility"
        )
        decay.set_title("distance and utility")
        decay.set_ylabel("mean distance (held-out natural = 1)")
        right.set_ylabel(f"{UTILITY} (dashed)")
        decay.set_ylim(bottom=0)
        handles = [*decay.get_lines(), *right.get_lines()]
        decay.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8)
        for axes in (gain, decay):
            axes.set_xlabel(STRENGTH)
        figure.suptitle(f"{model}, {task}: {FORMS[form]}, {OBJECTIVES[objective]}")
    return figure


def _cloud(axes: Axes, points: pd.DataFrame, y: str, label: str) -> None:
    """Tokens at three strengths, P1 and P2 (means) reached from P by arrows."""
    strengths = sorted(points["m_relative"].unique())
    names = dict(zip(strengths, ("P₂", "P", "P₁"), strict=False))
    colours = dict(zip(strengths, ("#cc78bc", "0.35", "#0173b2"), strict=False))
    middle = points[points["m_relative"] == 0][["preference_axis", y]].mean()
    for strength in strengths:
        here = points[points["m_relative"] == strength]
        axes.plot(
            here["preference_axis"], here[y], ".", color=colours[strength], alpha=0.35, ms=5, mec="none"
        )
        centre = here[["preference_axis", y]].mean()
        if strength:
            axes.annotate(
                "", tuple(centre), tuple(middle), arrowprops={"arrowstyle": "->", "color": "black", "lw": 1.3}
            )
        name = f"{names[strength]} (m = {strength:+.1f})" if strength else "P (m = 0)"
        axes.annotate(
            name, (centre.iloc[0], here[y].quantile(0.97)), (0, 8), textcoords="offset points",
            fontsize=9, fontweight="bold", ha="center",
        )  # fmt: skip
    axes.margins(x=0.15, y=0.12)
    axes.set_xlabel("position on the preference axis (natural sd)")
    axes.set_ylabel(label)
