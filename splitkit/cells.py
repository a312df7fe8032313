"""Cells: each trained and measured once, kept whole or not at all, and reused by every notebook."""

import hashlib
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import joblib
import pandas as pd
from tqdm import tqdm

from splitkit import paths, results
from splitkit.committed import committed_tables
from splitkit.files import check_writable, exclusive, whole_folder, write_whole
from splitkit.paper import task_family
from splitkit.profiles import Cell, Profile, get_profile

if TYPE_CHECKING:
    from splitkit.interventions import Intervention

_SPLITS = ("train", "test")
_KEYS = ["model", "form", "objective", "task_family"]


class CellError(RuntimeError):
    """Some cells could not be computed; the others are kept."""


@dataclass(frozen=True)
class CellResult:
    """A finished cell, read from its folder when asked."""

    cell: Cell
    folder: Path

    @property
    def meta(self) -> dict[str, Any]:
        """Settings and provenance: hparams, layer, matching_strength, digests, versions, seconds."""
        return json.loads((self.folder / "meta.json").read_text(encoding="utf-8"))

    def sweep(self, split: str) -> pd.DataFrame:
        """Losses and log-odds of every pair of 'train' or 'test' over the grid: one row per (m, pair)."""
        if split not in _SPLITS:
            raise KeyError(f"no split {split!r}; a cell measures {list(_SPLITS)}")
        return pd.read_csv(self.folder / f"sweep_{split}.csv.gz")

    def intervention(self) -> "Intervention":
        """The trained intervention."""
        from splitkit.interventions import load_intervention

        return load_intervention(self.folder / "intervention")


def hparams(cell: Cell, profile: Profile | None = None) -> dict[str, Any]:
    """The training settings of a cell: its row of data/hparams.csv, the profile's overrides before them.

    KeyError names the row that is missing. An empty entry leaves `train`'s own default; diffmean, which is a
    closed form, has no settings and no row.
    """
    if cell.objective == "diffmean":
        return {}
    path = paths.DATA / "hparams.csv"
    rows = pd.read_csv(path, dtype={"negative": str})
    wanted = (cell.model, cell.form, cell.objective, task_family(cell.task))
    found = rows[rows[_KEYS].eq(list(wanted)).all(axis=1)]
    if len(found) != 1:
        raise KeyError(
            f"{len(found)} rows of {path.name} for {dict(zip(_KEYS, wanted, strict=True))}, not one"
        )
    row = found.iloc[0].drop(_KEYS).dropna().to_dict()
    settings = row | (dict(profile.overrides) if profile else {})
    # a column with an empty cell is read as floats: 2.0 epochs are 2
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in settings.items()}


def settings(cell: Cell, profile: Profile) -> dict[str, Any]:
    """All that decides a cell's numbers, as plain JSON values."""
    return {
        "model": cell.model,
        "task": cell.task,
        "form": cell.form,
        "objective": cell.objective,
        "seed": cell.seed,
        "hparams": hparams(cell, profile),
        "grid": list(profile.grid),
        "n_train": profile.n_train,
        "n_sweep": profile.n_sweep,
        "model_digest": results.model_digest(cell.model),
        "world_digest": results.data_digest(paths.DATA / "world"),
        "code_digest": results.code_digest(),
    }


def cell_folder(cell: Cell, profile: Profile) -> Path:
    """Where a cell is kept: its name and a hash of all that decides its numbers."""
    text = json.dumps(settings(cell, profile), sort_keys=True)
    return paths.CACHE / "cells" / f"{cell.slug}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


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
    """Train and measure a cell, or return it where it is finished already; nothing half done is ever kept."""
    folder = cell_folder(cell, profile)
    if folder.exists():
        return CellResult(cell, folder)
    from splitkit.models import MODELS, load_model
    from splitkit.pairs import load_pairs
    from splitkit.sweeps import matching_strength, sweep
    from splitkit.training import train

    with one_thread(), whole_folder(folder) as temporary:
        start = time.perf_counter()
        chosen = settings(cell, profile)
        model, tokenizer = load_model(cell.model)
        layer = MODELS[cell.model].layer
        training_pairs = load_pairs(cell.task, split="train")[: profile.n_train]
        iv = train(
            model,
            tokenizer,
            training_pairs,
            form=cell.form,
            objective=cell.objective,
            layer=layer,
            seed=cell.seed,
            **chosen["hparams"],
        )
        trained = time.perf_counter()
        unit = matching_strength(model, tokenizer, iv, training_pairs)
        measured = {"train": training_pairs, "test": load_pairs(cell.task, split="test")}
        for split, pairs in measured.items():
            table = sweep(model, tokenizer, iv, pairs[: profile.n_sweep], m=[unit * r for r in profile.grid])
            # mtime 0: equal tables are equal files
            compression = {"method": "gzip", "mtime": 0}
            table.to_csv(temporary / f"sweep_{split}.csv.gz", index=False, compression=cast(Any, compression))
        iv.save(temporary / "intervention")
        meta = chosen | {
            "layer": layer,
            "matching_strength": unit,
            "seconds_training": round(trained - start, 2),
            "seconds_sweeps": round(time.perf_counter() - trained, 2),
            "provenance": results.provenance(profile),
        }
        write_whole(temporary / "meta.json", json.dumps(meta, indent=2, sort_keys=True) + "\n")
    return CellResult(cell, folder)


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
    missing = [cell for cell in every if not cell_folder(cell, profile).exists()]
    if missing:
        check_writable(paths.CACHE)
        with exclusive(paths.CACHE / "cells", f"computing cells of profile {profile.name}"):
            _compute_missing(missing, profile, jobs, progress, done=len(every) - len(missing))
    return [CellResult(cell, cell_folder(cell, profile)) for cell in every]


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


def curve_table(profile: Profile, jobs: int = 2, progress: bool = True) -> pd.DataFrame:
    """Mean curves of every cell: one row per (model, task, form, objective, seed, split, m)."""
    from splitkit.decay import mean_curve

    parts = []
    for result in compute_cells(profile, jobs, progress):
        for split in _SPLITS:
            curve = mean_curve(result.sweep(split)).sort_values("m", ignore_index=True)
            curve.insert(1, "m_relative", list(profile.grid))
            for position, (column, value) in enumerate({**vars(result.cell), "split": split}.items()):
                curve.insert(position, column, value)
            parts.append(curve)
    return pd.concat(parts, ignore_index=True)


def curves(profile: Profile | str = "embedded", jobs: int = 2, progress: bool = True) -> pd.DataFrame:
    """The curves of a profile: the embedded profile's from the committed table, else from its cells.

    With SPLITKIT_RECOMPUTE=1 the embedded profile's come from its cells too (missing ones are computed), and
    the committed table keeps its bytes when they agree with it.
    """
    chosen = get_profile(profile) if isinstance(profile, str) else profile
    return committed_tables(
        ["curves"], chosen, lambda: {"curves": curve_table(chosen, jobs, progress)}, tolerance=0.05
    )["curves"]
