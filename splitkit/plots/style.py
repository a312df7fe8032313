"""The look of all figures: what tables name, with its label, colour, marker and line style; panels; files.

The label of a task's score is in `tasks`, those of a fit's rivals are in `studies.rival_curves`; words, greys
and lines that one figure alone has are in its module.

Forms, objectives, curves and models have sets of colours of their own, and no colour is in two sets. Within a
set lightness differs too, and markers or dashes say the same as colours.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import Bbox
from PIL import Image

from splitkit.studies.frames import require as require


@dataclass(frozen=True)
class Look:
    """A label, with its colour, marker and line in every figure; black stars by default."""

    label: str
    colour: str = "black"
    marker: str = "*"
    dash: str = "-"
    inside: str | None = None
    """Colour inside a marker of this form; None is the line's own colour."""

    @property
    def drawn(self) -> dict[str, Any]:
        """Colour and marker, as matplotlib takes them."""
        return {"color": self.colour, "marker": self.marker}


class Looks(dict[str, Look]):
    """Looks by name. A name without one gets the default look under its own name."""

    def __missing__(self, name: str) -> Look:
        return Look(str(name).replace("_", " "), inside="0.75")

    def among(self, values: Iterable[Any]) -> list[str]:
        """The different names among the values: those with a look in this table's order, then the others."""
        there = dict.fromkeys(map(str, values))
        return [name for name in self if name in there] + [name for name in there if name not in self]


FORMS = Looks(
    vector=Look("vector", "#14a8bd", "o", "-."),
    lora=Look("LoRA", "#b0203c", "s", "--"),
    local_weight=Look("local weight", "#35207c", "^", "-", inside="white"),
)
"""Forms of steering: turquoise, crimson, indigo."""
CONTROLS = Looks(
    random=Look("random direction", "0.6", "x", ":"),
    natural=Look("random natural direction", "0.6", "+", "--"),
)
"""Directions that no objective learned."""
OBJECTIVES = Looks(
    vanilla=Look("unsteered", "#a8a8a8", "X"),
    diffmean=Look("DiffMean", "#3a3a3e", "D"),
    sft=Look("SFT", "#0067a5", "o"),
    reps=Look("RePS", "#e69500", "s"),
    dpo=Look("DPO (BiPO)", "#d07fbf", "v"),
    split=Look("SPLIT", "#029e73", "^"),
    **CONTROLS,
)
"""Objectives, the model without steering, and the controls: greys, blue, orange, pink, green."""
CURVES = Looks(
    preference=Look("preference log-odds", "#4a2a10", "o", "-"),
    utility=Look("utility log-odds", "#b5804a", "s", "--"),
)
"""The two curves of a sweep: dark and light brown, solid and dashed."""
_OLIVES = {"tiny-gemma2": ("#4a5200", "o"), "tiny-qwen2": ("#a9b130", "s")}
MODELS = Looks({name: Look(name, *look) for name, look in _OLIVES.items()})
"""Models, where colours tell them apart: dark and light olive."""
FAMILIES = Looks(
    axbench=Look("AxBench", marker="s"),
    powerseeking=Look("PowerSeeking", marker="D"),
    psychopathy=Look("Psychopathy", marker="o"),
)
"""Task families, told apart by markers."""
METRICS = {
    "psychopathy_acc_pct": "psychopathy (%)",
    "powerseeking_0_4": "power (0-4)",
    "axbench_concept_0_2": "AxBench concept (0-2)",
    "axbench_harmonic_0_2": "AxBench harmonic (0-2)",
}
"""Columns of Tables 3 and 4, with their scales."""
WEIGHTS = {"lambda_n": "λₙ", "gamma": "γ", "theta": "θ"}
"""Symbols of the weights of SPLIT in the paper."""
LEFT_OUT = {"interleaved": "left out: every other m", "outer": "left out: the outer quarter"}
"""Strengths that a fit leaves out and is judged by."""
DISTANCES = {
    "within": "within the subspace",
    "outside": "outside the subspace",
    "subspace": "subspace, both parts",
    "neighbours": "nearest neighbours",
    "moved": "length of the move",
    "strength": "|m|",
}
"""Distances to the manifold, and what they are held against."""
UNITS = {"moved": "mean |h' − h| / mean |h|", "strength": "|m| (matching strengths)"}
"""Units of those that are not in units of the natural distance."""
SITES = {"layer": "leaving the steered layer", "end": "what the head reads"}
"""Sites at which activations are taken."""
DIRECTIONS = {
    "utility": "gradient of utility",
    "probe": "probe of valid text",
    "preference": "gradient of preference",
}
"""Directions that dh is compared with."""
EDGES = {"isotropic_95": ("95 % of random", "-"), "natural_95": ("95 % of random natural", "--")}
"""Cosines that 95 % of random directions stay below, with their lines."""
GREY = "0.35"
"""The colour of lines that belong to no set."""
SHADES = mpl.colormaps["cividis"]
"""Colours of an ordered quantity, from low to high."""
STRENGTH = "strength m (in matching strengths)"
"""The label of an axis of strengths."""


