"""Cost: tokens, judge requests and hours of a profile. `python -m splitkit.runs.cost --help`.

Tokens are counted from the profile and its data; hours are these tokens divided by a throughput that you
measure (`--measure`) or state. Nothing here decides a number of any table.
"""

import argparse
import sys
from collections.abc import Sequence

import pandas as pd

from splitkit.runs.profiles import PROFILES, Cell, Profile, get_profile
from splitkit.runs.work import Work, cell_work, lengths, sweep_work
from splitkit.steering import model_files
from splitkit.steering.pairs import PAPER
from splitkit.tasks import task_family

PARTNERS = 72
"""Instructions of a concept of AxBench that the model itself answers, once."""
KNOWN = {
    "google/gemma-2-9b-it": (9.24e9, 42),
    "google/gemma-2-2b-it": (2.61e9, 26),
    "Qwen/Qwen2.5-7B-Instruct": (7.62e9, 28),
    "Qwen/Qwen2.5-0.5B-Instruct": (0.494e9, 24),
}
"""Parameters and layers of the profiles' models, so that they need not be on this machine to be counted."""

ASSUMED = {"cuda": (150_000.0, 8_000.0), "mps": (1_500.0, 400.0), "cpu": (100.0, 60.0)}
"""Tokens per second through a model of 1e9 parameters, and written by it; nobody measured them."""


def size(model: str) -> tuple[float, int]:
    """Parameters and layers of a model, from its files or from `KNOWN`."""
    try:
        folder = model_files.find(model)
    except FileNotFoundError:
        folder = None
    if folder is None and model in KNOWN:
        return KNOWN[model]
    from transformers import AutoConfig

    from splitkit.steering.memory import count_parameters

    config = AutoConfig.from_pretrained(model_files.fetch(model), trust_remote_code=False)
    return float(count_parameters(config)), model_files.depth(model)


