"""Cells: each trained and measured once, kept whole or not at all, and reused by every notebook."""

import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import joblib
import pandas as pd
from tqdm import tqdm

from splitkit import paths, results
from splitkit.files import check_writable, exclusive, sweep_away, whole_folder, write_whole
from splitkit.profiles import Cell, Profile
from splitkit.settings import STAGES, cell_folder, finished, settings, stages

if TYPE_CHECKING:
    from splitkit.interventions import Intervention

_SPLITS = ("train", "test")
UNIT_PAIRS = 64
"""Training pairs that the matching strength is measured on; its medians are over thousands of tokens."""


class CellError(RuntimeError):
    """Some cells could not be computed; the others are kept."""


@dataclass(frozen=True)
class CellResult:
    """A finished cell, read from its folders when asked; a stage that the profile has not is not there."""

    cell: Cell
    folders: dict[str, Path] = field(hash=False)

    @property
    def meta(self) -> dict[str, Any]:
        """Settings and provenance of the training: hparams, layer, matching_strength, digests, seconds."""
        return json.loads((self.folders["trained"] / "meta.json").read_text(encoding="utf-8"))

    @property
    def unit(self) -> float:
        """The matching strength, in which the relative grids count."""
        return float(self.meta["matching_strength"])

    def sweep(self, split: str) -> pd.DataFrame:
        """Losses and log-odds of every pair of 'train' or 'test' over the grid: one row per (m, pair)."""
        if split not in _SPLITS:
            raise KeyError(f"no split {split!r}; a cell measures {list(_SPLITS)}")
        return pd.read_csv(self._folder("curves") / f"sweep_{split}.csv.gz")

    def answers(self, split: str) -> pd.DataFrame:
        """Scored answers: to 'validation' at every strength of the search, to 'test' at m = 0 and at m*."""
        if split not in ("validation", "test"):
            raise KeyError(f"no split {split!r}; answers are to 'validation' or 'test' questions")
        path = self._folder("answers") / f"{split}.csv.gz"
        # a broken answer may hold a carriage return, which ends no line
        return pd.read_csv(path, keep_default_na=False, na_values=["NaN"], lineterminator="\n")

    def intervention(self) -> "Intervention":
        """The trained intervention."""
        from splitkit.interventions import load_intervention

        return load_intervention(self.folders["trained"] / "intervention")

    def _folder(self, stage: str) -> Path:
        if stage not in self.folders:
            raise KeyError(f"cell {self.cell} has no {stage} in its profile; it has {list(self.folders)}")
        return self.folders[stage]


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: processes side by side do not wait for each other, and results repeat bit for bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute_cell(cell: Cell, profile: Profile) -> CellResult:
    """Train, measure and ask a cell where that is not done already; nothing half done is ever kept."""
    folders = {stage: cell_folder(cell, profile, stage) for stage in stages(cell, profile)}
    result = CellResult(cell, folders)
    missing = [stage for stage, folder in folders.items() if not folder.exists()]
    if missing:
        from splitkit.models import load_model

        with one_thread():
            model, tokenizer = load_model(cell.model)
            for stage in missing:
                with whole_folder(folders[stage]) as temporary:
                    _MAKERS[stage](result, profile, model, tokenizer, temporary)
    return result


def _train(result: CellResult, profile: Profile, model: Any, tokenizer: Any, folder: Path) -> None:
    from splitkit.matching import matching_strength
    from splitkit.models import MODELS
    from splitkit.pairs import load_pairs
    from splitkit.training import train

    cell, start = result.cell, time.perf_counter()
    chosen, layer = settings(cell, profile), MODELS[cell.model].layer
    pairs = load_pairs(cell.task, split="train")[: profile.size("train", cell.task)]
    iv = train(
        model,
        tokenizer,
        pairs,
        form=cell.form,
        objective=cell.objective,
        layer=layer,
        seed=cell.seed,
        **chosen["hparams"],
    )
    iv.save(folder / "intervention")
    meta = chosen | {
        "layer": layer,
        "matching_strength": matching_strength(model, tokenizer, iv, pairs[:UNIT_PAIRS]),
        "seconds": round(time.perf_counter() - start, 2),
        "provenance": results.provenance(profile),
    }
    write_whole(folder / "meta.json", json.dumps(meta, indent=2, sort_keys=True) + "\n")


