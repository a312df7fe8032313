"""Cells, each trained and measured once, kept whole or not at all, and reused by every notebook."""

import errno
import json
import logging
import os
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from tqdm import tqdm

from splitkit.runs import preflight
from splitkit.runs.cell_keys import STAGES, cell_folders, settings
from splitkit.runs.cell_results import SPLITS, CellResult
from splitkit.runs.engines import Engine, EngineError, Loky, prepare_workers
from splitkit.runs.profiles import Cell, Profile
from splitkit.runs.results import provenance
from splitkit.storage import paths
from splitkit.storage.files import (
    check_writable,
    damage,
    discard,
    exclusive,
    remove_temporaries,
    whole_folder,
    write_whole,
)
from splitkit.tasks import task_family

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class CellError(RuntimeError):
    """Some cells could not be computed; the others are kept."""


def thread_count() -> int:
    """Torch threads of a process, by SPLITKIT_THREADS; 1 where it is not set. ValueError for no number."""
    said = os.environ.get("SPLITKIT_THREADS") or "1"
    if not said.isdigit() or not int(said):
        raise ValueError(f"SPLITKIT_THREADS is a number of threads, 1 or more, not {said!r}")
    return int(said)


@contextmanager
def own_threads() -> Iterator[None]:
    """Run a block with `thread_count` torch threads; with one, results repeat bit for bit."""
    import torch

    before, count = torch.get_num_threads(), thread_count()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute_cell(cell: Cell, profile: Profile) -> CellResult:
    """Train, measure and ask a cell, but for stages that are whole (see `files.damage`)."""
    result = CellResult(cell, cell_folders(cell, profile))
    if missing := {stage: folder for stage, folder in result.folders.items() if damage(folder)}:
        from splitkit.runs.answers import load

        with own_threads():
            model, tokenizer = load(profile, cell.model)
            for stage, folder in missing.items():
                if folder.exists():
                    discard(folder)
                with whole_folder(folder) as temporary:
                    # a variant that diverged has nothing to measure: its folders are empty
                    if stage == "trained" or not result.diverged:
                        _MAKERS[stage](result, profile, model, tokenizer, temporary)
    return result


def _train(result: CellResult, profile: Profile, model: Any, tokenizer: Any, folder: Path) -> None:
    from splitkit.runs import answers
    from splitkit.steering.choosing.broken_text import BrokenText
    from splitkit.steering.sweeps import UNIT_PAIRS, matching_strength
    from splitkit.steering.training import train

    cell, start, chosen = result.cell, time.perf_counter(), settings(result.cell, profile)
    pairs = answers.pairs(profile, cell.task, "train", model, tokenizer)[: chosen["n_train"]]
    try:
        # what a strength does to text is what the record measures
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BrokenText)
            iv = train(
                model,
                tokenizer,
                pairs,
                form=cell.form,
                objective=cell.objective,
                layer=chosen["layer"],
                seed=cell.seed,
                shared=answers.shared_rows(),
                **chosen["hparams"],
            )
    except FloatingPointError as error:
        if not cell.variant:
            raise
        found: dict[str, Any] = {"diverged": str(error)}
    else:
        iv.save(folder / "intervention")
        found = {"matching_strength": matching_strength(model, tokenizer, iv, pairs[:UNIT_PAIRS])}
    found |= {"seconds": round(time.perf_counter() - start, 2), "provenance": provenance(profile)}
    meta = chosen | found
    write_whole(folder / "meta.json", json.dumps(meta, indent=2, sort_keys=True) + "\n")


def _sweep(result: CellResult, profile: Profile, model: Any, tokenizer: Any, folder: Path) -> None:
    from splitkit.runs import answers
    from splitkit.steering.sweeps import sweep
    from splitkit.steering.tokenization import encode_pairs

    iv, task, grid = result.intervention(), result.cell.task, [result.unit * r for r in profile.grid]
    for split in SPLITS:
        pairs = answers.pairs(profile, task, split, model, tokenizer)[: profile.size("sweep", task)]
        reduction = profile.reduction.get(task_family(task), "mean")
        table = sweep(model, tokenizer, iv, pairs, m=grid, reduction=reduction)
        if reduction == "sum":
            # a mean is a sum over these
            sides = encode_pairs(model, tokenizer, pairs, iv.details.get("chat_template_kwargs"))
            for name, side in zip(("positive", "negative"), sides, strict=True):
                table[f"tokens_{name}"] = np.tile([one.answer_length for one in side], len(grid))
        _keep(table, folder / f"sweep_{split}.csv.gz")


