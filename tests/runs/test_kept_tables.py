"""Kept tables: read where they are right, made once in the main job, merged where a run has some cells."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pandas.api.types import is_numeric_dtype

from splitkit import studies
from splitkit.runs import kept_tables, results
from splitkit.runs.kept_tables import TableError, kept, lacking, make_tables
from splitkit.runs.profiles import Profile, get_profile
from splitkit.runs.results import FOUND, notes, read_table
from splitkit.storage import paths
from splitkit.storage.files import exclusive

COMMITTED = sorted((paths.DATA / "results").glob("*.csv"))
EMBEDDED = get_profile("embedded")
SMOKE = get_profile("smoke")
STUDIES = list(studies.studies())


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("SPLITKIT_RESULTS", raising=False)


@pytest.fixture
def in_a_run() -> Iterator[None]:
    """As in the main job: every table is computed."""
    token = kept_tables._MADE.set(set())
    yield
    kept_tables._MADE.reset(token)


def asked(*names: str, tables: Callable[[], dict[str, pd.DataFrame]], **how: object) -> kept_tables.Study:
    return kept(*names, **{"tolerance": 0.01, **how})(lambda profile, jobs: tables())


def test_computed_only_when_missing_or_out_of_date_or_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compute() -> dict[str, pd.DataFrame]:
        calls.append(1)
        return {name: pd.DataFrame({"x": [1.0 + 0.001 * len(calls)]}) for name in ("a", "b")}

    study = asked("a", "b", tables=compute)

    def ask(profile: Profile) -> float:
        return float(study(profile)["b"]["x"].iloc[0])

    assert (ask(EMBEDDED), ask(EMBEDDED), len(calls)) == (1.001, 1.001, 1)
    (tmp_path / "results" / "a.csv").unlink()
    # b agrees with what is committed, and stays
    assert (ask(EMBEDDED), len(calls)) == (1.001, 2)
    make_tables([study], EMBEDDED, 1)
    assert (ask(EMBEDDED), len(calls)) == (1.001, 3)
    # of another profile they are read, as long as code, models and data are the same
    assert (ask(SMOKE), ask(SMOKE), len(calls)) == (1.004, 1.004, 4)
    monkeypatch.setattr(results, "code_digest", lambda places: "changed")
    assert (ask(SMOKE), ask(SMOKE), len(calls)) == (1.004, 1.004, 5)
    with pytest.raises(KeyError, match="'c'"):
        asked("c", tables=compute)(EMBEDDED)


def test_a_run_with_fewer_seeds_keeps_the_rows_of_the_others(tmp_path: Path, in_a_run: None) -> None:
    # in an order of its own, and with two rows that only a float tells apart
    rows = [("b", 1, 0.5), ("b", 0, 0.5), ("b", 0, 1.5), ("a", 0, 0.5), ("a", 2, 0.5)]
    record = pd.DataFrame(rows, columns=["cell", "seed", "m"]).assign(y=range(5)).astype({"y": float})
    record["note"] = ["", "at a bound", "", "", ""]

    def ask(table: pd.DataFrame, profile: Profile) -> pd.DataFrame:
        kept_tables._MADE.set(set())
        return asked("t", tables=lambda: {"t": table})(profile)["t"]

    written_once = record.assign(note=record["note"].replace("", None))
    pd.testing.assert_frame_equal(ask(record, EMBEDDED), written_once)
    written = (tmp_path / "results" / "t.csv").stat().st_mtime_ns
    first, run = record[record["seed"] == 0].sort_values("cell"), EMBEDDED.first_seeds(1)
    pd.testing.assert_frame_equal(ask(first, run), written_once)
    # tables made from merged ones hold the other seeds' rows already
    pd.testing.assert_frame_equal(ask(record.iloc[::-1].sort_values("m"), run), written_once)
    assert (tmp_path / "results" / "t.csv").stat().st_mtime_ns == written
    moved = ask(first.assign(y=first["y"] + 10), run)
    assert moved["y"].tolist() == [0.0, 11.0, 12.0, 13.0, 4.0]
    # a result in words that has moved leaves its row where it was
    noted = ask(first.assign(note="undefined", y=first["y"] + 20), run)
    assert noted["y"].tolist() == [0.0, 21.0, 22.0, 23.0, 4.0]
    assert noted["note"].fillna("").tolist() == ["", *["undefined"] * 3, ""]
    # rows that agree stay as they are beside those that moved
    some = first.assign(y=[11.005, 12.0, 99.0])
    assert ask(record.assign(y=range(10, 15)), EMBEDDED)["y"].tolist() == [10.0, 11.0, 12.0, 13.0, 14.0]
    some = record[record["seed"] == 0].assign(y=[11.005, 12.0, 99.0], note=["at a bound", "", ""])
    assert ask(some, run)["y"].tolist() == [10.0, 11.0, 12.0, 99.0, 14.0]
    (note,) = notes(run)
    assert (note.rows, note.moved, note.status) == (3, 1, "replaced")
    # a row more than there was comes after the others
    more = pd.concat([some, some.iloc[:1].assign(cell="c", y=7.0)])
    assert ask(more, run)["y"].tolist() == [10.0, 11.005, 12.0, 99.0, 14.0, 7.0]


def test_draws_that_no_seed_trained_belong_to_the_run_that_draws_them(in_a_run: None) -> None:
    kinds = [("split", 0), ("split", 1), ("random", 0), ("random", 1), ("random", 3)]
    record = pd.DataFrame(kinds, columns=["objective", "seed"]).assign(y=0.5)
    record.insert(0, "form", "vector")

    def ask(value: float, profile: Profile) -> list[float]:
        kept_tables._MADE.set(set())
        return asked("t", tables=lambda: {"t": record.assign(y=value)}, of="cells")(profile)["t"][
            "y"
        ].tolist()

    assert ask(0.5, EMBEDDED) == [0.5] * 5
    assert ask(0.7, EMBEDDED.first_seeds(1)) == [0.7, 0.5, 0.7, 0.7, 0.7]
    assert ask(0.9, EMBEDDED.of(lambda cell: cell.seed == 1)) == [0.7, 0.9, 0.7, 0.7, 0.7]


def test_a_part_of_one_form_keeps_the_rows_of_the_others(in_a_run: None) -> None:
    keys = [("lora", "sft", 0), ("lora", "sft", 1), ("vector", "sft", 0), ("vanilla", "vanilla", 0)]
    record = pd.DataFrame(keys, columns=["form", "objective", "seed"]).assign(y=0.5)
    record.insert(0, "task", "psychopathy")

    def ask(rows: pd.DataFrame, profile: Profile) -> list[float]:
        kept_tables._MADE.set(set())
        return asked("t", tables=lambda: {"t": rows}, of="cells")(profile)["t"]["y"].tolist()

    assert ask(record, EMBEDDED) == [0.5] * 4
    lora = EMBEDDED.of(lambda cell: cell.form == "lora" and cell.seed == 0)
    # the unsteered model's row, which another cell makes, stays; made again, it moves
    assert ask(record.iloc[:1].assign(y=0.9), lora) == [0.9, 0.5, 0.5, 0.5]
    assert ask(record.iloc[[0, 3]].assign(y=0.7), lora) == [0.7, 0.5, 0.5, 0.7]


def test_what_some_cells_do_not_give_is_read(in_a_run: None) -> None:
    part = EMBEDDED.of(lambda cell: (cell.task, cell.seed) == ("psychopathy", 1))
    record = pd.DataFrame({"task": ["psychopathy"] * 3, "seed": [0, 1, 2], "x": [0.5, 0.5, 0.5]})
    value = 0.5

    def tables(*names: str) -> dict[str, pd.DataFrame]:
        return dict.fromkeys(names, record.assign(x=value))

    made = {
        "cells": asked("cells", "mean", tables=lambda: tables("cells", "mean"), means=["mean"]),
        "first seed": asked("first", tables=lambda: tables("first"), of="first seed"),
        "tables": asked("tables", tables=lambda: tables("tables"), of="tables"),
        "itself": asked("itself", tables=lambda: tables("itself"), of="itself"),
    }
    # the first part of a record has no mean of all cells to read, and writes none
    first = made["cells"](EMBEDDED.first_seeds(1))
    assert list(first) == ["cells"] and not (EMBEDDED.results / "mean.csv").exists()
    assert make_tables(made.values(), EMBEDDED, 1) == []
    value = 0.9
    for one in results.notes_folder(part).glob("*"):
        one.unlink()
    assert make_tables(made.values(), part, 1) == []
    found = {
        name: read_table(name, part)["x"].tolist() for name in ("cells", "mean", "first", "tables", "itself")
    }
    assert found.pop("cells") == [0.5, 0.9, 0.5]
    assert found.pop("tables") == [0.9, 0.9, 0.9]
    assert set(map(tuple, found.values())) == {(0.5, 0.5, 0.5)}
    assert [note.name for note in notes(part)] == ["cells", "tables"]
    # a run of the whole first seed computes what is of it
    assert make_tables(made.values(), EMBEDDED.first_seeds(1), 1) == []
    assert read_table("itself", part)["x"].tolist() == [0.9] * 3
    assert read_table("mean", part)["x"].tolist() == [0.5] * 3


def test_a_pooled_table_says_which_cells_it_would_be_made_without() -> None:
    pooled = asked("p", tables=dict, of="tables", pools=["curves"])
    measured = asked("g", tables=dict, of="first seed", pools=["manifold_distance"])
    # what is not there is made of all cells where it is needed
    assert lacking(pooled, EMBEDDED, {"p"}) == lacking(pooled, EMBEDDED, {"p", "curves"}) == ""
    rows = [cell.key for cell in EMBEDDED.cells() if EMBEDDED.swept(cell)]
    EMBEDDED.results.mkdir(parents=True)
    pd.DataFrame(rows[:-1]).to_csv(EMBEDDED.results / "curves.csv", index=False)
    said = lacking(pooled, EMBEDDED, {"p"})
    assert said.startswith(f"p: pooled from all cells of curves there are, and 1 of {len(rows)} would be")
    last = EMBEDDED.of(lambda cell: cell.key == rows[-1])
    assert str(next(iter(last.part))) in said
    # the run that makes the last one may go on to pool them; that of another may not
    assert lacking(pooled, last, {"p", "curves"}) == ""
    assert lacking(pooled, last, {"p"}) and lacking(pooled, EMBEDDED.first_seeds(1), {"p", "curves"})
    # of what is measured with the other cells of its model and task, those have to be in the run
    task = EMBEDDED.of(lambda cell: cell.task == "psychopathy" and cell.seed == 0)
    form = EMBEDDED.of(lambda cell: cell in task.part and cell.form == "lora")
    assert lacking(measured, task, {"g"}) == "" == lacking(measured, EMBEDDED, {"g"})
    assert "of manifold_distance of each model and task" in lacking(measured, form, {"g"})


def test_a_part_does_not_write_other_columns_into_the_record(in_a_run: None) -> None:
    record = pd.DataFrame({"seed": [0, 1], "x": [0.5, 0.5]})
    asked("t", tables=lambda: {"t": record})(EMBEDDED)
    kept_tables._MADE.set(set())
    other = asked("t", tables=lambda: {"t": record.assign(y=1.0)})
    with pytest.raises(ValueError, match=r"t\.csv has other columns"):
        other(EMBEDDED.first_seeds(1))


def turned_round(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its rows from last to first, but those that only numbers tell apart as they were."""
    keys = [name for name in table if name == "seed" or not (is_numeric_dtype(table[name]) or name in FOUND)]
    place = table.groupby(keys, sort=False, dropna=False).ngroup()
    return table.loc[(-place).sort_values(kind="stable").index]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_part_beside_the_committed_rows_gives_the_committed_table(
    path: Path, tmp_path: Path, in_a_run: None
) -> None:
    name = path.stem
    (tmp_path / "results").mkdir()
    shutil.copy(path, tmp_path / "results")
    committed = read_table(name, EMBEDDED)
    of = next((one.of for one in STUDIES if name in one.names), "tables")
    parts = [EMBEDDED.first_seeds(1), EMBEDDED.of(lambda c: "qwen2" in c.model and c.task == "powerseeking")]
    for part in parts:
        runs = [committed]
        if of in ("cells", "first seed"):
            # what a table holds that was made of merged ones, and what one holds that was not
            runs = [turned_round(committed), results.own_rows(committed, part)]
        for rows in runs:
            kept_tables._MADE.set(set())
            made = asked(name, tables=lambda made=rows: {name: made}, tolerance=0.0, of=of)(part)[name]
            pd.testing.assert_frame_equal(made, committed)
            assert [(note.status, note.moved) for note in notes(part)] in ([], [("kept", 0)])
    assert (tmp_path / "results" / path.name).read_bytes() == path.read_bytes()