def _sweep(result: CellResult, profile: Profile, model: Any, tokenizer: Any, folder: Path) -> None:
    from splitkit.pairs import load_pairs
    from splitkit.sweeps import sweep

    iv, task, grid = result.intervention(), result.cell.task, [result.unit * r for r in profile.grid]
    for split in _SPLITS:
        pairs = load_pairs(task, split=split)[: profile.size("sweep", task)]
        _keep(sweep(model, tokenizer, iv, pairs, m=grid), folder / f"sweep_{split}.csv.gz")


def _ask(result: CellResult, profile: Profile, model: Any, tokenizer: Any, folder: Path) -> None:
    from splitkit.evaluation import STRENGTHS, choose_strength, measure_strengths

    iv, task, unit = result.intervention(), result.cell.task, result.unit
    tried = [unit * r for r in STRENGTHS]
    table = measure_strengths(model, tokenizer, iv, task, "validation", tried, profile.size("choose", task))
    chosen = choose_strength(table, task)
    n = profile.size("test", task)
    # the test questions are answered at the chosen strength alone, and once, for the closed form, unsteered
    used = [0.0, chosen] if result.cell.objective == "diffmean" else [chosen]
    _keep(table, folder / "validation.csv.gz")
    _keep(measure_strengths(model, tokenizer, iv, task, "test", used, n), folder / "test.csv.gz")


_MAKERS = {"trained": _train, "curves": _sweep, "answers": _ask}


def _keep(table: pd.DataFrame, path: Path) -> None:
    # mtime 0: equal tables are equal files
    table.to_csv(path, index=False, compression=cast(Any, {"method": "gzip", "mtime": 0}))


def _attempt(cell: Cell, profile: Profile) -> tuple[Cell, str | None]:
    """Compute a cell; a failure comes back as text, so that one cell cannot end the others."""
    try:
        compute_cell(cell, profile)
    except Exception as error:
        logging.getLogger(__name__).debug("%s\n%s", cell, traceback.format_exc())
        return cell, f"{type(error).__name__}: {error}"
    return cell, None


def compute_cells(profile: Profile, jobs: int = 2, progress: bool = True) -> list[CellResult]:
    """Every cell of the profile, computing those that are missing in `jobs` processes of one thread each.

    A killed run goes on where it was. CellError names the cells that failed; the finished ones are kept.
    RunInProgress when another process computes cells in the same cache.
    """
    every = profile.cells()
    missing = [cell for cell in every if not finished(cell, profile)]
    if missing:
        check_writable(paths.CACHE)
        with exclusive(paths.CACHE / "trained", f"computing cells of profile {profile.name}"):
            for stage in STAGES:
                # what a killed run left half done
                sweep_away(paths.CACHE / stage)
            _compute_missing(missing, profile, jobs, progress, done=len(every) - len(missing))
    return [
        CellResult(cell, {stage: cell_folder(cell, profile, stage) for stage in stages(cell, profile)})
        for cell in every
    ]


def _compute_missing(cells: Sequence[Cell], profile: Profile, jobs: int, progress: bool, done: int) -> None:
    # the workers' mathematics libraries read this when they start
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    work = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1)
    outcomes = work(joblib.delayed(_attempt)(cell, profile) for cell in cells)
    failed: dict[Cell, str] = {}
    with tqdm(total=done + len(cells), initial=done, desc="cells", unit="cell", disable=not progress) as bar:
        for cell, error in outcomes:
            bar.set_postfix_str(str(cell))
            bar.update()
            if error is not None:
                failed[cell] = error
    if failed:
        lines = "\n".join(f"  {cell}: {error}" for cell, error in sorted(failed.items()))
        raise CellError(f"{len(failed)} of {len(cells)} cells failed, the others are kept:\n{lines}")
