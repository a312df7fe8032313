"""Figures of one's own tables: a sweep with its fits and window, a scan of layers, a projection per token."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from splitkit.curves.decay import Fit, fit_preference, fit_utility, mean_curve
from splitkit.curves.operating_point import operating_point
from splitkit.plots import style
from splitkit.plots.style import CURVES, Canvas, entry, panels
from splitkit.steering.choosing.layer_scan import best_layer

_FITTERS = {"preference": (fit_preference, "Eq. 15"), "utility": (fit_utility, "Eq. 17")}
_MARKERS = "osD^vPX*"
_MOST_TOKENS = 120
"""Tokens that a figure has room for."""


@style.styled()
def plot_sweep(sweep: pd.DataFrame, unit: float | None = None, tolerance: float = 0.5) -> Canvas:
    """A sweep: mean preference and utility with standard errors, Eq. 15 and 17 fitted to them, and D(m).

    Grey: the usable window, the strengths around 0 whose mean utility is within `tolerance` of that at m = 0.
    The upright line is the `operating_point`. A curve is fitted where there are strengths of both signs and
    as many of them as parameters (8 or 9) at least; where it is not, a note says why.

    Args:
        sweep: what `sk.sweep` returns, with m = 0 in it.
        unit: a `matching_strength`, to count m in; m as it is for None.
        tolerance: how much utility may fall, in nats, as in `operating_point`.

    Raises:
        ValueError: for what is no such sweep, a unit that is not positive, and what `operating_point` raises.

    Example:
        >>> import pandas as pd
        >>> import splitkit as sk
        >>> rows = [(m, pair, m + pair, -m * m) for m in (0.0, 0.5, 1.0) for pair in (0, 1)]
        >>> sweep = pd.DataFrame(rows, columns=["m", "pair", "preference", "utility"])
        >>> figure = sk.plot_sweep(sweep)  # figure.savefig("sweep.png")
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['nats', 'nats', 'D']
    """
    if unit is not None and not unit > 0:
        raise ValueError(f"unit is a matching strength, a positive number, not {unit!r}.")
    curve, best, scale = mean_curve(sweep), operating_point(sweep, tolerance), unit or 1.0
    x = curve["m"].to_numpy() / scale
    figure = Canvas(figsize=(7.4, 7.6), layout="constrained")
    grid = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 3, 2]})
    window = _window(best.table) / scale
    dense = np.linspace(x.min(), x.max(), 401)
    decay, notes = grid[-1], []
    for (name, look), axes in zip(CURVES.items(), grid[:2], strict=True):
        fitter, equation = _FITTERS[name]
        error = curve[f"{name}_sem"].fillna(0.0)
        axes.errorbar(x, curve[name], error, linestyle="", mfc="none", ms=4, elinewidth=0.8, **look.drawn)
        fit = _fitted(fitter, x, curve[name])
        counted = curve["n_pairs" if name == "preference" else "n_pairs_utility"]
        title = f"{look.label}, {counted.iloc[0]} pairs"
        if isinstance(fit, Fit) and not fit.note:
            axes.plot(dense, fit.predict(dense), look.dash, color=look.colour)
            decay.plot(dense, fit.validity(dense), look.dash, color=look.colour, label=f"D of {equation}")
            title += f"; {equation}, R² = {fit.r2:.3f}"
        else:
            notes.append(f"{equation} not fitted: {fit.note if isinstance(fit, Fit) else fit}")
        axes.set(title=title, ylabel="nats")
    for axes in grid:
        axes.axvspan(*window, color="0.9", zorder=0)
        axes.axvline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.axvline(best.m / scale, color="0.2", linewidth=1.2, linestyle=(0, (6, 2)))
    decay.set(title="validity D(m) (Eq. 12)", ylabel="D", ylim=(0, 1.1))
    if notes:
        decay.text(
            0.5, 0.5, "\n".join(notes), transform=decay.transAxes, ha="center", va="center", fontsize=8
        )
    decay.axhline(0.5, color="0.6", linestyle=":", linewidth=1.0)
    decay.set_xlabel("strength m" if unit is None else style.STRENGTH)
    lines = [
        entry("measured", color=style.GREY, marker="o", mfc="none", linestyle=""),
        entry("fitted", color=style.GREY),
        entry("preference", color=CURVES["preference"].colour, linestyle="-"),
        entry("utility", color=CURVES["utility"].colour, linestyle="--"),
        entry(
            f"operating point, m = {best.m:.3g}" + (f" ({best.m / unit:.2g} of the unit)" if unit else ""),
            color="0.2",
            linestyle=(0, (6, 2)),
        ),
        entry(f"usable window: utility falls by {tolerance:g} nats at most", color="0.9", linewidth=8),
    ]
    figure.legend_below(lines, 3)
    return figure


def _fitted(fitter: Any, x: np.ndarray, y: pd.Series) -> Fit | str:
    """The fit of a curve, or why there is none."""
    if y.isna().any():
        return "no pair has Eq. 8 defined at every m"
    try:
        return fitter(x, y.to_numpy(), checked=False)
    except ValueError as error:
        return str(error)


def _window(table: pd.DataFrame) -> np.ndarray:
    """The lowest and highest m of the allowed strengths that have only allowed ones between them and 0."""
    m, allowed = table["m"].to_numpy(), table["allowed"].to_numpy()
    right = m[(m >= 0) & (np.cumsum((m >= 0) & ~allowed) == 0)]
    left = m[(m <= 0) & (np.cumsum(((m <= 0) & ~allowed)[::-1])[::-1] == 0)]
    return np.array([left.min(), right.max()])


@style.styled()
def plot_layers(scan: pd.DataFrame, most_lost: float = 1.0) -> Canvas:
    """A scan of layers: what each strength adds to mean preference and takes from mean utility, by layer.

    A point is hollow where utility falls by more than `most_lost` nats (the dotted line). The upright line is
    `best_layer`. `scan` is what `scan_layers` returns.
    """
    style.require(scan, "layer", "m_relative", "accuracy", *CURVES)
    best = best_layer(scan, most_lost)
    base = scan[scan["m_relative"] == 0].set_index("layer")
    strengths = sorted(set(scan["m_relative"]) - {0})
    figure, grid = panels(7.4, 6.4, 2, 1, sharex=True)
    shades = style.SHADES(np.linspace(0.0, 0.85, max(1, len(strengths))))
    handles = []
    for number, strength in enumerate(strengths):
        part = scan[scan["m_relative"] == strength].sort_values("layer")
        shown = {"color": shades[number], "marker": _MARKERS[number % len(_MARKERS)]}
        lost = part["utility"].to_numpy() < base.loc[part["layer"], "utility"].to_numpy() - most_lost
        for name, axes in zip(CURVES, grid[:, 0], strict=True):
            change = part[name].to_numpy() - base.loc[part["layer"], name].to_numpy()
            axes.plot(part["layer"], change, "-", ms=5.5, **shown)
            axes.plot(part["layer"][lost], change[lost], linestyle="", ms=5.5, mfc="white", **shown)
        handles.append(entry(f"{strength:g}", **shown))
    for look, axes in zip(CURVES.values(), grid[:, 0], strict=True):
        axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        axes.axvline(best, color="0.2", linewidth=1.2, linestyle=(0, (6, 2)), zorder=0)
        axes.set(title=f"change of mean {look.label}", ylabel="nats")
    grid[1, 0].axhline(-most_lost, color=style.GREY, linestyle=":")
    grid[1, 0].set_xlabel("layer (from 0)")
    grid[1, 0].set_xticks(sorted(base.index))
    handles += [
        entry(f"best layer: {best}", color="0.2", linestyle=(0, (6, 2))),
        entry("too much utility lost", color=style.GREY, marker="o", mfc="white", linestyle=""),
    ]
    figure.legend_below(handles, len(strengths) + 2 if len(strengths) < 4 else 4)
    figure.suptitle(
        f"DiffMean at strengths of {', '.join(f'{one:g}' for one in strengths)} matching strengths"
    )
    return figure


@style.styled()
def plot_projection(table: pd.DataFrame) -> Canvas:
    """A projection per token: h . v / |v| of each token of a text, a line per strength.

    Tokens that are not steered (BOS) are hollow. `table` is what `project` returns, of 120 tokens at most.
    """
    style.require(table, "m", "position", "token", "steered", "projection")
    words = table.drop_duplicates("position").sort_values("position")
    if len(words) > _MOST_TOKENS:
        raise ValueError(
            f"the text has {len(words)} tokens; a figure has room for {_MOST_TOKENS}: draw a part."
        )
    strengths = list(dict.fromkeys(table["m"]))
    figure, grid = panels(max(5.0, min(16.0, 1.5 + 0.24 * len(words))), 3.6, 1, 1)
    axes: Axes = grid[0, 0]
    shades = style.SHADES(np.linspace(0.0, 0.8, len(strengths)))
    handles = []
    for number, strength in enumerate(strengths):
        part = table[table["m"] == strength].sort_values("position")
        shown = {"color": shades[number], "marker": _MARKERS[number % len(_MARKERS)]}
        axes.plot(part["position"], part["projection"], "-", ms=4.5, linewidth=1.2, **shown)
        left_out = part[~part["steered"]]
        axes.plot(left_out["position"], left_out["projection"], linestyle="", ms=5, mfc="white", **shown)
        handles.append(entry(f"m = {strength:.3g}", **shown))
    axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    shown_words = [repr(str(word).strip() or str(word))[1:-1].replace("$", r"\$") for word in words["token"]]
    axes.set_xticks(words["position"], shown_words, rotation=90, fontsize=8)
    axes.set(ylabel="h · v / |v|", title="residual stream along the vector's direction")
    figure.legend_below(handles, min(6, len(handles)))
    return figure
