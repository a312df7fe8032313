"""Figures of fits, their R², their rivals at strengths left out of the fit, and null curves."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from splitkit.plots import style
from splitkit.plots.style import CURVES, FORMS, OBJECTIVES, Canvas, entry, panels, selected
from splitkit.studies.fits import fitted_curve, fitted_validity
from splitkit.studies.frames import families_of
from splitkit.studies.rival_curves import CANDIDATES
from splitkit.tasks import task_family

_OUTSIDE = 30.0
"""Largest error that is drawn, in standard deviations of a curve."""
_WHOLE = {"preference": "(αm + β)·D + b", "utility": "βᵤ·D + bᵤ"}
_WITHOUT = {"preference": "αm + β + b: were D = 1", "utility": "βᵤ + bᵤ: were D = 1"}
_DIGITS = 1e-4
"""Smallest 1 - R² that is drawn: R² is committed with four digits."""


@style.styled()
def figure_fits(curves: pd.DataFrame, fits: pd.DataFrame, model: str, task: str) -> Canvas:
    """Measured points with Eq. 15 and 17 fitted to them, and R²: a row per form, a column per objective.

    `curves` has one curve of the training pairs per form and objective, as `frames.family_curves` has; `fits`
    are its rows of `fits.fit_table`. Dotted lines mark where the validity of the preference fit is one half.
    """
    points, lines = (selected(t, model=model, task=task, split="train") for t in (curves, fits))
    forms, objectives = FORMS.among(points["form"]), OBJECTIVES.among(points["objective"])
    limit = float(points["m_relative"].abs().max())
    size = (3.0 * len(objectives) + 1.0, 2.5 * len(forms) + 0.8)
    figure, grid = panels(*size, len(forms), len(objectives), sharex=True)
    for form, row in zip(forms, grid, strict=True):
        for column, (objective, axes) in enumerate(zip(objectives, row, strict=True)):
            cell = points[(points["form"] == form) & (points["objective"] == objective)]
            if cell.empty:
                axes.set_axis_off()
                continue
            first = not column or not row[column - 1].axison
            right = style.twin(axes, first, last=column == len(objectives) - 1)
            own = lines[(lines["form"] == form) & (lines["objective"] == objective)]
            found = {str(line["curve"]): line for line in own.to_dict("records")}
            r2 = _fitted(axes, right, cell, found, limit)
            axes.set_title(f"{FORMS[form].label}, {OBJECTIVES[objective].label}\nR² = {r2}", fontsize=9.5)
    for column in grid.T:
        lowest = [axes for axes in column if axes.axison][-1]
        lowest.tick_params(labelbottom=True)
        style.strength_axis(lowest, limit, fontsize=8)
    figure.suptitle(f"{model}, {style.FAMILIES[task].label}, train pairs")
    figure.legend_below(_fit_legend(), 5)
    return figure


def _fitted(left: Axes, right: Axes, cell: pd.DataFrame, found: dict[str, Any], limit: float) -> str:
    """Draw one cell's points and fits, each curve on its axis, and return the two R² in words."""
    dense = np.sinh(np.linspace(-np.arcsinh(limit), np.arcsinh(limit), 401))
    for axes, (curve, look) in zip((left, right), CURVES.items(), strict=True):
        colour = look.colour
        axes.plot(cell["m_relative"], cell[curve], look.marker, color=colour, mfc="none", ms=3.2)
        axes.plot(dense, fitted_curve(found[curve], dense), look.dash, color=colour, linewidth=1.4)
    for edge in ("breakdown_negative", "breakdown_positive"):
        left.axvline(found["preference"][edge], color="0.5", linestyle=":", linewidth=1.0)
    values = [found[curve]["r2"] for curve in CURVES]
    return ", ".join("undefined" if np.isnan(value) else f"{value:.3f}" for value in values)


def _fit_legend() -> list[Line2D]:
    lines = []
    for (curve, look), equation in zip(CURVES.items(), ("Eq. 15", "Eq. 17"), strict=True):
        lines.append(entry(curve, mfc="none", linestyle="", **look.drawn))
        lines.append(entry(equation, color=look.colour, linestyle=look.dash))
    return [*lines, entry("D = 1/2 (Eq. 15)", color="0.5", linestyle=":")]


