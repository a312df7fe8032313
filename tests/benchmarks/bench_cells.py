"""Growth in cells: what a run costs besides the cells' own work, up to 500 of them, and what gathering holds.

Cells are stubs that write files of a real cell's shape at once. Each size runs in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks.racing import OURS, Table, peak_memory

SIZES = (100, 250, 500)
EMPTY = 4
"""Cells of the process that the others' memory is compared with: all imports, nothing to hold."""
PAIRS, STRENGTHS = 16, 41


def test_cost_is_linear_in_cells_and_gathering_is_flat(table: Table) -> None:
    found = {size: measured(size) for size in (EMPTY, *SIZES)}
    for size in SIZES:
        for name, unit, expected in (("seconds", "ms per cell", 1.5), ("memory", "kB per cell", None)):
            first, own = (found[n][name] / n for n in (SIZES[0], size))
            if name == "memory":
                first, own = ((found[n][name] - found[EMPTY][name]) / n for n in (SIZES[0], size))
            table.add(
                ("ratio", "<=", expected) if expected and size == SIZES[-1] else None,
                benchmark=f"cells: {name}",
                model="stub",
                case=f"{size} cells",
                way=OURS,
                value=own * 1000,
                unit=unit,
                share=1.0,
                rounds=1,
                ratio=own / first,
            )


def measured(size: int) -> dict[str, float]:
    """seconds that a run of stub cells and its table of curves take, and its peak memory in MB."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_cells", str(size)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(size: int) -> dict[str, float]:
    """One run of so many stub cells through the engine, then their table of curves."""
    from splitkit.runs import answers, cells
    from splitkit.runs.engines import Loky
    from splitkit.runs.profiles import get_profile
    from splitkit.storage import paths
    from splitkit.studies import mean_curves

    whole = get_profile("embedded")
    count = -(-size // (len(whole.tasks) * 2))
    kinds = whole.combinations[:2]
    profile = replace(
        whole.narrowed("tiny-qwen2"),
        combinations=kinds,
        answered=(),
        curve_seeds={},
        seeds=tuple(range(count)),
    )
    rng = np.random.default_rng(0)
    losses = rng.uniform(1, 2, (STRENGTHS * PAIRS, 4))

    def trained(result, profile, model, tokenizer, folder) -> None:
        (folder / "meta.json").write_text(json.dumps({"matching_strength": 1.0}))

    def curves(result, profile, model, tokenizer, folder) -> None:
        sweep = pd.DataFrame(losses, columns=["loss_positive", "loss_negative", "preference", "utility"])
        sweep.insert(0, "pair", np.tile(np.arange(PAIRS), STRENGTHS))
        sweep.insert(0, "m", np.repeat(profile.grid, PAIRS))
        for split in ("train", "test"):
            cells._keep(sweep, folder / f"sweep_{split}.csv.gz")

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CACHE", Path(folder))
        patch.setattr(answers, "load", lambda profile, name: (None, None))
        patch.setattr(cells, "_MAKERS", {"trained": trained, "curves": curves})
        begun = time.perf_counter()
        done = len(cells.compute_cells(profile, progress=False, engine=Loky(1)))
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        mean_curves.mean_curves.__wrapped__(profile, jobs=1)
        gathered = time.perf_counter() - begun
    found = {"cells": done, "seconds": seconds * size / done, "gathered": gathered}
    return found | {"memory": peak_memory()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(int(sys.argv[1]))) + "\n")
