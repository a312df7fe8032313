"""Tables 2, 6 and 7 of the paper measured here: R² of train, test and transferred fits, with intervals."""

import math

import joblib
import numpy as np
import pandas as pd
from tqdm import tqdm

from splitkit import paper
from splitkit.curves.bootstrap import DRAWS, SPLITS, Estimate, bootstrap_cell, interval_rows
from splitkit.curves.decay import r2
from splitkit.runs.cells import CellResult
from splitkit.runs.engines import prepare_workers
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.runs.results import own_rows
from splitkit.studies.fits import fitted_curve
from splitkit.studies.frames import CELL, ROW
from splitkit.studies.mean_curves import mean_curves, swept_cells
from splitkit.studies.text.log_odds import USABLE_NATS
from splitkit.tasks import FAMILIES, task_family

KINDS = {2: "train", 6: "test", 7: "transfer"}
"""The `split` of each of the paper's tables of fits, by the table's number."""
PRINTED = [paper.TABLES[number] for number in KINDS]
"""Names of those tables."""
_FEWEST = 3
"""Fewest strengths of a window that has an R²."""
_PREFIX = {"preference": "pref", "utility": "util"}


@kept("fit_intervals", *PRINTED, tolerance=0.05, digits=4, means=PRINTED)
def fit_quality(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Tables 2, 6 and 7 of a profile (see `paper_table`), and the intervals behind them.

    "fit_intervals" has one row per cell, split, curve and quantity, see `bootstrap.bootstrap_cell`. The other
    tables are means over all cells: a run of some cells leaves them as they are.
    """
    cells = swept_cells(profile, jobs)
    prepare_workers()
    work = joblib.Parallel(n_jobs=jobs, return_as="generator")
    found = work(joblib.delayed(_estimates)(cell, np.array(profile.grid)) for cell in cells)
    rows: list[dict[str, object]] = []
    draws: list[dict[str, object]] = []
    for cell, estimates in zip(cells, tqdm(found, "bootstrap", len(cells), unit="cell"), strict=True):
        rows += [{**cell.cell.key, **row} for row in interval_rows(estimates)]
        for (split, curve, quantity), estimate in estimates.items():
            if quantity == "r2":
                own = {"split": split, "curve": curve, "value": estimate.value, "draws": estimate.draws}
                draws.append({**cell.cell.key, **own})
    table = pd.DataFrame(draws)
    tables = {name: paper_table(table, number) for number, name in zip(KINDS, PRINTED, strict=True)}
    return {"fit_intervals": pd.DataFrame(rows), **tables}


def paper_table(draws: pd.DataFrame, number: int) -> pd.DataFrame:
    """Table 2, 6 or 7 in the paper's columns, each number followed by `_low` and `_high` (2.5 and 97.5 %).

    A number is the mean R² over seeds, and for AxBench over the concepts there are; a cell whose R² is
    undefined is left out. As in the paper the averages are means of the three tasks' numbers. A task that was
    not measured is empty, and then so is the average. An interval is of that mean over draws of the pairs:
    those draws count in which all its cells are defined, so that no draw is about other cells.

    `draws` has one row per cell, split and curve: the keys, value and `draws`, a (draw,) array of R²; draw i
    has the same pairs in all cells of a task. KeyError for another number.
    """
    if number not in KINDS:
        raise KeyError(f"table {number!r} is no table of fits; those are {sorted(KINDS)}")
    rows = draws[draws["split"] == KINDS[number]]
    n_draws = len(rows["draws"].iloc[0]) if len(rows) else DRAWS
    lines = []
    for key, part in rows.groupby(ROW, sort=False):
        line: dict[str, object] = dict(zip(ROW, key, strict=True))
        for curve, prefix in _PREFIX.items():
            own = part[part["curve"] == curve]
            families = own["task"].map(task_family)
            means = {family: _mean(own[families == family], n_draws) for family in FAMILIES}
            means["avg"] = np.mean([means[family] for family in FAMILIES], axis=0)
            for family, mean in means.items():
                name, (low, high) = f"{prefix}_{family}", Estimate(float(mean[0]), mean[1:]).interval()
                line |= {name: float(mean[0]), f"{name}_low": low, f"{name}_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


def beside_paper(table: pd.DataFrame, number: int, curve: str) -> pd.DataFrame:
    """Table 2, 6 or 7 for "preference" or "utility" as text: "0.98 [0.97, 0.99] (0.97)".

    Each entry has our number, its interval and the paper's; a column per task and one for their average,
    where we have numbers. A star marks an objective that the paper's table lacks. KeyError lists the curves.
    """
    if curve not in _PREFIX:
        raise KeyError(f"no curve {curve!r}; there are {list(_PREFIX)}")
    theirs = paper.table(number).set_index(ROW)
    names = {family: f"{_PREFIX[curve]}_{family}" for family in (*FAMILIES, "avg")}
    lines = []
    for row in table.to_dict("records"):
        key = (paper.counterpart(row["model"], row["model"]), row["form"], row["objective"])
        printed = theirs.loc[key] if key in theirs.index else None
        star = "" if printed is not None else " *"
        line = {name: row[name] for name in ROW} | {"objective": f"{row['objective']}{star}"}
        for family, name in names.items():
            low, high = (_short(row[f"{name}_{end}"]) for end in ("low", "high"))
            text = f"{_short(row[name])} [{low}, {high}]"
            text += f" ({_short(printed[name])})" if printed is not None else ""
            line[family] = "" if pd.isna(row[name]) else text
        lines.append(line)
    shown = pd.DataFrame(lines).set_index(ROW)
    return shown[[name for name in shown if (shown[name] != "").any()]]


def _short(value: float) -> str:
    """The number with two decimals, those of 10 and more without."""
    return "undefined" if math.isnan(value) else f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


@kept("window_fits", tolerance=0.05, digits=4)
def window_fits(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """R² of the fits of every cell over the whole grid, and of the same fits over the usable window alone.

    The columns of `within_usable`, and window: "whole" or "usable".
    """
    curves = own_rows(mean_curves(profile, jobs)["curves"], profile)
    intervals = own_rows(fit_quality(profile, jobs)["fit_intervals"], profile)
    whole = r2_rows(intervals).drop(columns=["low", "high"]).assign(strengths=len(profile.grid))
    both = {"whole": whole, "usable": within_usable(intervals, curves)}
    columns = [*CELL, "split", "curve", "window", "strengths", "r2"]
    parts = [rows.assign(window=window)[columns] for window, rows in both.items()]
    return {"window_fits": pd.concat(parts, ignore_index=True)}


def within_usable(intervals: pd.DataFrame, curves: pd.DataFrame, nats: float = USABLE_NATS) -> pd.DataFrame:
    """R² of fits over the whole grid, taken over the usable window alone: where utility is worth reading.

    Args:
        intervals: `fit_intervals`, whose parameters are used.
        curves: mean curves, of train and test.

    Returns:
        One row per cell, split ("train", "test", and "transfer", the train fit on the test curve) and curve:
        the five keys, split, curve, strengths (how many are in the window, 0 without a utility), r2, NaN
        where the window has fewer than three strengths or there is no fit.
    """
    keys = [*CELL, "split", "curve"]
    fits = intervals[intervals["quantity"] != "r2"].pivot(index=keys, columns="quantity", values="value")
    measured = {name: part for name, part in curves.groupby([*CELL, "split"])}
    rows = []
    for name in intervals[keys].drop_duplicates().itertuples(index=False, name=None):
        *cell, split, curve = name
        on, of = ("test", "train") if split == "transfer" else (split, split)
        part = measured[*cell, on]
        window = usable_window(part, nats)
        row = dict(zip(keys, name, strict=True)) | {"strengths": len(window), "r2": math.nan}
        fit = fits.loc[(*cell, of, curve)].to_dict() | {"curve": curve}
        if len(window) >= _FEWEST and not math.isnan(fit["m_plus"]):
            row["r2"] = r2(window[curve], fitted_curve(fit, window["m_relative"].to_numpy()))
        rows.append(row)
    return pd.DataFrame(rows)


def usable_window(curve: pd.DataFrame, nats: float = USABLE_NATS) -> pd.DataFrame:
    """The rows of a mean curve whose utility is at most `nats` per token below that at m = 0.

    Where losses are sums that is `nats` times `tokens`, the mean number of tokens of an answer.
    """
    (unsteered,) = curve.loc[curve["m_relative"] == 0, "utility"]
    return curve[curve["utility"] >= unsteered - nats * curve.get("tokens", 1.0)]


def r2_rows(intervals: pd.DataFrame) -> pd.DataFrame:
    """The rows of `fit_intervals` on R²: the five keys, split, curve, r2, low, high."""
    rows = intervals[intervals["quantity"] == "r2"].rename(columns={"value": "r2"})
    return rows[[*CELL, "split", "curve", "r2", "low", "high"]].reset_index(drop=True)


def transfer_shape(intervals: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Train fits against test curves: the five keys, curve, r2, and correlation_squared.

    The squared correlation of the fit with the test curve is 1 where the fit is right up to an offset and a
    factor. Cells without an R² are left out.
    """
    key = [*CELL, "curve"]
    fits = intervals[intervals["split"] == "train"].pivot(index=key, columns="quantity", values="value")
    r2 = r2_rows(intervals).query("split == 'transfer'").set_index(key)["r2"].dropna()
    tests = {name: part for name, part in curves[curves["split"] == "test"].groupby(CELL)}
    rows = []
    for name in r2.index:
        *cell, curve = name
        test = tests[tuple(cell)]
        predicted = fitted_curve(fits.loc[name].to_dict() | {"curve": curve}, test["m_relative"].to_numpy())
        squared = float(np.corrcoef(predicted, test[curve])[0, 1] ** 2)
        rows.append(dict(zip(key, name, strict=True)) | {"r2": r2[name], "correlation_squared": squared})
    return pd.DataFrame(rows, columns=[*key, "r2", "correlation_squared"])


def _estimates(cell: CellResult, grid: np.ndarray) -> dict[tuple[str, str, str], Estimate]:
    return bootstrap_cell({split: cell.sweep(split) for split in SPLITS}, grid, cell.cell.task)


def _mean(rows: pd.DataFrame, n_draws: int) -> np.ndarray:
    """Mean R² and its draws, (1 + draw,); undefined cells are left out, NaN where none is left."""
    values = [np.concatenate([[row["value"]], row["draws"]]) for row in rows.to_dict("records")]
    defined = [value for value in values if not math.isnan(value[0])]
    return np.mean(defined, axis=0) if defined else np.full(1 + n_draws, np.nan)
