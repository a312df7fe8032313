"""Tables: what the notebooks show and what takes time, computed before them, once for all of them.

Each table is the result of one function that the notebooks call too. Here the functions run one after the
other, each with its work spread over the same processes, so that no core waits and nothing is computed twice.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from splitkit.runs.kept_tables import FAILED, MADE, TableError
from splitkit.runs.profiles import Profile
from splitkit.storage.files import write_whole

_TRACE = "failed_table_"

Tables = Mapping[str, pd.DataFrame]
Maker = Callable[[Profile, int], Tables]


def make_tables(profile: Profile, jobs: int, folder: Path) -> list[str]:
    """Make every table of `MAKERS` in `jobs` processes; what failed, in words; the seconds go to stdout.

    With SPLITKIT_RECOMPUTE=1 the embedded profile's tables are computed, too. Those that are done are named
    in SPLITKIT_MADE: what builds on them reads them. A maker that fails ends neither the others nor the run:
    its traceback is written into `folder`, and what needs its tables fails at once with a TableError.
    """
    os.environ[MADE] = os.environ[FAILED] = ""
    for old in folder.glob(f"{_TRACE}*.txt"):
        old.unlink()
    failed = []
    for name, maker in MAKERS.items():
        start = time.perf_counter()
        try:
            made = maker(profile, jobs)
        except TableError as error:
            failed.append(f"the tables of {name!r} were not made: {error}")
            _say(failed[-1])
        except Exception as error:
            trace = folder / f"{_TRACE}{name.replace(' ', '_')}.txt"
            write_whole(trace, traceback.format_exc())
            failed.append(
                f"the tables of {name!r} failed: {type(error).__name__}: {error}\n  traceback: {trace}"
            )
            _say(failed[-1])
        else:
            os.environ[MADE] = ",".join([*filter(None, os.environ[MADE].split(",")), *made])
            _say(f"table {name}: {time.perf_counter() - start:.1f} s")
    return failed


def _say(line: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _curves(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.mean_curves import curves

    return {"curves": curves(profile, jobs, progress=False)}


def _scores(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.scores import score_base

    return score_base(profile, jobs, progress=False)


def _main_tables(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.scores import main_tables, score_base

    return main_tables(score_base(profile, jobs, progress=False)["answer_scores"], profile)


def _samples(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.samples import samples

    return samples(profile, jobs, progress=False)


def _few_pairs(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.few_pairs import few_pairs

    return {"few_pairs": few_pairs(profile, jobs, progress=False)}


def _ablation(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.ablation import ablate

    return {"ablation": ablate(profile, jobs)}


def _layers(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies import layers as studie_layers

    layers = studie_layers.layer_table(profile, jobs, progress=False)
    return {studie_layers.LAYERS: layers, studie_layers.YES_NO: studie_layers.yes_no_table(profile, jobs)}


def _geometry(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.manifold.tables import geometry

    return geometry(profile, jobs, progress=False)


def _reductions(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.loss_reduction import reductions

    return reductions(profile, jobs, progress=False)


def _fits(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.fits import fitted_tables

    return fitted_tables(profile, _curves(profile, jobs)["curves"], jobs)


def _joint_fits(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.joint_fit import TABLE, joint_fits

    return {TABLE: joint_fits(profile, _curves(profile, jobs)["curves"], jobs)}


def _fit_quality(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.fit_quality import fit_quality

    return fit_quality(profile, jobs, progress=False)


def _rivals(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.rival_curves import TABLE, rivalry

    return {TABLE: rivalry(profile, _curves(profile, jobs)["curves"], jobs)}


def _nulls(profile: Profile, jobs: int) -> Tables:
    from splitkit.studies.null_curves import TABLE, null_fits

    return {TABLE: null_fits(profile, jobs=jobs)}


MAKERS: dict[str, Maker] = {
    "curves": _curves,
    "scores": _scores,
    "main tables": _main_tables,
    "few pairs": _few_pairs,
    "layers": _layers,
    "ablation": _ablation,
    "samples": _samples,
    "geometry": _geometry,
    "reductions": _reductions,
    "fits": _fits,
    "joint fits": _joint_fits,
    "fit quality": _fit_quality,
    "rivals": _rivals,
    "null curves": _nulls,
}
"""In this order: the curves first, which others are made of."""