def study(name: str, compute: Callable[[Profile, int], dict[str, pd.DataFrame]]) -> kept_tables.Study:
    return kept(name, tolerance=0.0)(compute)


def test_what_is_made_is_read_by_what_builds_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    computed: list[str] = []

    def one(name: str) -> dict[str, pd.DataFrame]:
        computed.append(name)
        return {name: pd.DataFrame({"x": [float(len(computed))]})}

    first = study("first", lambda profile, jobs: one("first"))

    def on_top(profile: Profile, jobs: int) -> dict[str, pd.DataFrame]:
        first(profile, jobs)
        return one("second")

    second = study("second", on_top)
    assert make_tables([first, second], SMOKE, 1) == []
    assert computed == ["first", "second"]
    told = capsys.readouterr().out
    assert told.index("table first: ") < told.index("table second: ")
    # as a notebook of the same run does
    assert second(SMOKE)["second"]["x"].item() == 2.0
    # and the next run makes them again
    make_tables([first, second], SMOKE, 1)
    assert computed == ["first", "second", "first", "second"]


def test_a_failed_table_costs_only_what_is_made_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: list[int] = []

    def no_curves(profile: Profile, jobs: int) -> dict[str, pd.DataFrame]:
        attempts.append(1)
        raise ValueError("no such curves")

    curves = study("curves", no_curves)
    fits = study("fits", lambda profile, jobs: curves(profile, jobs))
    scores = study("scores", lambda profile, jobs: {"scores": pd.DataFrame({"x": [1.0]})})
    folder = tmp_path / "cache" / "failed" / "embedded"
    folder.mkdir(parents=True)
    (folder / "of_an_earlier_run.txt").touch()
    # what is on record is not taken for what this run could not make
    for name in ("curves", "fits"):
        results.write_table(pd.DataFrame({"x": [1.0]}), name, EMBEDDED)
    with exclusive(EMBEDDED.results, "a test"):
        failed = make_tables([curves, fits, scores], EMBEDDED, 1)
        assert len(failed) == 2
        assert "table curves failed: ValueError: no such curves" in failed[0]
        assert "table fits failed: the table 'curves' could not be made in this run, see " in failed[1]
        assert len(attempts) == 1
        assert sorted(path.name for path in folder.iterdir()) == ["curves.txt", "fits.txt"]
        assert str(folder / "curves.txt") in failed[0] and str(folder / "curves.txt") in failed[1]
        assert 'raise ValueError("no such curves")' in (folder / "curves.txt").read_text(encoding="utf-8")
        assert "table scores: " in capsys.readouterr().out
        # neither does a notebook of this run compute it again or read an older one
        for needed in (curves, fits):
            with pytest.raises(TableError, match="could not be made in this run"):
                needed(EMBEDDED)
    # nor is it remembered after the run
    assert fits(EMBEDDED)["fits"]["x"].item() == 1.0
    assert make_tables([scores], EMBEDDED, 1) == []
    assert list(folder.iterdir()) == []


