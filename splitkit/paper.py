"""What the paper reports: its tables, its claims, and our numbers laid beside its own."""

from dataclasses import dataclass
from functools import cache

import pandas as pd

from splitkit.paths import PAPER

TABLES: dict[int, str] = {
    1: "table1_forms",
    2: "table2_fit_r2_train",
    3: "table3_main",
    4: "table4_dpo",
    6: "table6_fit_r2_test",
    7: "table7_transfer_r2",
}

COUNTERPARTS: dict[str, str] = {
    "embedded-gemma2": "gemma-2-9b-it",
    "embedded-qwen2": "qwen2.5-7b-instruct",
}
"""The paper's model beside which one of ours is laid: the same architecture, not the same size."""

_CURVES = {"pref": "preference", "util": "utility"}


@dataclass(frozen=True)
class Claim:
    """One thing that the paper says, and where it says it."""

    id: str
    text: str
    where: str


CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            "C1", "Three forms of steering are one affine update: each adds m dh", "Eq. 1-5, Table 1, Fig. 1"
        ),
        Claim("C2", "Preference against m is linear, then bends, then settles", "Fig. 2, 4, 5"),
        Claim("C3", "Utility is highest near m = 0, falls on both sides, then settles", "Fig. 2, 4, 5"),
        Claim("C4", "All forms and objectives share that pattern", "Fig. 2, 4, 5"),
        Claim("C5", "Eq. 15 fits preference: R² above 0.95 in most settings", "Table 2"),
        Claim("C6", "Eq. 17 fits utility: R² typically above 0.97", "Table 2"),
        Claim("C7", "The fits are as good on test sets", "Table 6"),
        Claim("C8", "Curves fitted on train predict test, with some failures", "Table 7"),
        Claim("C9", "Utility falls because activations leave their manifold", "Sec. 4, Fig. 3"),
        Claim("C10", "SPLIT beats SFT, RePS and DiffMean on most metrics", "Table 3"),
        Claim("C11", "SPLIT brings psychopathy accuracy from 50 % to 98-100 %", "Table 3"),
        Claim("C12", "DPO (BiPO) barely moves the open-ended tasks", "Table 4"),
    )
}


@cache
def _read(stem: str) -> pd.DataFrame:
    return pd.read_csv(PAPER / f"{stem}.csv")


def table(number: int) -> pd.DataFrame:
    """A table of the paper by its number, as printed there; KeyError lists the numbers there are."""
    if number not in TABLES:
        raise KeyError(
            f"no table {number!r} of the paper here; there are {sorted(TABLES)} (5 is its list of symbols)"
        )
    return _read(TABLES[number]).copy()


def official_hparams() -> pd.DataFrame:
    """The 54 training settings of the official code; an empty cell is not set there."""
    return _read("official_hparams").copy()


def task_family(task: str) -> str:
    """The paper's name for a task, as in Tables 2, 6 and 7: 'axbench/ocean' is a concept of 'axbench'."""
    return task.split("/", 1)[0]


def tidy(number: int) -> pd.DataFrame:
    """Table 2, 6 or 7 with one R² per row: model, form, objective, curve, task_family, r2 (no averages)."""
    if number not in (2, 6, 7):
        raise KeyError(
            f"table {number!r} is no table of fits; those are 2 (train), 6 (test) and 7 (transfer)"
        )
    rows = table(number).melt(id_vars=["model", "form", "objective"], value_name="r2")
    rows[["curve", "task_family"]] = rows.pop("variable").str.split("_", n=1, expand=True)
    rows["curve"] = rows["curve"].map(_CURVES)
    order = ["model", "form", "objective", "curve", "task_family", "r2"]
    return rows.loc[rows["task_family"] != "avg", order].reset_index(drop=True)


def beside(ours: pd.DataFrame, number: int) -> pd.DataFrame:
    """Our R² with the paper's beside it: columns `paper` and `difference` (ours - paper) added to `ours`.

    `ours` has one row per fitted curve: model, task, form, objective, curve, r2. A row for which the paper
    gives no number (SPLIT, say) keeps NaN. ValueError names a missing column, KeyError a model without a
    counterpart.
    """
    needed = ["model", "task", "form", "objective", "curve", "r2"]
    if missing := [column for column in needed if column not in ours]:
        raise ValueError(f"the table to lay beside the paper's lacks {missing}; it needs {needed}")
    if unknown := sorted(set(ours["model"]) - set(COUNTERPARTS)):
        raise KeyError(f"no counterpart in the paper for {unknown}; there are {sorted(COUNTERPARTS)}")
    keyed = ours.assign(
        paper_model=ours["model"].map(COUNTERPARTS), task_family=ours["task"].map(task_family)
    )
    theirs = tidy(number).rename(columns={"model": "paper_model", "r2": "paper"})
    joined = keyed.merge(
        theirs, how="left", on=["paper_model", "form", "objective", "curve", "task_family"], validate="m:1"
    )
    joined["difference"] = joined["r2"] - joined["paper"]
    return joined.drop(columns="task_family")
