"""The main job: every cell, every notebook, then the verdicts. `python -m splitkit.reproduce --help`."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from splitkit.judging.judges import JudgeError
from splitkit.runs.cell_results import CellResult
from splitkit.runs.cells import CellError, compute_cells
from splitkit.runs.engines import Dask, Engine, EngineError, Loky, cores, prepare_workers, read_slurm
from splitkit.runs.kept_tables import FAILED, MADE
from splitkit.runs.notebooks import NotebookError, run_notebooks
from splitkit.runs.preflight import check_device
from splitkit.runs.profiles import PROFILES, Profile, get_profile
from splitkit.runs.results import notes_folder, read_table
from splitkit.steering.model_files import is_shipped
from splitkit.storage import paths
from splitkit.storage.files import DamagedFolder, RunInProgress, check_writable, exclusive
from splitkit.studies.claims import CLAIMS
from splitkit.studies.tables import make_tables


class ReproduceError(RuntimeError):
    """A part of the run failed; the rest was made, and all that is finished is kept."""


def _said(path: Path) -> str:
    """A path as a reader looks for it: from the repository's root where it lies there."""
    return path.relative_to(paths.ROOT).as_posix() if path.is_relative_to(paths.ROOT) else str(path)


def summary(profile: Profile, executed: Sequence[Path]) -> str:
    """The verdicts as a table, how the new tables compare with the committed ones, and where to look."""
    from tabulate import tabulate

    lines = []
    try:
        table = read_table("verdicts", profile)
    except FileNotFoundError:
        lines.append("No notebook wrote a verdict.")
    else:
        shown = table[["claim", "model", "task", "verdict", "ours", "paper"]]
        lines += [tabulate(shown.to_numpy().tolist(), list(shown.columns), floatfmt=".3g"), ""]
        claims = [CLAIMS[claim] for claim in dict.fromkeys(table["claim"])]
        lines += [f"{claim.id}: {claim.text} ({claim.where})" for claim in claims]
    compared = sorted(notes_folder(profile).glob("*.txt"))
    lines += ["", *(path.read_text(encoding="utf-8").strip() for path in compared), ""]
    lines += [
        f"figures    {_said(profile.figures)}",
        f"tables     {_said(profile.results)}",
        f"notebooks  {_said(executed[0].parent) if executed else 'none'}",
    ]
    return "\n".join(lines)


def reproduce(
    profile: Profile, jobs: int = 2, from_committed: bool = False, engine: Engine | None = None
) -> str:
    """Compute all cells and tables, run all notebooks, and return the summary; `jobs` processes side by side.

    The cells are computed by `engine` (None: `jobs` processes of this machine), the rest here. With
    `from_committed` the committed tables are used and no cell is computed. PermissionError, RunInProgress and
    what `preflight` raises come before any work; CellError and EngineError after it, and what was finished
    is kept. A table or notebook that fails ends none of the others: the summary of those is printed, then
    ReproduceError tells what failed and why.
    """
    folder = paths.BUILD / "notebooks" / profile.folder
    check_writable(profile.results, profile.figures, paths.CACHE, folder)
    prepare_workers()
    os.environ["SPLITKIT_RECOMPUTE"] = "0" if from_committed else "1"
    os.environ[MADE] = os.environ[FAILED] = ""
    failed: list[str] = []
    executed: list[Path] = []
    with exclusive(profile.results, f"reproducing profile {profile.name}"):
        start = time.perf_counter()
        for note in notes_folder(profile).glob("*.txt"):
            note.unlink()
        if not from_committed:
            # tables are made here, wherever the cells are
            check_device(profile)
            print(judging(compute_cells(profile, jobs, True, engine)), end="", flush=True)
            failed += make_tables(profile, jobs, paths.BUILD / "failed" / profile.folder)
        try:
            executed = run_notebooks(profile, folder, jobs, lambda line: print(line, flush=True))
        except NotebookError as error:
            failed.append(str(error))
        finally:
            for name in (MADE, FAILED):
                os.environ.pop(name, None)
        minutes = (time.perf_counter() - start) / 60
    if failed:
        print(f"{summary(profile, executed)}\n", flush=True)
        raise ReproduceError("\n".join([f"not all was made, after {minutes:.1f} minutes:", *failed, _KEPT]))
    print(f"all done in {minutes:.1f} minutes\n", flush=True)
    return summary(profile, executed)


_KEPT = """
Cells and tables that were made are kept. Once the cause is mended, the same command goes on from there:
it reads finished cells from the cache and computes only what is missing."""


def judging(cells: Sequence[CellResult]) -> str:
    """A line on who judged the answers of some cells, with how many requests; empty where nobody had to."""
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
        type=int,
        default=1,
        help="how many of the profile's seeds to compute; the rows of the others stay as committed",
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
    os.environ["SPLITKIT_SEEDS"] = str(chosen.seeds)
    try:
        paths.require_clone("The notebooks and their results")
        profile = get_profile(chosen.profile, chosen.model)
        if chosen.from_committed and not profile.committed:
            raise ValueError(f"profile {profile.name} has no committed results to redraw from; embedded has")
        if chosen.jobs is not None and chosen.jobs < 1:
            raise ValueError(f"--jobs is a number of processes, 1 or more, not {chosen.jobs}")
        if chosen.jobs is None:
            chosen.jobs = cores() if all(map(is_shipped, profile.models)) else 1
        print(reproduce(profile, chosen.jobs, chosen.from_committed, _engine(chosen)))
    except (
        OSError,
        ImportError,
        MemoryError,
        RunInProgress,
        CellError,
        EngineError,
        JudgeError,
        DamagedFolder,
        ReproduceError,
        ValueError,
        KeyError,
    ) as error:
        said = error.args[0] if isinstance(error, KeyError) else error
        print(f"\nreproduce stopped: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nreproduce was interrupted; what is finished is kept, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