@style.styled()
def figure_validity(cell: pd.DataFrame, fits: pd.DataFrame) -> Canvas:
    """One cell's fits taken apart: D of both curves (Eq. 12), then each with its D (Eq. 15, 17) and without.

    `cell` is one mean curve, `fits` its two rows of `fits.fit_table`. Dotted uprights mark D = 1/2.
    """
    style.require(cell, "m_relative", *CURVES)
    limit = float(cell["m_relative"].abs().max())
    dense = np.sinh(np.linspace(-np.arcsinh(limit), np.arcsinh(limit), 801))
    figure, grid = panels(11.4, 3.3, 1, 3)
    validity, *own = grid[0]
    for (curve, look), axes in zip(CURVES.items(), own, strict=True):
        row = fits[fits["curve"] == curve].iloc[0]
        decay = fitted_validity(row)
        validity.plot(dense, decay(dense), look.dash, color=look.colour, label=curve)
        axes.plot(cell["m_relative"], cell[curve], look.marker, color=look.colour, mfc="none", ms=4)
        axes.plot(dense, fitted_curve(row, dense), color=look.colour, label=_WHOLE[curve])
        axes.set_ylim(*axes.get_ylim())
        names = ("alpha", "beta", "b") if curve == "preference" else (None, "beta_u", "b_u")
        slope, *ends = (row[name] if name else 0.0 for name in names)
        axes.plot(dense, slope * dense + sum(ends), ":", color=style.GREY, label=_WITHOUT[curve])
        for edge in ("breakdown_negative", "breakdown_positive"):
            validity.axvline(row[edge], color=look.colour, linestyle=":", linewidth=1.0)
        axes.set(title=look.label, ylabel="nats")
    validity.set(title="validity D(m)", ylabel="D", ylim=(0, 1.25))
    for axes in grid[0]:
        style.strength_axis(axes, limit, fontsize=8)
        axes.legend(
            loc="upper center" if axes is validity else "best", fontsize=8, ncols=1 + (axes is validity)
        )
    return figure


@style.styled()
def figure_r2_beside_paper(table: pd.DataFrame) -> Canvas:
    """R² of our fits beside the paper's Table 2, 6 or 7: a panel per model and curve, a line per combination.

    `table` comes from `splitkit.paper.beside`: model, task, form, objective, curve, r2 and paper (NaN where
    the paper gives no number). A dot per cell, so that AxBench has one for each concept; the paper has one
    number per family. Values below the axis are drawn at its edge as arrows with the number.
    """
    table = selected(table.assign(paper=table.get("paper", np.nan)), curve=list(CURVES))
    models, families = list(table["model"].unique()), families_of(table["task"])
    labels = style.combinations(table["form"], table["objective"])
    places = dict(zip(labels, reversed(range(len(labels))), strict=True))
    table = table.assign(task=table["task"].map(task_family))
    # the paper's number belongs to the family: drawn once, not once per concept and seed
    repeated = table.duplicated(["model", "task", "form", "objective", "curve"])
    table = table.assign(paper=table["paper"].mask(repeated))
    lowest = max(0.8, min(0.9, float(table[["r2", "paper"]].min().min()) - 0.02))
    hollow = {"mfc": "white", "mec": "0.25", "ms": 6.0}
    shifts = dict(zip(families, np.linspace(0.26, -0.26, len(families)), strict=True))
    size = (8.6, (0.36 * len(places) + 0.7) * len(models) + 0.9)
    figure, grid = panels(*size, len(models), 2, sharex=True, sharey=True)
    for model, row in zip(models, grid, strict=True):
        for (curve, look), axes in zip(CURVES.items(), row, strict=True):
            filled = {"mfc": look.colour, "mec": "none", "ms": 5.0, "alpha": 0.6}
            part = table[(table["model"] == model) & (table["curve"] == curve)]
            for line in part.to_dict("records"):
                height = places[line["form"], line["objective"]] + shifts[line["task"]]
                marker = style.FAMILIES[line["task"]].marker
                _dot(axes, line["paper"], height, lowest, marker, hollow)
                _dot(axes, line["r2"], height, lowest, marker, filled)
            axes.set(title=f"{model}: {curve}", xlim=(lowest, 1.005))
            axes.set_yticks(list(places.values()), list(labels.values()))
            axes.xaxis.set_major_locator(MaxNLocator(6))
    for axes in grid[-1]:
        axes.set_xlabel("R²")
    plain: dict[str, Any] = {"color": style.GREY, "linestyle": ""}
    ours = entry("ours (filled, one per cell)", marker="o", **plain)
    paper = entry("paper (hollow)", marker="o", linestyle="", **hollow)
    looks = [style.FAMILIES[family] for family in families]
    figure.legend_below([ours, paper, *(entry(k.label, marker=k.marker, **plain) for k in looks)], 3)
    return figure


