"""The main job: a slice of the record computed anew, all notebooks, then the verdicts; or the whole record.

A slice is one model, one task of each family, every form and objective, one seed; everything else is read
from the committed tables. With --seeds, and for other profiles, everything is computed. With --only, the
cells that it names and their rows in the tables, no notebooks: so hours come in pieces.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from splitkit.judging.judges import JudgeError
from splitkit.runs.cell_results import CellResult
from splitkit.runs.cells import CellError, compute_cells
from splitkit.runs.engines import Dask, Engine, EngineError, Loky, cores, prepare_workers, read_slurm
from splitkit.runs.kept_tables import lacking, make_tables
from splitkit.runs.notebooks import NotebookError, run_notebooks
from splitkit.runs.preflight import check_device
from splitkit.runs.profiles import PROFILES, Cell, Profile, get_profile
from splitkit.runs.results import notes, notes_folder, read_table
from splitkit.steering.model_files import is_shipped
from splitkit.storage import paths
from splitkit.storage.files import DamagedFolder, RunInProgress, check_writable, exclusive
from splitkit.studies import studies
from splitkit.studies.claims import CLAIMS
from splitkit.studies.decisions.rules import RULES
from splitkit.studies.frames import CELL
from splitkit.tasks import first_tasks, task_family

SLICE = "tiny-qwen2:axbench/ocean:0"
"""Model, AxBench concept and seed that `make reproduce` computes anew unless told otherwise."""


class ReproduceError(RuntimeError):
    """A part of the run failed; the rest was made, and all that is finished is kept."""


_OURS = (RunInProgress, CellError, EngineError, JudgeError, DamagedFolder, ReproduceError)


def slice_of(profile: Profile, text: str) -> Profile:
    """The part of a profile that MODEL:CONCEPT:SEED names; what is left out at the end is as in `SLICE`.

    One task of each family: the concept, and of the other families the first. ValueError for a name or number
    that the profile has not.
    """
    said = text.split(":")
    model, concept, seed = [*said, *SLICE.split(":")[len(said) :]][:3]
    concepts = [task for task in profile.tasks if task_family(task) == "axbench"]
    for given, there in zip((model, concept, seed), (profile.models, concepts, profile.seeds), strict=True):
        if given not in map(str, there):
            raise ValueError(
                f"--slice is MODEL:CONCEPT:SEED, and {given!r} is none of {', '.join(map(str, there))}"
            )
    tasks = {**first_tasks(profile.tasks), "axbench": concept}.values()
    return profile.of(lambda cell: (cell.model, cell.seed) == (model, int(seed)) and cell.task in tasks)


def part_of(profile: Profile, wanted: Sequence[str]) -> Profile:
    """The part of a profile that texts such as "model=tiny-qwen2", "seed=0,1" name; a task or its family.

    ValueError for a text of another kind, and for a value that no cell of the profile has.
    """
    chosen: dict[str, set[str]] = {}
    for text in wanted:
        name, _, values = text.partition("=")
        if name not in CELL or not values:
            raise ValueError(f"--only takes NAME=VALUE[,VALUE], NAME one of {', '.join(CELL)}, not {text!r}")
        there = {str(getattr(cell, name)): None for cell in profile.cells()}
        families = {task_family(value) for value in there} if name == "task" else set()
        chosen[name] = set(values.split(","))
        if unknown := sorted(chosen[name] - families - set(there)):
            raise ValueError(
                f"profile {profile.name} has no {name} {unknown[0]!r}; it has {', '.join(there)}"
            )

    def named(cell: Cell) -> bool:
        return all(
            str(getattr(cell, name)) in values or (name == "task" and task_family(cell.task) in values)
            for name, values in chosen.items()
        )

    part = profile.of(named)
    if not part.part:
        raise ValueError(f"profile {profile.name} has no cell of {' '.join(wanted)}")
    return part


def make_part(
    profile: Profile, names: Sequence[str], jobs: int = 2, engine: Engine | None = None
) -> list[str]:
    """Compute the cells of a part of a profile and make tables, without notebooks; the comparison, in lines.

    Made are the tables of `names`, or for none those with rows per cell, and what those of a part need of its
    rows. All others are read where they are needed and there. A whole profile computes no cells but those
    that its tables ask for. ValueError for a name that no study has, and for a pooled table of a part of the
    cells.
    """
    every = list(studies(profile))
    known = {name: study for study in every for name in study.names}
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"no table {unknown[0]!r}; there are {', '.join(known)}")
    wanted = [s for s in every if (set(names) & set(s.names) if names else s.of == "cells")]
    made = {name for study in wanted for name in study.names}
    if short := [said for study in wanted if (said := lacking(study, profile, made))]:
        raise ValueError("\n".join([*short, "Compute the others first, or name other tables."]))
    check_writable(profile.results, paths.CACHE)
    prepare_workers()
    began = time.time()
    with exclusive(profile.results, f"computing a part of profile {profile.name}"):
        for note in notes_folder(profile).glob("*.json"):
            note.unlink()
        check_device(profile)
        cells = compute_cells(profile, jobs, True, engine) if profile.part else []
        computed = sum(any(f.stat().st_mtime >= began for f in one.folders.values()) for one in cells)
        print(judging(cells), end="", flush=True)
        own = bool(profile.part) and all(study.of == "cells" for study in wanted)
        read = [name for name, s in known.items() if name not in made and not (own and s.of == "cells")]
        if failed := make_tables(wanted, profile, jobs, read):
            raise ReproduceError("\n".join(["not all was made:", *failed, _KEPT]))
    return comparison(profile, computed)


def summary(profile: Profile, executed: Sequence[Path], computed: int = 0) -> str:
    """The verdicts as a table, how the new tables compare with those there were, and where to look."""
    from tabulate import tabulate

    lines = []
    try:
        table = read_table("verdicts", profile)
    except FileNotFoundError:
        lines.append("No notebook wrote a verdict.")
    else:
        # what stands beside a claim is no verdict on it
        table = table[table["part"] == "claim"] if profile.tier else table
        shown = table[["claim", "model", "task", "verdict", "ours", "paper"]]
        lines += [tabulate(shown.to_numpy().tolist(), list(shown.columns), floatfmt=".3g"), ""]
        known = RULES if profile.tier else CLAIMS
        claims = dict.fromkeys(table["claim"])
        lines += [f"{claim}: {known[claim].text} ({known[claim].where})" for claim in claims]
    lines += ["", *comparison(profile, computed), ""]
    places = {"figures": profile.figures, "tables": profile.results}
    places |= {"notebooks": executed[0].parent} if executed else {}
    for name, path in places.items():
        # as a reader looks for it: from the repository's root where it lies there
        inside = path.is_relative_to(paths.ROOT)
        lines.append(f"{name:10} {path.relative_to(paths.ROOT).as_posix() if inside else path}")
    return "\n".join(lines)


def comparison(profile: Profile, computed: int) -> list[str]:
    """Lines on a run: cells and tables computed anew, beside those that were there, and tables only read."""
    written = notes(profile)
    cells = f"{computed} of {len(profile.whole.cells())} cells"
    lines = [f"computed anew: {cells}, {len(written)} tables, {sum(one.rows for one in written):,} rows"]
    lines += [str(one) for one in written if one.status != "kept"]
    if compared := [one for one in written if one.status != "new"]:
        rows, moved = sum(one.rows for one in compared), sum(one.moved for one in compared)
        largest = max(one.max_deviation for one in compared)
        lines.append(
            f"compared: {rows - moved:,} of {rows:,} rows agree, largest deviation {largest:.2g}; "
            f"moved: {', '.join(one.name for one in compared if one.moved) or 'none'}"
        )
    if read := {path.stem for path in profile.results.glob("*.csv")} - {one.name for one in written}:
        lines.append(f"only read: {', '.join(sorted(read))}")
    if profile.part:
        lines.append(f"rows of cells outside this run's {len(profile.part)} are as they were")
    return lines


def reproduce(
    profile: Profile, jobs: int = 2, from_committed: bool = False, engine: Engine | None = None
) -> str:
    """Compute all cells and tables, run all notebooks, and return the summary; `jobs` processes side by side.

    The cells are computed by `engine` (None: `jobs` processes of this machine), the rest here; with
    `from_committed` none is, and the committed tables are used. PermissionError, RunInProgress and what
    `preflight` raises come before any work. A table or notebook that fails ends none of the others: their
    summary is printed, then ReproduceError tells what failed and why.
    """
    folder = paths.BUILD / "notebooks" / profile.folder
    check_writable(profile.results, profile.figures, paths.CACHE, folder)
    prepare_workers()
    failed: list[str] = []
    executed: list[Path] = []
    computed, began = 0, time.time()
    with exclusive(profile.results, f"reproducing profile {profile.name}"):
        start = time.perf_counter()
        for note in notes_folder(profile).glob("*.json"):
            note.unlink()
        if not from_committed:
            # tables are made here, wherever the cells are
            check_device(profile)
            cells = compute_cells(profile, jobs, True, engine)
            computed = sum(any(f.stat().st_mtime >= began for f in one.folders.values()) for one in cells)
            print(judging(cells), end="", flush=True)
            wanted = list(studies(profile))
            made = {name for study in wanted for name in study.names}
            short = {study: said for study in wanted if (said := lacking(study, profile, made))}
            print("".join(f"not made: {said}\n" for said in short.values()), end="", flush=True)
            failed += make_tables([study for study in wanted if study not in short], profile, jobs)
        try:
            # the notebooks write the verdicts of the embedded profile's rules
            if not profile.tier:
                executed = run_notebooks(profile, folder, jobs, lambda line: print(line, flush=True))
        except NotebookError as error:
            failed.append(str(error))
        minutes = (time.perf_counter() - start) / 60
    if failed:
        print(f"{summary(profile, executed, computed)}\n", flush=True)
        raise ReproduceError("\n".join([f"not all was made, after {minutes:.1f} minutes:", *failed, _KEPT]))
    print(f"all done in {minutes:.1f} minutes\n", flush=True)
    return summary(profile, executed, computed)


_KEPT = """
Cells and tables that were made are kept. Once the cause is mended, the same command goes on from there:
it reads finished cells from the cache and computes only what is missing."""


def judging(cells: Sequence[CellResult]) -> str:
    """A line that names the judge of some cells' answers and counts requests; empty where there was none."""
    found = [judge for one in cells if "answers" in one.folders and (judge := one.judge())]
    if not found:
        return ""
    sent, answers, lost = (sum(one[name] for one in found) for name in ("requests", "answers", "unscored"))
    who = ", ".join(sorted({f"{one['model']} at {one['host']}" for one in found}))
    return f"judge {who}: {sent:,} requests; {lost:,} of {answers:,} answers to its cells are unscored\n"


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m splitkit.reproduce", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="embedded", help="what to compute")
    parser.add_argument(
        "--model",
        default="",
        help="only this model: one of the profile's, or your own (a hub id or a local folder)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        help="processes side by side, one thread each; as many as there are cores, 8 at most, or 1 for a "
        "profile of models that are not shipped: each process holds its own",
    )
    parser.add_argument(
        "--seeds",
        type=lambda said: said if said == "all" else int(said),
        metavar="N",
        help="all cells of the first N seeds, or of all; the rows of the others stay "
        "as they are. Without it the embedded profile computes a slice, another profile its first seed",
    )
    parser.add_argument(
        "--slice",
        metavar="MODEL:CONCEPT:SEED",
        help="what to compute anew of the embedded profile: psychopathy, powerseeking and this concept of "
        f"AxBench, in every form and objective; {SLICE} unless given",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME=VALUE",
        help="only the cells with these values of model, task (or its family), form, objective or seed, "
        "as in task=psychopathy seed=0,1; their rows are merged into the tables, and no notebook runs",
    )
    parser.add_argument(
        "--tables",
        type=lambda said: said.split(","),
        metavar="NAME,NAME",
        help="the tables to make, no notebooks; of --only those with rows per cell unless named here. A "
        "table that pools cells is made of all rows there are, and not where cells have none: without "
        "--only, no cells are computed for it",
    )
    parser.add_argument(
        "--from-committed", action="store_true", help="redraw from the committed results, train nothing"
    )
    parser.add_argument(
        "--engine",
        choices=("loky", "dask"),
        default="loky",
        help="where cells are computed: processes of this machine, or the workers of a dask cluster, which "
        "have to see the same SPLITKIT_CACHE (see splitkit/runs/engines.py)",
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of dask, as in tcp://node17:8786")
    parser.add_argument(
        "--slurm",
        metavar="FILE",
        type=Path,
        help='or a JSON file for dask workers that SLURM starts: {"jobs": 8, "memory": "32GB", ...}',
    )
    parser.add_argument(
        "--gpu", action="store_true", help='of dask: only workers with --resources "GPU=1", a cell at a time'
    )
    return parser


def _engine(chosen: argparse.Namespace) -> Engine:
    """The engine that the options name; ValueError for options that do not go together."""
    if chosen.engine == "loky":
        if chosen.scheduler or chosen.slurm or chosen.gpu:
            raise ValueError("--scheduler, --slurm and --gpu are for --engine dask")
        return Loky(chosen.jobs)
    if bool(chosen.scheduler) == bool(chosen.slurm):
        raise ValueError("--engine dask needs --scheduler ADDRESS or --slurm FILE, one of them")
    return Dask(chosen.scheduler, chosen.gpu) if chosen.scheduler else read_slurm(chosen.slurm, chosen.gpu)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 when anything failed."""
    chosen = _options().parse_args(arguments)
    try:
        paths.require_clone("The notebooks and their results")
        profile = get_profile(chosen.profile, chosen.model)
        if chosen.slice and (chosen.seeds is not None or not profile.committed):
            raise ValueError("--slice is of the whole embedded profile, and goes without --seeds")
        if chosen.from_committed and not profile.committed:
            raise ValueError(f"profile {profile.name} has no committed results to redraw from; embedded has")
        if chosen.jobs is not None and chosen.jobs < 1:
            raise ValueError(f"--jobs is a number of processes, 1 or more, not {chosen.jobs}")
        if chosen.jobs is None:
            chosen.jobs = cores() if all(map(is_shipped, profile.models)) else 1
        if chosen.only or chosen.tables:
            if chosen.slice or chosen.seeds is not None or chosen.from_committed:
                raise ValueError("--only and --tables go without --slice, --seeds and --from-committed")
            part = part_of(profile, chosen.only) if chosen.only else profile
            print("\n".join(make_part(part, chosen.tables or [], chosen.jobs, _engine(chosen))))
            return 0
        if chosen.seeds is None and profile.committed and not chosen.from_committed:
            profile = slice_of(profile, chosen.slice or SLICE)
        else:
            every = chosen.from_committed or chosen.seeds == "all"
            seeds = 1 if chosen.seeds is None else chosen.seeds
            profile = profile.first_seeds(len(profile.seeds) if every else seeds)
        print(reproduce(profile, chosen.jobs, chosen.from_committed, _engine(chosen)))
    except (*_OURS, OSError, ImportError, MemoryError, ValueError, KeyError) as error:
        said = error.args[0] if isinstance(error, KeyError) else error
        print(f"\nreproduce stopped: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nreproduce was interrupted; what is finished is kept, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
