"""The checks before the first cell is trained: models, data, device, judge and its budget."""

import logging
import os
import warnings
from collections.abc import Iterable

import psutil

from splitkit.judging.judges import JudgeError
from splitkit.judging.rubrics import OF_FAMILY
from splitkit.runs import judged_answers
from splitkit.runs.profiles import Cell, Profile
from splitkit.steering.formats.released import RELEASED
from splitkit.steering.model_files import is_shipped
from splitkit.steering.pairs import PAPER
from splitkit.tasks import task_family

BUDGET = "SPLITKIT_JUDGE_BUDGET"
"""The variable with the most requests that a run may need of its judge."""


def fetch_models(profile: Profile) -> None:
    """Have every model's files on this machine (see `model_files.fetch`), and every layer in its range.

    ValueError for a layer that a model has not.
    """
    from splitkit.steering import model_files

    for model in profile.models:
        if is_shipped(model):
            continue
        model_files.fetch(model)
        layer, depth = profile.layer(model), model_files.depth(model)
        if not 0 <= layer < depth:
            raise ValueError(
                f"profile {profile.name} steers layer {layer} of {model}, which has layers 0 to {depth - 1}"
            )


def check(profile: Profile, missing: Iterable[tuple[Cell, str]], here: bool = True) -> None:
    """Look for the data, the device and the judge that missing stages of cells, as (cell, stage), need.

    Cells are computed on this machine if `here`. ValueError for a device that is not there, JudgeError when
    the judge cannot be asked or would be asked more than SPLITKIT_JUDGE_BUDGET says; and what
    `datasets.files.fetch` raises; MemoryError where real models do not fit.
    """
    work = list(missing)
    if here and work:
        check_device(profile)
        _check_memory(profile, work)
    for task in dict.fromkeys(cell.task for cell, _ in work if cell.task.startswith(PAPER)):
        _check_data(task)
    judged = [cell for cell, stage in work if stage == "answers" and profile.judged(cell.task)]
    if judged:
        _check_budget(profile, judged)
        judged_answers.check_judge()


def check_device(profile: Profile) -> None:
    """ValueError when models that are not shipped would run on a device that this machine has not."""
    from splitkit.steering.model_state import placement

    if profile.device != "cpu" and not all(map(is_shipped, profile.models)):
        placement.check_device(profile.device, None)


def _check_memory(profile: Profile, work: list[tuple[Cell, str]]) -> None:
    """MemoryError where a released model and the reader of its answers are too large for this machine."""
    from splitkit.runs import text_measures
    from splitkit.steering.memory import GIB

    if profile.device != "cpu":
        return
    needs: dict[str, set[str]] = {}
    for cell, stage in work:
        if cell.model in RELEASED:
            reads = stage == "answers" and not profile.judge and text_measures.is_open(cell.task)
            readers = {text_measures.reader_of(cell.model)} if reads else set()
            needs.setdefault(cell.model, {cell.model}).update(readers & set(RELEASED))
    free = psutil.virtual_memory().available / GIB
    for model, names in needs.items():
        # float32, as these are loaded
        needed = sum(4 * RELEASED[name].parameters for name in names) / GIB
        if needed > free:
            raise MemoryError(
                f"the weights of {' and '.join(sorted(names))}, which a cell of {model} holds, take "
                f"{needed:.1f} GiB in each process; {free:.1f} GiB are free. Close what holds memory, or "
                "choose a smaller model with --only model=..."
            )


def _check_data(task: str) -> None:
    """The task's files are there and whole; what is left out of them is told."""
    from splitkit.datasets.files import fetch
    from splitkit.datasets.tasks import data_files, load_dataset_pairs

    for name in data_files(task):
        fetch(name)
    if task_family(task) != "axbench":  # AxBench's rows without a concept are no task's
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            report = load_dataset_pairs(task, "train")[1]
        if len(report.dropped):
            logging.getLogger(__name__).warning("%s", report)


def judge_requests(cell: Cell, profile: Profile) -> int:
    """Requests for the answers of a cell: one per answer and rubric, though equal answers are sent once."""
    from splitkit.runs.world_answers import STRENGTHS

    if not profile.judged(cell.task):
        return 0
    tested = profile.size("test", cell.task) * (2 if cell.objective == "diffmean" else 1)
    answers = len(profile.tried or STRENGTHS) * profile.size("choose", cell.task) + tested
    return answers * len(OF_FAMILY[task_family(cell.task)])


def _check_budget(profile: Profile, judged: list[Cell]) -> None:
    needed = sum(judge_requests(cell, profile) for cell in judged)
    allowed = os.environ.get(BUDGET) or str(needed)
    if not allowed.isdigit():
        raise ValueError(f"{BUDGET} is a number of requests, not {allowed!r}")
    if needed > int(allowed):
        raise JudgeError(
            f"the {len(judged)} cells to be scored need up to {needed:,} requests, {BUDGET} allows {allowed}"
            ": raise it, or take fewer cells (--model, --seeds). Nothing was sent."
        )