def _dot(axes: Axes, value: float, height: float, lowest: float, marker: str, look: dict[str, Any]) -> None:
    if value < lowest:
        axes.annotate(
            f"{value:.2f}", (lowest, height), (12, 0), textcoords="offset points", fontsize=7, va="center",
            arrowprops={"arrowstyle": "->", "color": "0.4"},
        )  # fmt: skip
    elif not np.isnan(value):
        axes.plot(value, height, marker, **look)


@style.styled()
def figure_rivals(table: pd.DataFrame) -> Canvas:
    """Errors of Eq. 15 / 17 and of their rivals at strengths that were left out, over all curves.

    `table` comes from `studies.rival_curves.rival_table`. One point per curve, a bar at the median; a panel
    per curve and way of leaving out. Errors beyond 30 standard deviations are drawn at 30. Free parameters, 4
    to 8, are printed in brackets.
    """
    style.require(table, "curve", "rival", "parameters", *style.LEFT_OUT)
    figure, grid = panels(8.6, 5.6, 2, 2, sharex=True)
    for (curve, look), row in zip(CURVES.items(), grid, strict=True):
        part = table[table["curve"] == curve]
        for (name, title), axes in zip(style.LEFT_OUT.items(), row, strict=True):
            labels = []
            for height, (rival, label) in enumerate(reversed(CANDIDATES.items())):
                own = part[part["rival"] == rival]
                values = own[name].dropna().clip(1e-4, _OUTSIDE).to_numpy()
                # spread by order, not by chance: equal tables are equal figures
                shift = 0.5 * ((np.arange(len(values)) * 0.618) % 1 - 0.5)
                axes.plot(values, height + shift, "o", color=look.colour, alpha=0.35, ms=3.5, mec="none")
                if len(values):
                    axes.vlines(np.median(values), height - 0.38, height + 0.38, color="0.15", linewidth=2)
                labels.append(f"{label} ({own['parameters'].iloc[0]})" if len(own) else label)
            axes.set_yticks(range(len(CANDIDATES)), labels if name == "interleaved" else [])
            axes.set(ylim=(-0.6, len(CANDIDATES) - 0.4), xscale="log", title=f"{curve}, {title}")
            axes.axvline(1, color="0.5", linestyle=":", linewidth=1.0)
            if part[name].isna().all():
                axes.text(0.5, 0.5, "too few strengths", transform=axes.transAxes, ha="center")
    for axes in grid[-1]:
        axes.set_xlabel("error / standard deviation of the curve", fontsize=9)
    figure.suptitle("Free parameters in brackets; dotted: no better than the mean")
    return figure


@style.styled()
def figure_null(null: pd.DataFrame, fits: pd.DataFrame, bars: dict[str, float]) -> Canvas:
    """Share of null curves and of measured ones that Eq. 15 and 17 fit with at most the 1 - R² below it.

    `null` comes from `studies.null_curves.null_fits` (shape, curve, r2), `fits` has curve and r2 of measured
    curves, `bars` the R² that a claim asks of each curve, drawn as a line.
    """
    figure, grid = panels(8.6, 3.4, 1, 2, sharex=True, sharey=True)
    dashes = {"smooth random curve": "--", "white noise": ":"}
    shapes = [(null[null["shape"] == shape], style.GREY, dash) for shape, dash in dashes.items()]
    for (curve, look), axes in zip(CURVES.items(), grid[0], strict=True):
        for part, colour, dash in [(fits, look.colour, "-"), *shapes]:
            values = np.sort(1 - part.loc[part["curve"] == curve, "r2"].dropna().to_numpy())
            share = np.linspace(0, 1, len(values) + 1)[1:]
            if len(values):
                axes.step(values.clip(_DIGITS), share, dash, where="post", color=colour)
        axes.axvline(1 - bars[curve], color="0.6", linewidth=1.0)
        axes.annotate(f"R² = {bars[curve]}", (1 - bars[curve], 0.03), (4, 0), textcoords="offset points")
        axes.set_xscale("log")
        axes.set(ylim=(0, 1.04), title=curve, xlabel="1 - R²")
    grid[0, 0].set_ylabel("share of curves fitted this well")
    grey = [entry(shape, color=style.GREY, linestyle=dash) for shape, dash in dashes.items()]
    figure.legend_below([entry("measured (brown)", color=CURVES["preference"].colour), *grey], 3)
    return figure
