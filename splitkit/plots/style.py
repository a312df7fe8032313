"""How figures look, and how they are written: labels, palette, style, files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from matplotlib.transforms import Bbox
from PIL import Image

FORMS = {"vector": "vector", "lora": "LoRA", "local_weight": "local weight"}
OBJECTIVES = {"diffmean": "DiffMean", "sft": "SFT", "reps": "RePS", "split": "SPLIT"}
STRENGTH = "strength m (in matching strengths)"
STRENGTH_ASINH = "m (in matching strengths, asinh scale)"
DECADES = (0.0, 1.0, 10.0, 100.0, 1000.0)
PREFERENCE, UTILITY = "preference log-odds", "utility log-odds"

# seaborn's colour-blind palette; in grey the markers tell apart what its lightness does not
COLOURS = {"diffmean": "#56565a", "sft": "#0173b2", "reps": "#de8f05", "split": "#029e73"}
MARKERS = {"diffmean": "D", "sft": "o", "reps": "s", "split": "^"}
CURVE_COLOURS = {"preference": "#0173b2", "utility": "#c2570c"}


class Canvas(Figure):
    """A figure that a notebook shows when it ends a cell, without pyplot or a magic command.

    What is drawn is laid out once, when the figure is first shown or saved, and is not to be changed after.
    """

    _frame: Bbox | None = None
    _png: bytes | None = None

    def settled(self) -> Bbox:
        """The figure's frame in inches: the layout, which takes longer than drawing, is done only once."""
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
def style() -> Iterator[None]:
    """The look of every figure, for the time of a `with`: white, thin grid, fonts legible at README width."""
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


def strength_axis(axes: Axes, limit: float, fontsize: float | None = None) -> None:
    """Strengths along x on an asinh scale: even up to about 1, where all happens, logarithmic beyond."""
    axes.set_xscale("asinh", linear_width=1.0)
    ticks = sorted({sign * value + 0.0 for value in DECADES if value <= limit for sign in (-1, 1)})
    axes.set_xticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.set_xticks(
        [sign * value for value in (0.5, 2, 5, 20, 50) if value <= limit for sign in (-1, 1)], minor=True
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(STRENGTH_ASINH, fontsize=fontsize)


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


def look(form: str, objective: str) -> dict[str, Any]:
    """Colour and marker by objective, hollow markers for local weight."""
    colour = COLOURS[objective]
    hollow = form == "local_weight"
    return {
        "color": colour, "marker": MARKERS[objective], "markersize": 4.5, "markevery": 4,
        "markerfacecolor": "white" if hollow else colour, "markeredgecolor": colour,
    }  # fmt: skip


def selected(table: pd.DataFrame, **wanted: Sequence[str]) -> pd.DataFrame:
    """The rows whose columns have the wanted values; ValueError names what is not there, and what is."""
    for column, values in wanted.items():
        if column not in table:
            raise ValueError(f"The table lacks the column {column!r}; it has {list(table.columns)}.")
        if unknown := [value for value in values if value not in set(table[column])]:
            there = sorted(table[column].unique())
            raise ValueError(f"The table has no {column} {', '.join(map(repr, unknown))}; it has {there}.")
        table = table[table[column].isin(values)]
    return table


def twin(axes: Axes, first: bool, last: bool) -> Axes:
    """A right axis for utility beneath the left one's lines, labelled only where a row begins and ends."""
    right = axes.twinx()
    right.grid(False)
    axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    if first:
        axes.set_ylabel(f"{PREFERENCE} (solid)")
    if last:
        right.set_ylabel(f"{UTILITY} (dashed)")
    return right
