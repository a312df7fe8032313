"""The main job: every cell, every notebook, then the verdicts. `python -m splitkit.reproduce --help`."""

import argparse
import ast
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib

from splitkit import paths
from splitkit.cells import CellError, compute_cells
from splitkit.committed import MADE
from splitkit.engines import Dask, Engine, EngineError, Loky, read_slurm
from splitkit.files import DamagedFolder, RunInProgress, check_writable, exclusive
from splitkit.paper import CLAIMS
from splitkit.profiles import PROFILES, Profile, get_profile
from splitkit.results import read_table
from splitkit.tables import make_tables

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(RuntimeError):
    """Notebooks did not run to their end, or do not take the parameters they would be given."""


def notebooks() -> list[Path]:
    """The companion's notebooks in their order: those whose names begin with a number."""
    return sorted(paths.NOTEBOOKS.glob("[0-9]*.ipynb"))


def _sources(notebook: Path) -> list[str]:
    """The sources of the notebook's code cells."""
    import nbformat

    return [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]


def parameters_of(notebook: Path) -> set[str]:
    """The names assigned in the notebook's cells tagged `parameters`."""
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    targets = [
        target
        for source in tagged
        for node in ast.parse(source).body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
    ]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def run_notebook(notebook: Path, profile: Profile, folder: Path) -> Path:
    """Run a notebook from scratch with PROFILE set; its executed copy appears in `folder` once it is whole.

    NotebookError names the notebook and the cell that failed (its number among the code cells and its first
    line), and where the unfinished copy lies.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    parameters = {"PROFILE": profile.name}
    known = parameters_of(notebook)
    # papermill itself would only warn, and every notebook would run with its default
    if unknown := sorted(set(parameters) - set(known)):
        raise NotebookError(f"{notebook.name} takes no parameter {unknown}; it has {sorted(known) or 'none'}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, suffix=".tmp") as temporary:
        unfinished = Path(temporary) / notebook.name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                papermill.execute_notebook(
                    str(notebook),
                    str(unfinished),
                    parameters=parameters,
                    kernel_name="python3",
                    language="python",
                    cwd=str(notebook.parent),
                    progress_bar=False,
                    # the kernel talks to this process only, and would warn about that
                    extra_arguments=["--IPKernelApp.log_level=40"],
                )
        except PapermillExecutionError as error:
            failed = folder / f"{notebook.stem}.failed.ipynb"
            os.replace(unfinished, failed)
            raise NotebookError(
                _failure(notebook, error.source, error.ename, error.evalue, failed)
            ) from error
        except Exception as error:
            raise NotebookError(
                f"{notebook.name} could not be run: {type(error).__name__}: {error}"
            ) from error
        finished = folder / notebook.name
        os.replace(unfinished, finished)
        (folder / f"{notebook.stem}.failed.ipynb").unlink(missing_ok=True)
    return finished


def run_notebooks(profile: Profile, folder: Path, jobs: int) -> list[Path]:
    """Run all notebooks, `jobs` side by side, in kernels of one thread; their executed copies, in order.

    They share no more than the tables that are there before and the table of verdicts, which they write to in
    turn. NotebookError tells of all that failed; the others are kept.
    """
    found, failed = notebooks(), []
    # a process that was started for something else does not know the settings of this run
    settings = {name: value for name, value in os.environ.items() if name.startswith("SPLITKIT_")}
    work = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator", batch_size=1)
    outcomes = work(joblib.delayed(_attempt)(notebook, profile, folder, settings) for notebook in found)
    for number, (notebook, (seconds, error)) in enumerate(zip(found, outcomes, strict=True), start=1):
        if error is None:
            print(f"[{number}/{len(found)}] {notebook.name}: {seconds:.0f} s", flush=True)
        else:
            failed.append(error)
    if failed:
        raise NotebookError("\n".join(failed))
    return [folder / notebook.name for notebook in found]


def _attempt(
    notebook: Path, profile: Profile, folder: Path, settings: Mapping[str, str]
) -> tuple[float, str | None]:
    """The seconds that a notebook took, and how it failed, if it did: one must not end the others."""
    os.environ.update(settings)
    start = time.perf_counter()
    try:
        run_notebook(notebook, profile, folder)
    except NotebookError as error:
        return time.perf_counter() - start, str(error)
    return time.perf_counter() - start, None


def _failure(notebook: Path, source: str, name: str, value: str, copy: Path) -> str:
    """Where a notebook failed, in words."""
    sources = _sources(notebook)
    number = sources.index(source) + 1 if source in sources else None
    first = next((line for line in source.splitlines() if line.strip()), "")
    where = f"code cell {number} of {len(sources)}" if number else "the cell of injected parameters"
    message = _COLOUR.sub("", value).strip()
    return f"{notebook.name} failed in {where} (`{first}`)\n  {name}: {message}\n  unfinished copy: {copy}"


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
    compared = sorted((paths.CACHE / "comparisons" / profile.name).glob("*.txt"))
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
    `from_committed` the committed tables are used and no cell is computed. PermissionError and RunInProgress
    come before any work; CellError, EngineError and NotebookError after it, and what was finished is kept.
    """
    folder = paths.BUILD / "notebooks" / profile.name
    check_writable(profile.results, profile.figures, paths.CACHE, folder)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["SPLITKIT_RECOMPUTE"] = "0" if from_committed else "1"
    os.environ[MADE] = ""
    with exclusive(profile.results, f"reproducing profile {profile.name}"):
        start = time.perf_counter()
        if not from_committed:
            compute_cells(profile, jobs, True, engine)
            make_tables(profile, jobs)
        executed = run_notebooks(profile, folder, jobs)
        print(f"all done in {(time.perf_counter() - start) / 60:.1f} minutes\n", flush=True)
    return summary(profile, executed)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m splitkit.reproduce", description=__doc__)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="embedded", help="what to compute")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side, one thread each")
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
        "have to see the same SPLITKIT_CACHE (see splitkit/engines.py)",
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
        engine = _engine(chosen)
        print(reproduce(get_profile(chosen.profile), chosen.jobs, chosen.from_committed, engine))
    except (
        PermissionError,
        RunInProgress,
        CellError,
        EngineError,
        DamagedFolder,
        NotebookError,
        ValueError,
    ) as error:
        print(f"\nreproduce stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nreproduce was interrupted; what is finished is kept, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
