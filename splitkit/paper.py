"""The paper's printed tables, its model for one of ours, its official settings, and our R² beside its own."""

from collections.abc import Hashable
from functools import cache
from typing import Any

import pandas as pd

from splitkit.steering.formats.released import RELEASED
from splitkit.storage.paths import PAPER
from splitkit.tasks import task_family

TABLES: dict[int, str] = {
    1: "table1_forms",
    2: "table2_fit_r2_train",
    3: "table3_main",
    4: "table4_dpo",
    6: "table6_fit_r2_test",
    7: "table7_transfer_r2",
}

COUNTERPARTS: dict[str, str] = {
    "tiny-gemma2": "gemma-2-9b-it",
    "tiny-qwen2": "qwen2.5-7b-instruct",
    "google/gemma-2-9b-it": "gemma-2-9b-it",
    "google/gemma-2-2b-it": "gemma-2-9b-it",
    "Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b-instruct",
    "Qwen/Qwen2.5-0.5B-Instruct": "qwen2.5-7b-instruct",
    **{name: one.counterpart for name, one in RELEASED.items()},
}
"""The paper's model for one of ours: of the same architecture, not always of the same size."""

_CURVES = {"pref": "preference", "util": "utility"}


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


def counterpart(model: str, default: str | None = None) -> str:
    """The paper's model to compare with: that of `COUNTERPARTS`, or the one that is built alike.

    A model of your own is built like Gemma 2 where a norm follows the down-projection, else like Qwen 2.5.
    KeyError for a model of unknown architecture or without files here, with the models there are, unless
    there is a default.
    """
    if model in COUNTERPARTS:
        return COUNTERPARTS[model]
    from splitkit.steering.architectures import SITES
    from splitkit.steering.model_files import architecture

    try:
        paths = SITES[architecture(model)]
    except (OSError, KeyError, ValueError) as error:
        if default is not None:
            return default
        raise KeyError(
            f"no counterpart in the paper for {model!r}: its architecture is not known here ({error}); "
            f"there are {sorted(COUNTERPARTS)}"
        ) from error
    return "gemma-2-9b-it" if paths.after_down_path else "qwen2.5-7b-instruct"


@cache
def _official_rows() -> dict[Hashable, Any]:
    """Each official row by model, task family, form and objective."""
    return _read("official_hparams").set_index(["model", "dataset", "form", "objective"]).to_dict("index")


_NEGATIVE = {"negated factor": "negated", "zero factor": "negated", "none": "none"}
"""Names of the mirrored side; m = 0 is the base model, so a zero factor would train nothing here."""


def official_settings(model: str, form: str, objective: str, family: str) -> dict[str, float | str]:
    """The official code's training settings of a model's counterpart, as arguments of `training.train`.

    DPO, which has no row, takes RePS's, with its direction drawn; a LoRA's rank is 4 where a row leaves it
    out. KeyError names the row that is missing.
    """
    wanted = (counterpart(model), family, form, "reps" if objective == "dpo" else objective)
    if wanted not in _official_rows():
        raise KeyError(f"0 rows of official_hparams.csv for {wanted}, not one")
    row = _official_rows()[wanted]
    names = ["lr", "dropout", "factor_min", "factor_max", "factor_step"]
    if objective != "dpo":
        names += ["lambda_p", "lambda_n", "gamma", "theta", "beta", "simpo_scaler"]
    found: dict[str, float | str] = {name: float(row[name]) for name in names if pd.notna(row[name])}
    found |= {"epochs": int(row["epochs"]), "batch_size": int(row["batch_size"] * row["grad_accumulation"])}
    if form == "lora":
        found["rank"] = int(row["rank"]) if pd.notna(row["rank"]) else 4
    return found | {"negative": "drawn" if objective == "dpo" else _NEGATIVE[row["negative_pairs"]]}


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
    """Our R² (model, task, form, objective, curve, r2) with `paper` and `difference` (ours - paper) added.

    A row for which the paper gives no number (SPLIT, say) keeps NaN. ValueError names a missing column,
    KeyError a model without a counterpart.
    """
    needed = ["model", "task", "form", "objective", "curve", "r2"]
    if missing := [column for column in needed if column not in ours]:
        raise ValueError(f"the table to lay beside the paper's lacks {missing}; it needs {needed}")
    keyed = ours.assign(paper_model=ours["model"].map(counterpart), task_family=ours["task"].map(task_family))
    theirs = tidy(number).rename(columns={"model": "paper_model", "r2": "paper"})
    joined = keyed.merge(
        theirs, how="left", on=["paper_model", "form", "objective", "curve", "task_family"], validate="m:1"
    )
    joined["difference"] = joined["r2"] - joined["paper"]
    return joined.drop(columns="task_family")