class Canvas(Figure):
    """A figure that a notebook shows when it ends a cell, without pyplot or a magic command.

    It is laid out once, when it is first shown or saved, and is not to be changed after.
    """

    _frame: Bbox | None = None
    _png: bytes | None = None

    def legend_below(self, handles: Sequence[Line2D], columns: int) -> None:
        """One legend for all panels, below them."""
        self.legend(handles=handles, loc="outside lower center", ncols=columns)

    def settled(self) -> Bbox:
        """The figure's frame in inches. The layout, which takes longer than drawing, is done only once."""
        if self._frame is None:
            if engine := self.get_layout_engine():
                engine.execute(self)
                # none at all: in place of another "none" each file would be drawn twice
                self.set_layout_engine(None)
            self._frame = self.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
        return self._frame

    def png(self) -> bytes:
        """The figure at 150 dpi, drawn once."""
        if self._png is None:
            stream, frame = BytesIO(), self.settled()
            self.savefig(stream, format="png", dpi=150, bbox_inches=frame, metadata={"Software": None})
            self._png = stream.getvalue()
        return self._png

    def _repr_png_(self) -> bytes:
        # at two thirds of its size and in 256 colours, so that a notebook stays small
        image, stream = Image.open(BytesIO(self.png())).convert("RGB"), BytesIO()
        small = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.LANCZOS)
        small.quantize(256, dither=Image.Dither.NONE).save(stream, "png")
        return stream.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """The settings of every figure while it is drawn: white, thin grid, fonts legible at README width."""
    settings = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("notebook", font_scale=0.85),
        "axes.edgecolor": "0.6",
        "grid.color": "0.92",
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "legend.frameon": False,
        "font.family": "DejaVu Sans",
    }
    with mpl.rc_context(settings):
        yield


def panels(width: float, height: float, rows: int, columns: int, **shared: Any) -> tuple[Canvas, np.ndarray]:
    """A figure of that size in inches, and its axes (rows, columns); `shared` goes to `subplots`."""
    figure = Canvas(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def entry(label: str, **look: Any) -> Line2D:
    """A line of a legend."""
    return Line2D([], [], label=label, **look)


def combinations(forms: pd.Series, objectives: pd.Series) -> dict[tuple[str, str], str]:
    """Labels of the pairs of form and objective that are there, in the order of figures."""
    there = set(zip(forms, objectives, strict=True))
    every = [(form, name) for form in FORMS.among(forms) for name in OBJECTIVES.among(objectives)]
    return {(f, o): f"{FORMS[f].label}, {OBJECTIVES[o].label}" for f, o in every if (f, o) in there}


def strength_axis(axes: Axes, limit: float, fontsize: float | None = None) -> None:
    """Strengths along x on an asinh scale: even up to about 1, where all happens, logarithmic beyond it."""
    axes.set_xscale("asinh", linear_width=1.0)
    ticks, minor = (
        sorted({sign * value + 0.0 for value in values if value <= limit for sign in (-1, 1)})
        for values in ((0, 1, 10, 100, 1000), (0.5, 2, 5, 20, 50))
    )
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.set_xticks(minor, minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("m (in matching strengths, asinh scale)", fontsize=fontsize)


def twin(axes: Axes, first: bool, last: bool) -> Axes:
    """A right axis for utility beneath the left one's lines, with labels only at a row's two ends."""
    right = axes.twinx()
    right.grid(False)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    if first:
        axes.set_ylabel(f"{CURVES['preference'].label} (solid)")
    if last:
        right.set_ylabel(f"{CURVES['utility'].label} (dashed)")
    return right


def curve_look(form: str, objective: str) -> dict[str, Any]:
    """Colour and marker of the objective, the inside of the marker by the form."""
    look = OBJECTIVES[objective]
    return look.drawn | {
        "markersize": 4.5, "markevery": 4,
        "markerfacecolor": FORMS[form].inside or look.colour, "markeredgecolor": look.colour,
    }  # fmt: skip


def selected(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows whose columns have a wanted value; ValueError names a column or value that is not there."""
    require(table, *wanted)
    for column, value in wanted.items():
        values = value if isinstance(value, list | tuple) else [value]
        if unknown := [value for value in values if value not in set(table[column])]:
            there = sorted(table[column].unique())
            raise ValueError(f"The table has no {column} {', '.join(map(repr, unknown))}; it has {there}.")
        table = table[table[column].isin(values)]
    return table


def save(figure: Canvas, name: str, folder: Path) -> list[Path]:
    """Write `name`.png (150 dpi) and `name`.svg into the folder; equal figures give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    # a hub id has a slash
    name = name.replace("/", "-")
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    with mpl.rc_context({"svg.hashsalt": name}):
        png.write_bytes(figure.png())
        figure.savefig(svg, bbox_inches=figure.settled(), metadata={"Date": None, "Creator": None})
    return [png, svg]