def _ask(result: CellResult, profile: Profile, model: Any, tokenizer: Any, folder: Path) -> None:
    from splitkit.runs.answers import measure, pairs
    from splitkit.runs.world_answers import STRENGTHS, choose_strength

    iv, task, unit = result.intervention(), result.cell.task, result.unit
    tried, n = [unit * r for r in profile.tried or STRENGTHS], profile.size("test", task)
    name, few = result.cell.model, profile.size("choose", task)
    table = measure(profile, model, tokenizer, iv, task, "validation", tried, few, name)
    chosen = choose_strength(table[table["m"] != 0])
    # the test questions are answered at the chosen strength alone, and once, for the closed form, unsteered
    used = [0.0, chosen] if result.cell.objective == "diffmean" else [chosen]
    tables = {"validation": table}
    if n:
        tables["test"] = measure(profile, model, tokenizer, iv, task, "test", used, n, name)
    if not profile.judge:
        from splitkit.runs import text_measures

        asked = pairs(profile, task, "test", model, tokenizer)[:n]
        tables |= text_measures.beside(profile, model, tokenizer, result, chosen, asked)
    for split, answered in tables.items():
        _keep(answered, folder / f"{split}.csv.gz")
    if judge := settings(result.cell, profile, "answers").get("judge"):
        for answered in tables.values():
            counts = {"requests": answered.attrs["requests"], "answers": len(answered)}
            counts["unscored"] = int(answered["score"].isna().sum())
            judge |= {name: count + judge.get(name, 0) for name, count in counts.items()}
        write_whole(folder / "judge.json", json.dumps(judge, indent=2, sort_keys=True) + "\n")


_MAKERS = {"trained": _train, "curves": _sweep, "answers": _ask}


def _keep(table: pd.DataFrame, path: Path) -> None:
    # mtime 0: equal tables are equal files; an answer that is not scored is no answer that says nothing
    table.to_csv(path, index=False, na_rep="NaN", compression=cast(Any, {"method": "gzip", "mtime": 0}))


@dataclass(frozen=True)
class _Task:
    """A missing cell, and the names of the folders that it belongs in by the run's settings."""

    cell: Cell
    names: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.cell)


def _attempt(profile: Profile, task: _Task) -> tuple[_Task, str | None]:
    """Compute a cell; a failure comes back as text, so that one cell cannot end the others."""
    try:
        if tuple(folder.name for folder in cell_folders(task.cell, profile).values()) != task.names:
            raise EngineError(
                f"a worker would compute other numbers for {task}: its code, data, models or judge differ "
                "from the run's, or were changed since it started. Start the workers anew from its checkout."
            )
        compute_cell(task.cell, profile)
    except EngineError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise EngineError(
                f"{paths.CACHE} takes no more: {error}. What is finished is kept: make room, or point "
                "SPLITKIT_CACHE at a copy of it elsewhere, and the same command goes on from there."
            ) from error
        logging.getLogger(__name__).debug("%s\n%s", task, traceback.format_exc())
        return task, f"{type(error).__name__}: {error}"
    return task, None


def compute_cells(
    profile: Profile, jobs: int = 2, progress: bool = True, engine: Engine | None = None
) -> list[CellResult]:
    """Every cell of the profile, see `compute`."""
    if not isinstance(profile, Profile):
        raise TypeError(f"a Profile is wanted, as get_profile('smoke') gives it, not {profile!r}.")
    return compute(profile.cells(), profile, jobs, progress, engine)


def compute(
    cells: Iterable[Cell],
    profile: Profile,
    jobs: int = 2,
    progress: bool = True,
    engine: Engine | None = None,
) -> list[CellResult]:
    """Cells by the settings of a profile, each once and in order; those that are missing are computed.

    A killed run goes on where it was. What a run lacks (models, data, device, judge) is told before any work,
    see `preflight`.

    Args:
        cells: the profile's own, or variants of its models, tasks and combinations.
        engine: of processes of one thread each; `jobs` processes of this machine for None.

    Raises:
        CellError: names the cells that failed; the finished ones are kept.
        RunInProgress: when another process computes cells in the same cache.
        EngineError: when the engine is lost, or the disk is full.
    """
    thread_count()
    preflight.fetch_models(profile)
    results = [CellResult(cell, cell_folders(cell, profile)) for cell in dict.fromkeys(cells)]
    missing = [
        (one.cell, stage) for one in results for stage, folder in one.folders.items() if damage(folder)
    ]
    if missing:
        check_writable(paths.CACHE)
        preflight.check(profile, missing, here=engine is None or isinstance(engine, Loky))
        with exclusive(paths.CACHE / "trained", f"computing cells of profile {profile.name}"):
            for stage in STAGES:
                # what a killed run left half done
                remove_temporaries(paths.CACHE / stage)
            _compute_missing(results, {cell for cell, _ in missing}, profile, engine or Loky(jobs), progress)
    return results


def _compute_missing(
    results: list[CellResult], missing: set[Cell], profile: Profile, engine: Engine, progress: bool
) -> None:
    folders = {one.cell: one.folders.values() for one in results if one.cell in missing}
    there = [folder for of_cell in folders.values() for folder in of_cell if folder.exists()]
    if found := [f"{folder} ({why})" for folder in there if (why := damage(folder))]:
        warnings.warn("damaged, and computed anew:\n" + "\n".join(sorted(found)), stacklevel=3)
    prepare_workers()
    failed: dict[Cell, str] = {}
    tasks = [_Task(cell, tuple(folder.name for folder in of_cell)) for cell, of_cell in folders.items()]
    done = len(results) - len(tasks)
    with tqdm(total=len(results), initial=done, desc="cells", unit="cell", disable=not progress) as bar:
        for task, error in engine.map_unordered(partial(_attempt, profile), tasks):
            bar.set_postfix_str(str(task))
            bar.update()
            if error is not None:
                failed[task.cell] = error
    if failed:
        lines = "\n".join(f"  {cell}: {error}" for cell, error in sorted(failed.items(), key=str))
        raise CellError(f"{len(failed)} of {len(tasks)} cells failed, the others are kept:\n{lines}")
