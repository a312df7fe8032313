"""Finished cells, read from their folders; each file is checked against the one that was written."""

import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from splitkit.runs.profiles import Cell
from splitkit.storage.files import read_kept

if TYPE_CHECKING:
    from splitkit.steering.interventions import Intervention

SPLITS = ("train", "test")
"""The pairs that a cell's losses are measured on."""


@dataclass(frozen=True)
class CellResult:
    """A finished cell, read from its folders when asked.

    KeyError for a stage or split that the cell has not, DamagedFolder for a file that is not as written.
    """

    cell: Cell
    folders: dict[str, Path] = field(hash=False)

    @property
    def meta(self) -> dict[str, Any]:
        """Settings and provenance of the training: hparams, layer, matching_strength, digests, seconds."""
        return json.loads(read_kept(self.folders["trained"], "meta.json"))

    @property
    def unit(self) -> float:
        """The matching strength, in which the relative grids count."""
        return float(self.meta["matching_strength"])

    @property
    def diverged(self) -> bool:
        """Whether this variant's loss was not finite: then it has no intervention, losses or answers."""
        return "diverged" in self.meta

    @property
    def best(self) -> tuple[float, float]:
        """m* in matching strengths, and the mean validation score there, as `choose_strength` chooses."""
        from splitkit.runs.world_answers import choose_strength

        table = self.answers("validation")
        m = choose_strength(table[table["m"] != 0])
        return m / self.unit, float(table.loc[table["m"] == m, "score"].mean())

    def sweep(self, split: str) -> pd.DataFrame:
        """Losses and log-odds of every pair of 'train' or 'test' over the grid: one row per (m, pair)."""
        if split not in SPLITS:
            raise KeyError(f"no split {split!r}; a cell measures {list(SPLITS)}")
        return pd.read_csv(self._table("curves", f"sweep_{split}"), compression="gzip")

    def answers(self, split: str) -> pd.DataFrame:
        """Scored answers: to 'validation' at every strength of the search, to 'test' at m = 0 and at m*."""
        if split not in ("validation", "test"):
            raise KeyError(f"no split {split!r}; answers are to 'validation' or 'test' questions")
        # a broken answer may hold a carriage return, which ends no line
        how: Any = {"keep_default_na": False, "na_values": ["NaN"], "lineterminator": "\n"}
        return pd.read_csv(self._table("answers", split), compression="gzip", **how)

    def kept(self, name: str) -> pd.DataFrame:
        """A table that is kept beside the answers; KeyError where there is none of this name."""
        folder = self.folders.get("answers")
        if folder is None or not (folder / f"{name}.csv.gz").exists():
            raise KeyError(f"cell {self.cell} keeps no table {name!r} beside its answers")
        return pd.read_csv(self._table("answers", name), compression="gzip", lineterminator="\n")

    def judge(self) -> dict[str, Any] | None:
        """The judge, its requests, answers and unscored answers; None where no judge was needed."""
        folder = self.folders.get("answers")
        asked = folder and (folder / "judge.json").exists()
        return json.loads(read_kept(folder, "judge.json")) if folder and asked else None

    def intervention(self) -> "Intervention":
        """The trained intervention."""
        from splitkit.steering.interventions import load_intervention

        # a cell trains one, never a sum
        return cast("Intervention", load_intervention(self.folders["trained"] / "intervention"))

    def _table(self, stage: str, name: str) -> BytesIO:
        if stage not in self.folders:
            raise KeyError(f"cell {self.cell} has no {stage} in its profile; it has {list(self.folders)}")
        return BytesIO(read_kept(self.folders[stage], f"{name}.csv.gz"))
