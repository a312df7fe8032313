"""Report: the benchmarks' table as Markdown, as a figure, and as the committed files."""

import json
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from splitkit.plots.style import GREY, MODELS, Canvas, entry, save, styled
from splitkit.runs.profiles import get_profile
from splitkit.runs.results import provenance, round_significant
from splitkit.storage.files import write_whole
from tests.benchmarks.racing import OURS

RACES = ("sweep", "training", "fits", "generation")
GROWTH = {
    "growth: strengths": "strengths m",
    "growth: pairs": "pairs",
    "growth: layers": "layers (half of them replayed)",
    "growth: hidden size": "hidden size",
}
EXPECTED = (*RACES, *GROWTH, "memory", "start-up")
"""The benchmarks of a whole run; those of a GPU come on top where there is one."""


def markdown(table: pd.DataFrame) -> str:
    """The races and what stands alone, as a Markdown table: a row per way, times splitkit's CPU time.

    The growth of cost is in the figure and in the CSV.
    """
    rows = []
    for row in table[~table["benchmark"].isin(GROWTH)].to_dict("records"):
        value = f"{row['value']:.3g} {row['unit']}"
        cost = "" if np.isnan(row["ratio"]) else f"**{row['ratio']:.3g}** ({_range(row, '')})"
        wall = "" if np.isnan(row["wall_ratio"]) else f"{row['wall_ratio']:.3g} ({_range(row, 'wall_')})"
        target = "" if pd.isna(row["target"]) else f"{row['target']}: {'yes' if row['met'] else 'no'}"
        work = "" if np.isnan(row["work_ratio"]) else f"{row['work_ratio']:.3g}"
        shown = (row["benchmark"], row["model"], row["case"], row["way"], value, cost, wall, work, target)
        rows.append(dict(zip(_HEADS, shown, strict=True)))
    return pd.DataFrame(rows, columns=list(_HEADS)).to_markdown(index=False, disable_numparse=True)


_HEADS = (
    "job",
    "model",
    "case",
    "way",
    "takes",
    "times splitkit's CPU",
    "times its wall",
    "times its operations",
    "target: met",
)


def _range(row: dict[Any, Any], clock: str) -> str:
    low, high = (row[f"{clock}{end}" if clock else f"ratio_{end}"] for end in ("low", "high"))
    return f"{low:.3g}–{high:.3g}"


def figure_benchmarks(table: pd.DataFrame) -> Figure:
    """Above, each other way's time as a multiple of splitkit's, with quartiles; below, how cost grows.

    Filled marks are CPU time, hollow ones the wall clock, crosses the operations of matrix products; a short
    line is the target. Below: seconds of CPU of a sweep (filled) and of as many plain forwards (hollow).

    Raises:
        ValueError: when the table has no race in it.
    """
    races = table[table["benchmark"].isin(RACES) & (table["way"] != OURS)]
    if races.empty:
        raise ValueError(f"the table has no race; it has {sorted(set(table['benchmark']))}.")
    present = [name for name in RACES if name in set(races["benchmark"])]
    growing = [name for name in GROWTH if name in set(table["benchmark"])]
    lines = {name: _ways(races, name) for name in present}
    with styled():
        height = 0.27 * sum(map(len, lines.values())) + 0.55 * len(present)
        figure = Canvas(figsize=(9.6, height + (3.2 if growing else 0.4)), layout="constrained")
        blocks = figure.subfigures(2 if growing else 1, 1, height_ratios=[height, 3.0][: 1 + bool(growing)])
        upper = np.atleast_1d(blocks)[0]
        panels = upper.subplots(
            len(present), 1, sharex=True, squeeze=False, height_ratios=[len(lines[n]) + 0.8 for n in present]
        )[:, 0]
        for name, axes in zip(present, panels, strict=True):
            _race(axes, races[races["benchmark"] == name], lines[name])
            axes.set_title(name, loc="left")
        panels[-1].set_xlabel(
            "time and operations as a multiple of splitkit's (right of 1: splitkit is faster, computes less)"
        )
        upper.legend(handles=_race_handles(races), loc="outside upper center", ncols=6, fontsize=8)
        if growing:
            for name, axes in zip(growing, np.atleast_1d(blocks[1].subplots(1, len(growing))), strict=True):
                _growth(axes, table[table["benchmark"] == name])
                axes.set_xlabel(GROWTH[name])
            first = blocks[1].axes[0]
            first.set_ylabel("seconds of CPU")
            blocks[1].legend(
                *first.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8
            )
    return figure


