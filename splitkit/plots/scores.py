"""Figures of scores: over the strength, as differences, over the layer, and as gains. One function each."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from splitkit.plots import style as plot_style
from splitkit.plots.style import FORMS, Canvas, style
from splitkit.tasks import FAMILIES, task_family

# the only objective that has scores and no curves
OBJECTIVES = plot_style.OBJECTIVES | {"dpo": "DPO (BiPO)"}
COLOURS = plot_style.COLOURS | {"dpo": "#cc78bc"}
MARKERS = plot_style.MARKERS | {"dpo": "v"}

TITLES = {
    "psychopathy_acc_pct": "psychopathy (%)",
    "powerseeking_0_4": "power (0-4)",
    "axbench_concept_0_2": "AxBench concept (0-2)",
    "axbench_harmonic_0_2": "AxBench harmonic (0-2)",
}
"""What the columns of Tables 3 and 4 are called above a panel."""


def figure_strengths(
    strengths: pd.DataFrame, unsteered: pd.DataFrame, family: str, column: str = "score"
) -> Canvas:
    """Mean validation score against the strength: a row per model, a column per form, a line per objective.

    Lines are means over the family's tasks and over seeds, bands reach from the lowest to the highest seed,
    the grey line is the model without steering.

    Args:
        strengths: one row per cell and m_relative: model, task, form, objective, seed, m_relative, `column`.
        unsteered: one row per model and task: model, task, `column`.
        family: "psychopathy", "powerseeking" or "axbench".
        column: what to draw, "score" being the family's own measure.

    Raises:
        ValueError: when a column is missing, or the tables have no task of the family.
    """
    lines = _of_family(strengths, family, "form", "objective", "seed", "m_relative", column)
    base = _of_family(unsteered, family, column).groupby("model")[column].mean()
    models, forms = list(dict.fromkeys(lines["model"])), [f for f in FORMS if f in set(lines["form"])]
    with style():
        figure = Canvas(figsize=(3.1 * len(forms) + 0.9, 2.5 * len(models) + 0.9), layout="constrained")
        grid = figure.subplots(len(models), len(forms), squeeze=False, sharex=True, sharey=True)
        for model, row in zip(models, grid, strict=True):
            for form, axes in zip(forms, row, strict=True):
                part = lines[(lines["model"] == model) & (lines["form"] == form)]
                axes.axhline(base[model], color="0.6", linewidth=1.6, zorder=1)
                for objective, cell in part.groupby("objective", sort=False):
                    _line(axes, cell, str(objective), column)
                axes.set_xscale("log", base=2)
                axes.set_title(f"{model}: {FORMS[form]}")
            row[0].set_ylabel(FAMILIES[family].label if column == "score" else column)
        for axes in grid[-1]:
            axes.set_xlabel(plot_style.STRENGTH)
            axes.set_xticks([1 / 8, 1 / 2, 2, 8], ["1/8", "1/2", "2", "8"])
        grey = Line2D([], [], color="0.6", linewidth=1.6, label="unsteered")
        handles = [*_handles(lines["objective"]), grey]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def figure_differences(differences: pd.DataFrame, metrics: Sequence[str], dpo: bool = False) -> Canvas:
    """SPLIT minus each rival of the same form with its 95 % interval: a row per model, a column per metric.

    `differences` comes from `studies.score_differences.differences`; DPO, which has a figure of its own, is
    left out unless `dpo`. Right of the line SPLIT scores more. Hollow: both are at the ceiling, where nothing
    can be compared.

    Raises:
        ValueError: when a column is missing, or there is no row to draw.
    """
    _need(differences, "model", "metric", "form", "rival", "difference", "low", "high", "outcome")
    rows = differences[differences["metric"].isin(metrics) & (dpo | (differences["rival"] != "dpo"))]
    if rows.empty:
        raise ValueError(
            f"The table has no comparison on {list(metrics)}; it has {set(differences['metric'])}."
        )
    models = list(dict.fromkeys(rows["model"]))
    present = set(zip(rows["form"], rows["rival"], strict=True))
    kinds = [(form, rival) for form in FORMS for rival in OBJECTIVES if (form, rival) in present]
    labels = [f"{FORMS[form]}: {OBJECTIVES[rival]}" for form, rival in kinds]
    with style():
        size = (3.3 * len(metrics) + 1.6, (0.3 * len(kinds) + 0.7) * len(models) + 0.7)
        figure = Canvas(figsize=size, layout="constrained")
        grid = figure.subplots(len(models), len(metrics), squeeze=False, sharey=True, sharex="col")
        for model, row in zip(models, grid, strict=True):
            for metric, axes in zip(metrics, row, strict=True):
                part = rows[(rows["model"] == model) & (rows["metric"] == metric)]
                axes.axvline(0, color="0.5", linewidth=1.0)
                for line in part.to_dict("records"):
                    height, colour = kinds.index((line["form"], line["rival"])), COLOURS[line["rival"]]
                    inside = "white" if line["outcome"] == "ceiling" else colour
                    axes.hlines(height, line["low"], line["high"], color=colour, linewidth=1.8)
                    marker = MARKERS[line["rival"]]
                    axes.plot(line["difference"], height, marker, color=colour, mfc=inside, ms=6)
                axes.set_title(f"{model}\n{TITLES.get(metric, metric)}", fontsize=9.5)
                axes.set_yticks(range(len(kinds)), labels)
            row[0].set_ylim(len(kinds) - 0.4, -0.6)
        for axes in grid[-1]:
            axes.set_xlabel("SPLIT minus rival", fontsize=9)
    return figure


def figure_gains(gains: pd.DataFrame, share: float) -> Canvas:
    """Gain over the unsteered model, DPO among the trained objectives: a row per model, a column per metric.

    `gains` comes from `studies.score_views.gains`. The grey bar of a form reaches to `share` of the best gain
    of SFT, RePS and SPLIT on either side of 0: within it DPO moves barely, by the rule of C12.

    Raises:
        ValueError: when a column is missing.
    """
    _need(gains, "model", "metric", "form", "objective", "gain")
    models, metrics = list(dict.fromkeys(gains["model"])), list(dict.fromkeys(gains["metric"]))
    forms = [form for form in FORMS if form in set(gains["form"])]
    with style():
        size = (2.7 * len(metrics) + 1.2, (0.45 * len(forms) + 0.8) * len(models) + 0.9)
        figure = Canvas(figsize=size, layout="constrained")
        grid = figure.subplots(len(models), len(metrics), squeeze=False, sharey=True, sharex="col")
        for model, row in zip(models, grid, strict=True):
            for metric, axes in zip(metrics, row, strict=True):
                part = gains[(gains["model"] == model) & (gains["metric"] == metric)]
                axes.axvline(0, color="0.5", linewidth=1.0)
                for height, form in enumerate(forms):
                    own = part[part["form"] == form].set_index("objective")["gain"]
                    best = own[own.index.isin(["sft", "reps", "split"])].max()
                    axes.barh(height, 2 * share * best, left=-share * best, height=0.7, color="0.9", zorder=0)
                    for objective, gain in own.items():
                        name = str(objective)
                        size_ = 9 if name == "dpo" else 5.5
                        axes.plot(gain, height, MARKERS[name], color=COLOURS[name], ms=size_)
                axes.set_title(f"{model}\n{TITLES.get(metric, metric)}", fontsize=9.5)
                axes.set_yticks(range(len(forms)), [FORMS[form] for form in forms])
            row[0].set_ylim(len(forms) - 0.5, -0.5)
        for axes in grid[-1]:
            axes.set_xlabel("gain over the unsteered model", fontsize=9)
        handles = _handles(gains["objective"])
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def figure_layers(layers: pd.DataFrame) -> Canvas:
    """Accuracy against the layer of the vector, with its interval: a panel per model.

    `layers` comes from `studies.layers.layer_table`. The filled point is the layer used everywhere
    else, the grey line the accuracy without steering.

    Raises:
        ValueError: when a column is missing.
    """
    _need(layers, "model", "layer", "steered", "score", "low", "high", "unsteered")
    models = list(dict.fromkeys(layers["model"]))
    colour = COLOURS["split"]
    with style():
        figure = Canvas(figsize=(3.6 * len(models) + 0.6, 3.0), layout="constrained")
        panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
        for model, axes in zip(models, panels, strict=True):
            part = layers[layers["model"] == model].sort_values("layer")
            axes.axhline(part["unsteered"].mean(), color="0.6", linewidth=1.6)
            axes.vlines(part["layer"], part["low"], part["high"], color=colour, linewidth=1.4)
            axes.plot(part["layer"], part["score"], "-^", color=colour, mfc="white", ms=6)
            used = part[part["steered"]]
            axes.plot(used["layer"], used["score"], "^", color=colour, ms=7)
            axes.set_xticks(part["layer"])
            axes.set_ylim(0, 103)
            axes.set_xlabel("layer of the vector")
            axes.set_title(model)
        panels[0].set_ylabel("accuracy (%), validation")
    return figure


def _line(axes: Axes, cell: pd.DataFrame, objective: str, column: str) -> None:
    """One objective: the mean over tasks and seeds, and the range of the seeds' means."""
    seeds = cell.groupby(["m_relative", "seed"])[column].mean().unstack("seed")
    mean, colour = seeds.mean(axis=1), COLOURS[objective]
    axes.plot(mean.index, mean, color=colour, marker=MARKERS[objective], ms=4, linewidth=1.5)
    if seeds.shape[1] > 1:
        axes.fill_between(seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=colour, alpha=0.15, lw=0)


def _handles(objectives: pd.Series) -> list[Line2D]:
    return [
        Line2D([], [], color=COLOURS[name], marker=MARKERS[name], ms=5, label=label)
        for name, label in OBJECTIVES.items()
        if name in set(objectives)
    ]


def _of_family(table: pd.DataFrame, family: str, *columns: str) -> pd.DataFrame:
    _need(table, "model", "task", *columns)
    rows = table[table["task"].map(task_family) == family]
    if rows.empty:
        raise ValueError(f"The table has no task of {family}; it has {sorted(set(table['task']))}.")
    return rows


def _need(table: pd.DataFrame, *columns: str) -> None:
    if missing := [column for column in columns if column not in table]:
        raise ValueError(f"The table lacks the column(s) {missing}; it has {list(table.columns)}.")
