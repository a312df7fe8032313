"""The main job as `make reproduce` starts it: it computes a slice and keeps the committed rows of all else.

Other tests run the smoke profile, which has no committed rows beside its own. Here the embedded profile runs
in a process of its own, cut down in all its processes alike (see `smalldefault`), beside committed tables
that were cut down to the same cells.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from splitkit.reproduce import SLICE, slice_of
from splitkit.runs.notebooks import notebooks
from splitkit.runs.profiles import PROFILES
from splitkit.storage import paths
from splitkit.storage.digests import data_digest
from tests import smalldefault
from tests.test_reproduce import toy

COMMITTED = paths.DATA / "results"
PROFILE = smalldefault.small(PROFILES["embedded"])
OF_ALL = {"search", "shapes", "family_fits"}
"""Tables with seeds that no slice writes rows of: the search's, and two of all curves that there are."""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, na_values=[""], lineterminator="\n")


def outside(table: pd.DataFrame) -> pd.Series:
    """Which rows are of a seed or task that the slice has not. A control's seed numbers draws of one run."""
    cells = slice_of(PROFILE, SLICE).cells()
    seeds, tasks = {cell.seed for cell in cells}, {cell.task for cell in cells}
    within = table["seed"].isin(seeds)
    if "objective" in table:
        within |= table["objective"].isin(["random", "natural"])
    return ~(within & table["task"].isin(tasks))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Committed results, cut down, in `results` and once more in `before`; a sitecustomize.py in `site`."""
    made = tmp_path_factory.mktemp("default")
    for name in ("before", "site"):
        (made / name).mkdir()
    for path in COMMITTED.glob("*.csv"):
        table = smalldefault.cut(path.stem, read(path), PROFILE)
        assert len(table), f"nothing is left of {path.stem}"
        table.to_csv(made / "before" / path.name, index=False, lineterminator="\n")
    shutil.copytree(made / "before", made / "results")
    # the record of released models, which a notebook reads
    shutil.copytree(COMMITTED / "small", made / "results" / "small")
    site = "from tests.smalldefault import cut_all_down\n\ncut_all_down()\n"
    (made / "site" / "sitecustomize.py").write_text(site, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Runs the main job of the embedded profile with its defaults, in the folders of the test."""

    def start(**more: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPLITKIT_")}
        for name in ("results", "figures", "cache"):
            environment[f"SPLITKIT_{name.upper()}"] = str(folder / name)
        found = [str(folder / "site"), str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(found), smalldefault.FOLDER: str(folder), **more}
        return subprocess.run(
            [sys.executable, "-m", "splitkit.reproduce", "--profile", "embedded"],
            env=environment,
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def test_the_default_run_comes_to_its_end(folder: Path, run: Run) -> None:
    checkout = [COMMITTED, paths.ROOT / "figures"]
    digests = [data_digest(path) for path in checkout]
    ended = run()
    assert ended.returncode == 0, ended.stdout + ended.stderr[-4000:]
    assert [data_digest(path) for path in checkout] == digests, "the run wrote into the checkout"

    executed = [path.name for path in sorted((folder / "build" / "notebooks" / "embedded").glob("*.ipynb"))]
    assert executed == [path.name for path in notebooks()]
    assert any((folder / "figures").iterdir())
    shown = [line.split()[:2] for line in ended.stdout.partition("all done in")[2].splitlines()]
    verdicts = read(folder / "results" / "verdicts.csv")
    assert len(verdicts)
    assert [row for row in verdicts[["claim", "model"]].to_numpy().tolist() if row not in shown] == []

    # no table is lost or empty, and no row of what the slice has not is another one
    names = {path.stem for path in (folder / "before").glob("*.csv")}
    tables = {
        name: [read(folder / there / f"{name}.csv") for there in ("before", "results")] for name in names
    }
    assert [name for name, (_, now) in tables.items() if now.empty] == []
    merged = {name for name, (was, _) in tables.items() if {"seed", "task"} <= set(was)} - OF_ALL
    assert {"curves", "scores", "answer_scores", "fits", "fit_intervals"} <= merged
    for name in merged:
        was, now = (table[outside(table)].reset_index(drop=True) for table in tables[name])
        pd.testing.assert_frame_equal(was, now, check_dtype=False, rtol=1e-9, obj=name)
    for name in ("curves", "scores", "fits"):
        was, now = tables[name]
        assert list(now["seed"].unique()) == list(PROFILE.seeds)
        assert not was[~outside(was)].equals(now[~outside(now)]), f"nothing in {name} was computed"


def test_a_broken_table_is_told_and_ends_nothing_else(folder: Path, run: Run) -> None:
    toy(folder / "notebooks", "00_toy.ipynb", "print(PROFILE)")
    ended = run(**{smalldefault.BROKEN: "1"})
    assert ended.returncode == 1
    trace = folder / "cache" / "failed" / "embedded" / "rivals.txt"
    assert "table rivals failed: ZeroDivisionError: broken for a test" in ended.stderr
    assert str(trace) in ended.stderr
    assert "in _fail" in trace.read_text(encoding="utf-8")
    for said in ("table scores, ", "table table3_main, ", "[1/1] 00_toy.ipynb: "):
        assert said in ended.stdout