def _ways(races: pd.DataFrame, name: str) -> list[tuple[str, str]]:
    own = races[races["benchmark"] == name]
    return list(dict.fromkeys(zip(own["case"], own["way"], strict=True)))


def _race_handles(races: pd.DataFrame) -> list[Line2D]:
    looks = [MODELS[model] for model in MODELS.among(races["model"])]
    kinds = [
        entry("CPU time, with quartiles", color=GREY, marker="o", ms=4, linewidth=2.2),
        entry("wall clock", color=GREY, marker="o", ms=5.5, mfc="white", linestyle=""),
        entry("operations", color=GREY, marker="x", ms=5, linestyle=""),
        entry("target", color=GREY, marker="|", ms=10, linestyle=""),
    ]
    return [entry(look.label, color=look.colour, linewidth=2.2) for look in looks] + kinds


def _race(axes: Axes, rows: pd.DataFrame, lines: list[tuple[str, str]]) -> None:
    models = list(dict.fromkeys(rows["model"]))
    for row in rows.to_dict("records"):
        beside = 0.26 * (models.index(row["model"]) - (len(models) - 1) / 2)
        place = lines.index((row["case"], row["way"])) + beside
        colour = MODELS[row["model"]].colour
        axes.hlines(place, row["ratio_low"], row["ratio_high"], color=colour, linewidth=2.2)
        axes.plot(row["wall_ratio"], place, "o", color=colour, mfc="white", ms=5.5)
        axes.plot(row["ratio"], place, "o", color=colour, ms=4)
        axes.plot(row["work_ratio"], place, "x", color=colour, ms=5)
        if not pd.isna(row["target"]):
            bound = float(str(row["target"]).rpartition(" ")[2])
            axes.vlines(bound, place - 0.3, place + 0.3, color=GREY, linewidth=1.6)
    axes.axvline(1, color="0.5", linewidth=1.0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.set_yticks(range(len(lines)), [f"{case}: {way}" for case, way in lines], fontsize=8)
    axes.set_ylim(len(lines) - 0.4, -0.6)


def _growth(axes: Axes, rows: pd.DataFrame) -> None:
    for way, part in rows.groupby("way", sort=False):
        size = part["case"].astype(int)
        inside = GREY if way == OURS else "white"
        axes.plot(size, part["value"], "-o", color=GREY, mfc=inside, ms=5, label=str(way))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sorted(set(rows["case"].astype(int))), sorted(set(rows["case"].astype(int))))
    axes.minorticks_off()


def record(table: pd.DataFrame, root: Path) -> None:
    """Write data/benchmarks/benchmarks.csv with its provenance, and figures/benchmarks.png and .svg."""
    folder = root / "data" / "benchmarks"
    write_whole(
        folder / "benchmarks.csv",
        round_significant(table, 4).to_csv(index=False, lineterminator="\n"),
    )
    known = provenance(get_profile("embedded"))
    kept = {name: known[name] for name in ("models", "packages", "python", "revision", "cpu", "gpu")}
    kept |= {"cores": os.cpu_count(), "torch threads": torch.get_num_threads()}
    text = json.dumps(kept, indent=2, sort_keys=True)
    write_whole(folder / "benchmarks.provenance.json", text + "\n")
    draw(root)


def draw(root: Path) -> list[Path]:
    """The figure of the committed table, written beside the others."""
    table = pd.read_csv(root / "data" / "benchmarks" / "benchmarks.csv", dtype={"case": str})
    with mpl.rc_context():
        return save(figure_benchmarks(table), "benchmarks", root / "figures")
