"""Notebooks: found, given their parameters, and run through papermill, several side by side."""

import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import joblib

from splitkit.runs.profiles import PROFILES, Profile
from splitkit.steering.model_files import is_shipped
from splitkit.storage import paths

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(RuntimeError):
    """Notebooks did not run to their end, or do not take the parameters they would be given."""


def notebooks() -> list[Path]:
    """The companion's notebooks in their order: those whose names begin with a number."""
    paths.require_clone("The notebooks")
    return sorted(paths.NOTEBOOKS.glob("[0-9]*.ipynb"))


def run_notebook(notebook: Path, profile: Profile, folder: Path) -> Path:
    """Run a notebook from scratch with PROFILE set, and MODEL where the profile has one only.

    A notebook on released models keeps its own PROFILE in a run that has none: it reads their record. Its
    executed copy appears in `folder` once it is whole. NotebookError names the notebook, the cell that failed
    (its number among the code cells and its first line), and where the unfinished copy lies.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    parameters = {"PROFILE": profile.name} | ({"MODEL": profile.only} if profile.only else {})
    taken = papermill.inspect_notebook(str(notebook))
    known, own = sorted(taken), taken.get("PROFILE", {}).get("default", "").strip("\"'")
    if not _only_shipped(PROFILES.get(own, profile)) and _only_shipped(profile):
        parameters = {}
    # papermill itself would only warn, and every notebook would run with its default
    if unknown := sorted(set(parameters) - set(known)):
        raise NotebookError(f"{notebook.name} takes no parameter {unknown}; it has {known or 'none'}")
    folder.mkdir(parents=True, exist_ok=True)
    finished, failed = folder / notebook.name, folder / f"{notebook.stem}.failed.ipynb"
    with tempfile.TemporaryDirectory(dir=folder, suffix=".tmp") as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        unfinished = Path(temporary) / notebook.name
        try:
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
            os.replace(unfinished, failed)
            # the cell of injected parameters counts too
            where = f"code cell {error.exec_count - 1} (`{next(filter(None, error.source.splitlines()))}`)"
            message = _COLOUR.sub("", error.evalue).strip()
            raise NotebookError(
                f"{notebook.name} failed in {where}\n  {error.ename}: {message}\n  unfinished copy: {failed}"
            ) from error
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise NotebookError(f"{notebook.name} could not be run: {said}") from error
        os.replace(unfinished, finished)
    failed.unlink(missing_ok=True)
    return finished


def _only_shipped(profile: Profile) -> bool:
    return all(map(is_shipped, profile.models))


def run_notebooks(profile: Profile, folder: Path, jobs: int, report: Callable[[str], None]) -> list[Path]:
    """Run all notebooks, `jobs` side by side, in kernels of one thread; their executed copies, in order.

    `report` is told of each one that has ended well. They share only the tables that are there before, and
    the table of verdicts, which they write to in turn. NotebookError tells of all that failed; the others are
    kept.
    """
    found, failed = notebooks(), []
    work = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator", batch_size=1)
    outcomes = work(joblib.delayed(_attempt)(notebook, profile, folder) for notebook in found)
    for number, (notebook, (seconds, error)) in enumerate(zip(found, outcomes, strict=True), start=1):
        if error is None:
            report(f"[{number}/{len(found)}] {notebook.name}: {seconds:.0f} s")
        else:
            failed.append(error)
    if failed:
        raise NotebookError("\n".join(failed))
    return [folder / notebook.name for notebook in found]


def _attempt(notebook: Path, profile: Profile, folder: Path) -> tuple[float, str | None]:
    """The seconds that a notebook took, and how it failed, if it did: one must not end the others."""
    start, said = time.perf_counter(), None
    try:
        run_notebook(notebook, profile, folder)
    except NotebookError as error:
        said = str(error)
    return time.perf_counter() - start, said
