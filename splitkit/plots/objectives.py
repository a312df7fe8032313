"""Figures of the objectives as functions of two losses, and of the weights of SPLIT."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from splitkit.plots import style
from splitkit.plots.style import CURVES, OBJECTIVES, Canvas, entry, panels, selected
from splitkit.steering import objectives
from splitkit.steering.objectives import ObjectiveInputs, get_objective

LIMIT = 4.0
"""Largest loss drawn, in nats per token."""


def descent(
    objective: str,
    loss_positive: np.ndarray,
    loss_negative: np.ndarray,
    reference: tuple[float, float],
    length: int,
    weights: Mapping[str, float] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The objective and -dL/dL_p, -dL/dL_n at points of the (L_p, L_n) plane, by automatic differentiation.

    Losses (...) and `reference`, the unsteered model's L_p and L_n, are in nats per token; both answers have
    `length` tokens; `weights` are hyper-parameters that differ from the objective's defaults.

    Returns three arrays (...): the loss in its own unit, and the change of each loss by gradient descent per
    unit of time; negative means down. ValueError for an unknown objective or hyper-parameter.
    """
    chosen = get_objective(objective)
    positive, negative = (
        torch.tensor(np.ravel(values), dtype=torch.float64, requires_grad=True)
        for values in (loss_positive, loss_negative)
    )
    tokens = torch.full(positive.shape, length)
    at_rest = [torch.full(positive.shape, value, dtype=torch.float64) for value in reference]
    loss = chosen(ObjectiveInputs(positive, negative, tokens, tokens, *at_rest), **(weights or {}))
    # sft looks at one of the two only
    gradients = torch.autograd.grad(
        loss.sum(), (positive, negative), allow_unused=True, materialize_grads=True
    )
    arrays = (loss.detach(), -gradients[0], -gradients[1])
    found, right, up = (array.numpy().reshape(np.shape(loss_positive)) for array in arrays)
    return found, right, up


@style.styled()
def figure_asks(
    reference: tuple[float, float], length: int, weights: Mapping[str, Mapping[str, float]]
) -> Canvas:
    """Level lines of each trained objective in the plane of L_p and L_n, and its negative gradients.

    `weights` has an objective's hyper-parameters where they differ from the defaults. An arrow is as long as
    the square root of its size, relative to its panel's longest. Grey: where Eq. 8 is undefined for token
    means, e^-Lp + e^-Ln >= 1. Cross: the unsteered model. Dashed, in SPLIT's panel: L_n - L_p = theta.
    """
    fine, coarse = np.linspace(0.05, LIMIT, 121), np.linspace(0.35, LIMIT - 0.25, 9)
    names = OBJECTIVES.among(objectives.OBJECTIVES)
    rows, rest = (len(names) + 1) // 2, OBJECTIVES["vanilla"]
    figure, grid = panels(9.0, 4.2 * rows, rows, 2, sharex=True, sharey=True)
    for name, axes in zip(names, grid.flat, strict=False):
        own = weights.get(name, {})
        x, y = np.meshgrid(fine, fine)
        loss = descent(name, x, y, reference, length, own)[0]
        # even shares of the plane between lines, so that a flat part has lines too
        lines = np.unique(np.quantile(loss, np.linspace(0.04, 0.96, 13)))
        levels = axes.contour(x, y, loss, lines, cmap=style.SHADES)
        levels.set(linewidths=0.9)
        axes.contourf(x, y, np.exp(-x) + np.exp(-y), levels=[1, np.inf], colors=["0.5"], alpha=0.25)
        x, y = np.meshgrid(coarse, coarse)
        _, right, up = descent(name, x, y, reference, length, own)
        size = np.hypot(right, up)
        # lengths as square roots, or the weak arrows beyond SPLIT's margin could not be seen
        shrink = 0.42 / np.sqrt(np.where(size > 0, size, 1) * size.max())
        axes.quiver(x, y, right * shrink, up * shrink, angles="xy", scale_units="xy", scale=1, width=0.005)
        axes.plot(*reference, rest.marker, color=rest.colour, ms=10, mec="black")
        if name == "split":
            theta = {**get_objective(name).defaults, **own}["theta"]
            axes.plot(fine, fine + theta, "--", color="0.2", linewidth=1.2)
        axes.set(title=OBJECTIVES[name].label, xlim=(0, LIMIT), ylim=(0, LIMIT), aspect="equal")
    for axes in grid[-1]:
        axes.set_xlabel("Lₚ, nats per token")
    for axes in grid[:, 0]:
        axes.set_ylabel("Lₙ, nats per token")
    return figure


@style.styled()
def figure_ablation(table: pd.DataFrame, model: str, task: str) -> Canvas:
    """Preference (above) and utility (below) against m: a column per weight, a shade per value.

    `table` is that of `studies.ablation.ablate`. The thick line is the recorded value's.
    """
    part = selected(table, model=model, task=task)
    weights = list(dict.fromkeys(part["weight"]))
    figure, grid = panels(3.3 * len(weights) + 0.8, 5.6, 2, len(weights), sharex=True, sharey="row")
    for weight, column in zip(weights, grid.T, strict=True):
        _column(column, part[part["weight"] == weight], weight)
    for axes, look, unit in zip(grid[:, 0], CURVES.values(), ("\n(nats per token)", " (nats)"), strict=True):
        axes.set_ylabel(look.label + unit)
    figure.suptitle(f"{model}, {task}: one weight at a time (thick: as recorded)")
    return figure


def _column(column: np.ndarray, part: pd.DataFrame, weight: str) -> None:
    curves = list(part.groupby("value"))
    # from dark to light without the palest end, so that order shows in grey too
    shades = style.SHADES(np.linspace(0.0, 0.85, len(curves)))
    handles = []
    for (value, curve), shade, marker in zip(curves, shades, "osD^v*X", strict=False):
        width = 2.6 if curve["recorded"].iloc[0] else 1.2
        shown: dict[str, Any] = {"color": shade, "marker": marker, "linewidth": width}
        for axes, name in zip(column, CURVES, strict=True):
            axes.plot(curve["m_relative"], curve[name], markersize=3.5, **shown)
        handles.append(entry(f"{value:g}", **shown))
    above, below = column
    above.set_title(style.WEIGHTS.get(weight, weight))
    above.legend(handles=handles, fontsize=8)
    style.strength_axis(below, float(part["m_relative"].max()), fontsize=9)
