"""Figures of fits and of how far they can be trusted: R², rivals where they were not fitted, null curves."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from splitkit.plots.style import (
    CURVE_COLOURS,
    FORMS,
    OBJECTIVES,
    PREFERENCE,
    Canvas,
    selected,
    strength_axis,
    style,
    twin,
)
from splitkit.studies.fits import fitted_curve
from splitkit.studies.frames import families_of
from splitkit.studies.rivals import RIVALS
from splitkit.tasks import task_family

_JUDGED = {"interleaved": "left out: every other m", "outer": "left out: the outer quarter"}
_OUTSIDE = 30.0
"""Errors in standard deviations of a curve beyond which it no longer matters how wrong a curve is."""

_MARKERS = "osDv^P*X"
_DIGITS = 1e-4
"""R² is committed with four digits: below this 1 - R² is not known."""


def figure_fits(
    curves: pd.DataFrame, fits: pd.DataFrame, model: str, task: str, split: str = "train"
) -> Canvas:
    """Measured points with Eq. 15 and 17 fitted to them, and R²: a row per form, a column per objective.

    `curves` has one curve per form and objective, as `families.family_curves` has; `fits` are its rows of
    `fits.fit_table`. Dotted lines mark where the validity of the preference fit is one half.

    Raises:
        ValueError: when a column is missing, or the table has no such model, task or split (listing those it
        has).
    """
    points = selected(curves, model=[model], task=[task], split=[split])
    lines = selected(fits, model=[model], task=[task], split=[split])
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
                right = twin(axes, first=False, last=column == len(objectives) - 1)
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


def figure_r2_beside_paper(table: pd.DataFrame) -> Canvas:
    """R² of our fits beside the paper's Table 2, 6 or 7: a panel per model and curve, a line per kind.

    `table` comes from `splitkit.paper.beside`: model, task, form, objective, curve, r2 and paper (NaN where
    the paper gives no number). A dot per cell, so that AxBench has one for each concept; the paper has one
    number per family. Values below the axis are drawn at its edge as arrows with the number.

    Raises:
        ValueError: when a column is missing.
    """
    table = selected(table.assign(paper=table.get("paper", np.nan)), curve=["preference", "utility"])
    models, families = list(dict.fromkeys(table["model"])), families_of(table["task"])
    present = set(zip(table["form"], table["objective"], strict=True))
    kinds = [(form, objective) for form in FORMS for objective in OBJECTIVES if (form, objective) in present]
    place = {kind: len(kinds) - 1 - i for i, kind in enumerate(kinds)}
    table = table.assign(task=table["task"].map(task_family))
    # the paper's number belongs to the family: drawn once, not once per concept and seed
    repeated = table.duplicated(["model", "task", "form", "objective", "curve"])
    table = table.assign(paper=table["paper"].mask(repeated))
    lowest = max(0.8, min(0.9, float(table[["r2", "paper"]].min().min()) - 0.02))
    hollow, shifts = {"mfc": "white", "mec": "0.25", "ms": 6.0}, np.linspace(0.26, -0.26, len(families))
    with style():
        size = (8.6, (0.36 * len(kinds) + 0.7) * len(models) + 0.9)
        figure = Canvas(figsize=size, layout="constrained")
        grid = figure.subplots(len(models), 2, squeeze=False, sharex=True, sharey=True)
        for model, row in zip(models, grid, strict=True):
            for curve, axes in zip(("preference", "utility"), row, strict=True):
                filled = {"mfc": CURVE_COLOURS[curve], "mec": "none", "ms": 5.0, "alpha": 0.6}
                part = table[(table["model"] == model) & (table["curve"] == curve)]
                for line in part.to_dict("records"):
                    family = families.index(line["task"])
                    height = place[(line["form"], line["objective"])] + shifts[family]
                    _dot(axes, line["paper"], height, lowest, _MARKERS[family], hollow)
                    _dot(axes, line["r2"], height, lowest, _MARKERS[family], filled)
                axes.set_title(f"{model}: {curve}")
                axes.set_yticks(list(place.values()), [f"{FORMS[f]}, {OBJECTIVES[o]}" for f, o in kinds])
                axes.set_xlim(lowest, 1.005)
                axes.xaxis.set_major_locator(MaxNLocator(6))
        for axes in grid[-1]:
            axes.set_xlabel("R²")
        plain: dict[str, Any] = {"color": "0.35", "linestyle": ""}
        named = [Line2D([], [], marker=_MARKERS[i], label=name, **plain) for i, name in enumerate(families)]
        ours = Line2D([], [], marker="o", label="ours (filled, one per cell)", **plain)
        paper = Line2D([], [], marker="o", linestyle="", label="paper (hollow)", **hollow)  # type: ignore[arg-type]
        figure.legend(handles=[ours, paper, *named], loc="outside lower center", ncols=3)
    return figure


def _dot(axes: Axes, value: float, height: float, lowest: float, marker: str, look: dict[str, Any]) -> None:
    if value < lowest:
        axes.annotate(
            f"{value:.2f}", (lowest, height), (12, 0), textcoords="offset points", fontsize=7, va="center",
            arrowprops={"arrowstyle": "->", "color": "0.4"},
        )  # fmt: skip
    elif not np.isnan(value):
        axes.plot(value, height, marker, **look)


def figure_rivals(table: pd.DataFrame) -> Canvas:
    """Errors of Eq. 15 / 17 and of their rivals at strengths that were left out, over all curves.

    `table` comes from `studies.rival_curves.rival_table`. One point per curve, a bar at the median; a panel
    per curve and way of leaving out. Errors beyond 30 standard deviations are drawn at 30. Free parameters, 4
    to 8, are printed in brackets.

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


def figure_null(null: pd.DataFrame, fits: pd.DataFrame, bars: dict[str, float]) -> Canvas:
    """Share of null curves and of measured ones that Eq. 15 and 17 fit with at most the 1 - R² below it.

    `null` comes from `studies.null_curves.null_fits` (shape, curve, r2), `fits` has curve and r2 of measured
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


def _fit_legend() -> list[Line2D]:
    blue, orange = CURVE_COLOURS.values()
    return [
        Line2D([], [], color=blue, marker="o", mfc="none", linestyle="", label="preference"),
        Line2D([], [], color=blue, label="Eq. 15"),
        Line2D([], [], color=orange, marker="s", mfc="none", linestyle="", label="utility"),
        Line2D([], [], color=orange, linestyle="--", label="Eq. 17"),
        Line2D([], [], color="0.5", linestyle=":", label="D = 1/2 (Eq. 15)"),
    ]
