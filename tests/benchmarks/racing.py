"""Races: one job done in several ways, in turn within each round, and how long each takes beside splitkit's.

Machines differ and are shared, so a time says little and a ratio from one round says more: each round runs
every way once, in an order drawn anew, and what is kept is the median and the quartiles of the ratios,
by the process's CPU time and by the clock on the wall. Beside them stands the ratio of the arithmetic alone:
the operations of matrix products and attention that torch counts in each way.
"""

import gc
import math
import operator
import random
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

OURS = "splitkit"
COLUMNS = (
    "benchmark",
    "model",
    "case",
    "way",
    "value",
    "unit",
    "share",
    "rounds",
    "ratio",
    "ratio_low",
    "ratio_high",
    "wall_ratio",
    "wall_low",
    "wall_high",
    "work_ratio",
    "target",
    "met",
)
_RELATIONS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Way:
    """A way to do the job: a call that does `share` of it, and the target that splitkit has against it.

    A target is a column of the table, a relation and a bound, as in ("ratio", ">=", 1.8).
    """

    call: Callable[[], Any]
    share: float = 1.0
    target: tuple[str, str, float] | None = None


@dataclass
class Table:
    """The rows of all benchmarks of a run, in the order in which they were measured."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, target: tuple[str, str, float] | None = None, **row: Any) -> None:
        """Add a row; `met` says whether the target, if there is one, is reached."""
        if target is not None:
            column, relation, bound = target
            row["target"] = f"{column} {relation} {bound:.3g}"
            row["met"] = bool(_RELATIONS[relation](row[column], bound))
        self.rows.append(row)

    def frame(self) -> pd.DataFrame:
        """One row per way of a benchmark, with the columns of `COLUMNS`."""
        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype({"met": object})


def timed(call: Callable[[], Any]) -> np.ndarray:
    """Seconds of the process's CPU time and on the wall, (2,), that one call takes."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return np.array([time.process_time() - cpu, time.perf_counter() - wall])


def _attention(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *rest: Any, **named: Any
) -> int:
    """Operations of attention as one kernel on a CPU, which torch does not count; (..., token, head)."""
    tokens, heads = math.prod(query[:-1]), (query[-1], value[-1])
    return 2 * tokens * key[-2] * sum(heads)


def counted(call: Callable[[], Any]) -> float:
    """Floating-point operations of matrix products and attention in one call; NaN where torch sees none.

    The backward pass of attention as one kernel is not among them.
    """
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: _attention}) as counter:
        call()
    return float(counter.get_total_flops()) or math.nan


def peak_memory() -> float:
    """The most memory that this process has held so far, in MB."""
    if sys.platform == "linux":
        # getrusage's peak begins with that of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Race:
    """Runs `ours` under pytest-benchmark, and before each of its rounds all other ways once."""

    def __init__(self, benchmark: Any, table: Table, rounds: int = 5) -> None:
        self.benchmark, self.table, self.rounds = benchmark, table, rounds

    def run(
        self,
        ours: Callable[[], Any],
        others: dict[str, Way],
        *,
        benchmark: str,
        model: str,
        case: str,
        target: tuple[str, str, float] | None = None,
    ) -> None:
        """Measure, and add one row for splitkit and one for each other way; each has been called before.

        `ratio` is (a way's seconds / its share of the job) / (splitkit's seconds): above 1 splitkit is
        faster. `work_ratio` is the same of `counted`: above 1 splitkit computes less.
        """
        work = counted(ours)
        own: list[np.ndarray] = []
        theirs: dict[str, list[np.ndarray]] = {name: [] for name in others}
        order = random.Random(0)

        def run_others() -> None:
            for name in order.sample(sorted(others), len(others)):
                theirs[name].append(timed(others[name].call) / others[name].share)

        self.benchmark.group = f"{benchmark} {model} {case}"
        self.benchmark.pedantic(lambda: own.append(timed(ours)), setup=run_others, rounds=self.rounds)
        named = dict(benchmark=benchmark, model=model, case=case, unit="s CPU", rounds=self.rounds)
        base = np.array(own)  # (round, clock)
        self.table.add(target, **named, way=OURS, value=np.median(base[:, 0]), share=1.0)
        for name, way in others.items():
            found = np.array(theirs[name])
            quartiles = np.quantile(found / base, [0.25, 0.5, 0.75], axis=0)  # (quartile, clock)
            (low, middle, high), (wall_low, wall_middle, wall_high) = quartiles.T
            self.table.add(
                way.target,
                **named,
                way=name,
                value=np.median(found[:, 0]),
                share=way.share,
                ratio=middle,
                ratio_low=low,
                ratio_high=high,
                wall_ratio=wall_middle,
                wall_low=wall_low,
                wall_high=wall_high,
                work_ratio=counted(way.call) / way.share / work,
            )
            self.benchmark.extra_info[name] = f"{middle:.2f} times splitkit's CPU ({low:.2f} to {high:.2f})"


class Untimed:
    """What `Race` needs of pytest-benchmark, without its timer."""

    def __init__(self) -> None:
        self.extra_info: dict[str, str] = {}
        self.group = ""

    def pedantic(self, target: Callable[[], Any], setup: Callable[[], Any], rounds: int) -> None:
        for _ in range(rounds):
            setup()
            target()