def estimate_cost(profile: Profile) -> pd.DataFrame:
    """One row per model and part of a run: model, part, cells, forward, generated (tokens), requests.

    Parts: "cells" (the profile's own), "few pairs", "weights of SPLIT", "layers" and "partners" (the
    tables that train or write besides). What only measures once more, as the geometry does, is left out.
    """
    from splitkit.studies.ablation import GRID, N_PAIRS, ablated_cells, trainings
    from splitkit.studies.few_pairs import few_pairs_profile
    from splitkit.studies.layers import layers_of, psychopathy_task

    few = few_pairs_profile(profile)
    found = {task: lengths(task) for task in dict.fromkeys((*profile.tasks, *few.tasks))}
    rows = []
    for model in profile.models:
        depth = size(model)[1]
        layer = profile.layers.get(model, depth // 2)
        tail = (depth - 1 - layer) / depth

        def total(cells: Sequence[Cell], of: Profile, tail: float = tail) -> Work:
            return sum((cell_work(cell, of, found[cell.task], tail) for cell in cells), Work())

        own = [cell for cell in profile.cells() if cell.model == model]
        fewer = [cell for cell in few.cells() if cell.model == model]
        split = [cell for cell in ablated_cells(profile) if cell.model == model]
        tried = [cell for cell in split for _ in range(trainings(cell, profile))]
        varied = Work()
        for cell in tried:
            swept = min(N_PAIRS, profile.size("sweep", cell.task))
            bare = Profile(**{**vars(profile), "kinds": (), "answered": ()})
            varied += cell_work(cell, bare, found[cell.task], tail)
            varied += sweep_work(swept, found[cell.task], len(GRID), tail)
        task = psychopathy_task(profile)
        at = [Cell(model, task, "vector", "split", profile.seeds[0])] * len(layers_of(layer, depth))
        layers = total(at, Profile(**{**vars(profile), "kinds": (), "answered": (("vector", "split"),)}))
        concepts = [task for task in profile.tasks if task.startswith(f"{PAPER}axbench")]
        asked = PARTNERS * sum(found[task].prompt for task in concepts)
        partners = Work(asked, PARTNERS * len(concepts) * profile.new_tokens)
        parts = {"cells": (len(own), total(own, profile)), "few pairs": (len(fewer), total(fewer, few))}
        parts |= {"weights of SPLIT": (len(tried), varied), "layers": (len(at), layers)}
        for part, (count, work) in (parts | {"partners": (0, partners)}).items():
            rows.append({"model": model, "part": part, "cells": count, **vars(work)})
    return pd.DataFrame(rows)


def concepts_cost(profile: Profile, concepts: int, each: int = 12) -> pd.DataFrame:
    """The work of `each` cells of so many AxBench concepts per model, by the mean of the profile's own ones.

    The columns of `estimate_cost`, one row per model.
    """
    tasks = [task for task in profile.tasks if task_family(task) == "axbench"]
    found = {task: lengths(task) for task in tasks}
    rows = []
    for model in profile.models:
        depth = size(model)[1]
        tail = (depth - 1 - profile.layers.get(model, depth // 2)) / depth
        own = [cell for cell in profile.cells() if cell.model == model and cell.task in tasks]
        work = sum((cell_work(cell, profile, found[cell.task], tail) for cell in own), Work())
        share = concepts * each / len(own)
        prompts = concepts * PARTNERS * sum(length.prompt for length in found.values()) / len(found)
        rows.append(
            {"model": model, "part": f"{concepts} concepts", "cells": concepts * each}
            | {"forward": work.forward * share + prompts}
            | {"generated": work.generated * share + concepts * PARTNERS * profile.new_tokens}
            | {"requests": round(work.requests * share)}
        )
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, rates: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """`estimate_cost` by model, and hours at each model's rates, see `Work.hours`; the last row is all."""
    rows = table.groupby("model", sort=False)[["cells", "forward", "generated", "requests"]].sum()
    rows["hours"] = [
        Work(row.forward, row.generated).hours(*rates[str(model)]) for model, row in rows.iterrows()
    ]
    rows.loc["all"] = rows.sum()
    return rows.astype({"cells": int, "requests": int}).reset_index()


def _count(text: str) -> int:
    """A whole number from 1 on, as argparse calls it."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _rate(text: str) -> float:
    """A finite number above 0, as argparse calls it."""
    found = float(text)
    if not 0 < found < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number above 0")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 when data or a model is missing."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.runs.cost", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="paper")
    parser.add_argument("--model", default="", help="only this model")
    parser.add_argument(
        "--concepts", type=_count, help="instead: 12 cells per model of so many AxBench concepts"
    )
    parser.add_argument("--seeds", type=_count, default=1, help="how many of the profile's seeds")
    parser.add_argument("--tokens-per-second", type=_rate, help="through a model of 1e9 parameters")
    parser.add_argument("--generated-per-second", type=_rate, help="written by a model of 1e9 parameters")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="measure both on this machine instead, with the models themselves",
    )
    try:
        _report(parser.parse_args(arguments))
    except (OSError, ImportError, ValueError, KeyError) as error:
        sys.stderr.write(f"no cost was counted: {error}\n")
        return 1
    return 0


def _report(chosen: argparse.Namespace) -> None:
    """Write the tables of what the options ask for."""
    from tabulate import tabulate

    from splitkit.runs.throughput import throughput

    profile = get_profile(chosen.profile, chosen.model)
    profile = profile.first_seeds(min(chosen.seeds, len(profile.seeds)))
    if chosen.measure:
        rates = {model: throughput(profile, model) for model in profile.models}
    else:
        kind = profile.device.partition(":")[0]
        if kind not in ASSUMED:
            raise ValueError(
                f"no throughput is assumed for the device {kind!r}; for {', '.join(ASSUMED)} one is"
            )
        forward, generated = ASSUMED[kind]
        stated = (chosen.tokens_per_second or forward, chosen.generated_per_second or generated)
        rates = {m: (stated[0] * 1e9 / size(m)[0], stated[1] * 1e9 / size(m)[0]) for m in profile.models}
    table = concepts_cost(profile, chosen.concepts) if chosen.concepts else estimate_cost(profile)
    parts = (
        table.groupby("part", sort=False)[["cells", "forward", "generated", "requests"]].sum().reset_index()
    )
    for shown in (parts, summary(table, rates)):
        sys.stdout.write(
            tabulate(shown.to_numpy().tolist(), list(shown), floatfmt=",.4g", intfmt=",") + "\n\n"
        )
    for model, (through, written) in rates.items():
        how = "measured here" if chosen.measure else "assumed"
        sys.stdout.write(f"{model}: {through:,.3g} tokens per second, {written:,.3g} written ({how})\n")


if __name__ == "__main__":
    sys.exit(main())