def test_a_killed_run_is_over(tmp_path: Path) -> None:
    curves = study("curves", lambda profile, jobs: {"curves": pd.DataFrame({"x": [1.0]})})
    folder = tmp_path / "cache" / "failed" / "smoke"
    folder.mkdir(parents=True)
    (folder / "curves.txt").touch()
    SMOKE.results.mkdir(parents=True)
    (SMOKE.results / ".lock.owner").write_text("process 4194305, reproducing profile smoke")
    assert curves(SMOKE)["curves"]["x"].item() == 1.0


def test_provenance_says_which_seeds_a_part_computed(tmp_path: Path, in_a_run: None) -> None:
    asked("t", tables=lambda: {"t": pd.DataFrame({"seed": [0]})})(EMBEDDED.first_seeds(1))
    origin = json.loads((tmp_path / "results" / "t.provenance.json").read_text(encoding="utf-8"))
    assert origin["seeds"] == [0] and set(origin["models"]) == set(EMBEDDED.models)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_what_was_found_to_be_true_names_no_row(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", path.parent)
    table = read_table(path.stem)
    truths = [name for name in table if set(table[name].dropna().map(type)) == {bool}]
    # with an undefined one among them pandas takes them for texts
    assert [name for name in truths if not is_numeric_dtype(table[name]) and name not in FOUND] == []
