"""Figures of scores: over the strength, as differences, over the layer, and as gains. One function each."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from splitkit.plots import style
from splitkit.plots.style import FORMS, OBJECTIVES, Canvas, entry, panels
from splitkit.tasks import FAMILIES, task_family

_UNSTEERED: dict[str, Any] = {"color": OBJECTIVES["vanilla"].colour, "linewidth": 1.6}


@style.styled()
def figure_strengths(
    strengths: pd.DataFrame, unsteered: pd.DataFrame, family: str, column: str = "score"
) -> Canvas:
    """Mean validation score against the strength: a row per model, a column per form, a line per objective.

    Lines are means over the family's tasks and over seeds, bands reach from the lowest to the highest seed,
    the grey line is the model without steering. `strengths` has the keys of a cell, m_relative and `column`,
    `unsteered` model, task and `column`: "score" is the family's own measure.
    """
    lines = _of_family(strengths, family, "form", "objective", "seed", "m_relative", column)
    base = _of_family(unsteered, family, column).groupby("model")[column].mean()
    models, forms = list(lines["model"].unique()), FORMS.among(lines["form"])
    size = (3.1 * len(forms) + 0.9, 2.5 * len(models) + 0.9)
    figure, grid = panels(*size, len(models), len(forms), sharex=True, sharey=True)
    for (model, form), axes in zip(product(models, forms), grid.flat, strict=True):
        axes.axhline(base[model], **_UNSTEERED, zorder=1)
        part = lines[(lines["model"] == model) & (lines["form"] == form)]
        for objective, cell in part.groupby("objective", sort=False):
            _line(axes, cell, str(objective), column)
        axes.set_xscale("log", base=2)
        axes.set_title(f"{model}: {FORMS[form].label}")
    for axes in grid[:, 0]:
        axes.set_ylabel(FAMILIES[family].label if column == "score" else column)
    for axes in grid[-1]:
        axes.set_xlabel(style.STRENGTH)
        axes.set_xticks([1 / 8, 1 / 2, 2, 8], ["1/8", "1/2", "2", "8"])
    handles = [*_handles(lines["objective"]), entry(OBJECTIVES["vanilla"].label, **_UNSTEERED)]
    figure.legend_below(handles, len(handles))
    return figure


@style.styled()
def figure_differences(differences: pd.DataFrame, metrics: Sequence[str], dpo: bool = False) -> Canvas:
    """SPLIT minus each rival of the same form with its 95 % interval: a row per model, a column per metric.

    `differences` comes from `studies.score_differences.differences`; DPO, which has a figure of its own, is
    left out unless `dpo`. Right of the line SPLIT scores more. Hollow: both are at the ceiling, where nothing
    can be compared.
    """
    style.require(differences, "model", "metric", "form", "rival", "difference", "low", "high", "outcome")
    rows = differences[differences["metric"].isin(metrics) & (dpo | (differences["rival"] != "dpo"))]
    if rows.empty:
        raise ValueError(
            f"The table has no comparison on {list(metrics)}; it has {set(differences['metric'])}."
        )
    labels = style.combinations(rows["form"], rows["rival"])
    places = {pair: height for height, pair in enumerate(labels)}
    size = (3.3 * len(metrics) + 1.6, 0.3 * len(labels) + 0.7, 0.7)
    figure, parts = _by_metric(rows, metrics, list(labels.values()), size, 0.6, "SPLIT minus rival")
    for axes, part in parts:
        for line in part.to_dict("records"):
            height, look = places[line["form"], line["rival"]], OBJECTIVES[line["rival"]]
            inside = "white" if line["outcome"] == "ceiling" else look.colour
            axes.hlines(height, line["low"], line["high"], color=look.colour, linewidth=1.8)
            axes.plot(line["difference"], height, mfc=inside, ms=6, **look.drawn)
    return figure


@style.styled()
def figure_gains(gains: pd.DataFrame, share: float) -> Canvas:
    """Gain over the unsteered model, DPO among the trained objectives: a row per model, a column per metric.

    `gains` comes from `studies.score_views.gains`. The grey bar of a form reaches to `share` of the best gain
    of SFT, RePS and SPLIT on either side of 0: within it DPO moves barely, by the rule of C12.
    """
    style.require(gains, "model", "metric", "form", "objective", "gain")
    metrics, forms = list(gains["metric"].unique()), FORMS.among(gains["form"])
    size = (2.7 * len(metrics) + 1.2, 0.45 * len(forms) + 0.8, 0.9)
    labels = [FORMS[form].label for form in forms]
    figure, parts = _by_metric(gains, metrics, labels, size, 0.5, "gain over the unsteered model")
    for axes, part in parts:
        for height, form in enumerate(forms):
            own = part[part["form"] == form].set_index("objective")["gain"]
            best = own[own.index.isin(["sft", "reps", "split"])].max()
            axes.barh(height, 2 * share * best, left=-share * best, height=0.7, color="0.9", zorder=0)
            for objective, gain in own.items():
                ms = 9 if objective == "dpo" else 5.5
                axes.plot(gain, height, ms=ms, **OBJECTIVES[str(objective)].drawn)
    handles = _handles(gains["objective"])
    figure.legend_below(handles, len(handles))
    return figure


@style.styled()
def figure_layers(layers: pd.DataFrame) -> Canvas:
    """Accuracy against the layer of the vector, with its interval: a panel per model.

    `layers` comes from `studies.layers.layer_table`. The filled point is the layer used everywhere else, the
    grey line the accuracy without steering.
    """
    style.require(layers, "model", "layer", "steered", "score", "low", "high", "unsteered")
    models = list(layers["model"].unique())
    drawn = OBJECTIVES["split"].drawn
    figure, grid = panels(3.6 * len(models) + 0.6, 3.0, 1, len(models), sharey=True)
    for model, axes in zip(models, grid[0], strict=True):
        part = layers[layers["model"] == model].sort_values("layer")
        axes.axhline(part["unsteered"].mean(), **_UNSTEERED)
        axes.vlines(part["layer"], part["low"], part["high"], color=drawn["color"], linewidth=1.4)
        axes.plot(part["layer"], part["score"], mfc="white", ms=6, **drawn)
        used = part[part["steered"]]
        axes.plot(used["layer"], used["score"], linestyle="", ms=7, **drawn)
        axes.set_xticks(part["layer"])
        axes.set(ylim=(0, 103), xlabel="layer of the vector", title=model)
    grid[0, 0].set_ylabel("accuracy (%), validation")
    return figure


@style.styled()
def figure_learning_curves(curves: pd.DataFrame, family: str, between: tuple[float, float]) -> Canvas:
    """Validation score against the number of training pairs: a row per model, a column per form.

    A thick line per objective is the mean over tasks, thin ones are the tasks. `curves` comes from
    `runs.learning_curves`; grey is the band between two shares of the highest score, in which objectives
    can be compared.
    """
    style.require(curves, "model", "form", "objective", "n_pairs", "task", "score")
    models, forms, top = list(curves["model"].unique()), FORMS.among(curves["form"]), FAMILIES[family].top
    counts = sorted(curves["n_pairs"].unique())
    size = (3.4 * len(forms) + 0.6, 2.6 * len(models) + 0.5)
    figure, grid = panels(*size, len(models), len(forms), sharex=True, sharey=True)
    for (model, form), axes in zip(product(models, forms), grid.flat, strict=True):
        axes.axhspan(between[0] * top, between[1] * top, color="0.93", zorder=0)
        part = curves[(curves["model"] == model) & (curves["form"] == form)]
        ends = {}
        for objective in OBJECTIVES.among(part["objective"]):
            own = part[part["objective"] == objective]
            lines = own.pivot_table(index="n_pairs", columns="task", values="score")
            mean, drawn = lines.mean(axis=1), OBJECTIVES[objective].drawn
            axes.plot(lines.index, lines, color=drawn["color"], linewidth=0.7, alpha=0.45)
            axes.plot(mean.index, mean, ms=4.5, linewidth=2.0, **drawn)
            ends[objective] = float(mean.iloc[-1])
        _end_labels(axes, ends, counts[-1], 0.085 * top)
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set(ylim=(-0.03 * top, 1.05 * top), xlim=(counts[0] / 1.15, counts[-1] * 3.2))
        axes.set_title(f"{model}: {FORMS[form].label}")
    for axes in grid[:, 0]:
        axes.set_ylabel(FAMILIES[family].label)
    for axes in grid[-1]:
        axes.set_xlabel("training pairs")
    return figure


def _end_labels(axes: Axes, ends: dict[str, float], x: float, apart: float) -> None:
    """Names of objectives right of the ends of their lines, moved down where they would overlap."""
    free = float("inf")
    for objective, end in sorted(ends.items(), key=lambda item: -item[1]):
        free = min(end, free - apart)
        look = OBJECTIVES[objective]
        axes.text(x * 1.12, free, look.label, color=look.colour, fontsize=8, va="center")


def _by_metric(
    table: pd.DataFrame,
    metrics: Sequence[str],
    labels: Sequence[str],
    size: tuple[float, float, float],
    above: float,
    xlabel: str,
) -> tuple[Canvas, list[tuple[Axes, pd.DataFrame]]]:
    """A figure with a row per model and a column per metric, and each panel's rows of the table.

    The labels stand along y from the top; `size` has the width, the height of a row and that of the rest.
    """
    models, (width, height, rest) = list(table["model"].unique()), size
    figure, grid = panels(
        width, height * len(models) + rest, len(models), len(metrics), sharey=True, sharex="col"
    )
    parts = []
    for (model, metric), axes in zip(product(models, metrics), grid.flat, strict=True):
        axes.axvline(0, color="0.5", linewidth=1.0)
        axes.set_title(f"{model}\n{style.METRICS.get(metric, metric)}", fontsize=9.5)
        axes.set_yticks(range(len(labels)), labels)
        parts.append((axes, table[(table["model"] == model) & (table["metric"] == metric)]))
    grid[0, 0].set_ylim(len(labels) - 1 + above, -above)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel, fontsize=9)
    return figure, parts


def _line(axes: Axes, cell: pd.DataFrame, objective: str, column: str) -> None:
    """One objective: the mean over tasks and seeds, and the range of the seeds' means."""
    seeds = cell.groupby(["m_relative", "seed"])[column].mean().unstack("seed")
    mean, drawn = seeds.mean(axis=1), OBJECTIVES[objective].drawn
    axes.plot(mean.index, mean, ms=4, linewidth=1.5, **drawn)
    if seeds.shape[1] > 1:
        low, high = seeds.min(axis=1), seeds.max(axis=1)
        axes.fill_between(seeds.index, low, high, color=drawn["color"], alpha=0.15, lw=0)


def _handles(objectives: pd.Series) -> list[Line2D]:
    looks = [OBJECTIVES[name] for name in OBJECTIVES.among(objectives)]
    return [entry(look.label, ms=5, **look.drawn) for look in looks]


def _of_family(table: pd.DataFrame, family: str, *columns: str) -> pd.DataFrame:
    style.require(table, "model", "task", *columns)
    rows = table[table["task"].map(task_family) == family]
    if rows.empty:
        raise ValueError(f"The table has no task of {family}; it has {sorted(set(table['task']))}.")
    return rows
