"""Committed tables are read; missing ones, those of other profiles and asked-for ones are computed."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from pandas.api.types import is_numeric_dtype

from splitkit.runs.kept_tables import FOUND, committed_tables
from splitkit.runs.profiles import get_profile
from splitkit.runs.results import notes_folder, read_table
from splitkit.storage import paths

COMMITTED = sorted((paths.DATA / "results").glob("*.csv"))


def test_computed_only_when_missing_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.delenv("SPLITKIT_RECOMPUTE", raising=False)
    calls = []

    def compute() -> dict[str, pd.DataFrame]:
        calls.append(1)
        return {name: pd.DataFrame({"x": [1.0 + 0.001 * len(calls)]}) for name in ("a", "b")}

    def ask(profile: str) -> float:
        tables = committed_tables(["a", "b"], get_profile(profile), compute, tolerance=0.01)
        return float(tables["b"]["x"].iloc[0])

    assert (ask("embedded"), ask("embedded"), len(calls)) == (1.001, 1.001, 1)
    (tmp_path / "results" / "a.csv").unlink()
    # b agrees with what is committed, and stays
    assert (ask("embedded"), len(calls)) == (1.001, 2)
    monkeypatch.setenv("SPLITKIT_RECOMPUTE", "1")
    assert (ask("embedded"), len(calls)) == (1.001, 3)
    monkeypatch.delenv("SPLITKIT_RECOMPUTE")
    monkeypatch.delenv("SPLITKIT_RESULTS", raising=False)
    assert (ask("smoke"), ask("smoke"), len(calls)) == (1.004, 1.004, 5)
    with pytest.raises(KeyError, match="'c'"):
        committed_tables(["c"], get_profile("embedded"), compute, tolerance=0.01)


def test_a_run_with_fewer_seeds_keeps_the_rows_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("SPLITKIT_RECOMPUTE", "1")
    # in an order of its own, and with two rows that only a float tells apart
    rows = [("b", 1, 0.5), ("b", 0, 0.5), ("b", 0, 1.5), ("a", 0, 0.5), ("a", 2, 0.5)]
    record = pd.DataFrame(rows, columns=["cell", "seed", "m"]).assign(y=range(5)).astype({"y": float})
    record["note"] = ["", "at a bound", "", "", ""]

    def ask(table: pd.DataFrame) -> pd.DataFrame:
        return committed_tables(["t"], get_profile("embedded"), lambda: {"t": table}, tolerance=0.01)["t"]

    written_once = record.assign(note=record["note"].replace("", None))
    pd.testing.assert_frame_equal(ask(record), written_once)
    monkeypatch.setenv("SPLITKIT_SEEDS", "1")
    written = (tmp_path / "results" / "t.csv").stat().st_mtime_ns
    first = record[record["seed"] == 0].sort_values("cell")
    pd.testing.assert_frame_equal(ask(first), written_once)
    # tables made from merged ones hold the other seeds' rows already
    pd.testing.assert_frame_equal(ask(record.iloc[::-1].sort_values("m")), written_once)
    assert (tmp_path / "results" / "t.csv").stat().st_mtime_ns == written
    moved = ask(first.assign(y=first["y"] + 10))
    assert moved["y"].tolist() == [0.0, 11.0, 12.0, 13.0, 4.0]
    # a result in words that has moved leaves its row where it was
    noted = ask(first.assign(note="undefined", y=first["y"] + 20))
    assert noted["y"].tolist() == [0.0, 21.0, 22.0, 23.0, 4.0]
    assert noted["note"].fillna("").tolist() == ["", *["undefined"] * 3, ""]


def turned_round(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its rows from last to first, but those that only numbers tell apart as they were."""
    keys = [name for name in table if name == "seed" or not (is_numeric_dtype(table[name]) or name in FOUND)]
    place = table.groupby(keys, sort=False, dropna=False).ngroup()
    return table.loc[(-place).sort_values(kind="stable").index]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_first_seed_beside_the_committed_rows_gives_the_committed_table(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("SPLITKIT_RECOMPUTE", "1")
    shutil.copy(path, tmp_path)
    name, seeds = path.stem, get_profile("embedded").seeds
    monkeypatch.setenv("SPLITKIT_SEEDS", "1")
    profile = get_profile("embedded")
    committed = read_table(name, profile)
    runs = [committed]
    if "seed" in committed:
        # what a table holds that was made of merged ones, and what one holds that was not
        runs = [turned_round(committed), committed[~committed["seed"].isin(set(seeds) - set(profile.seeds))]]
    for rows in runs:
        made = committed_tables([name], profile, lambda made=rows: {name: made}, tolerance=0.0)[name]
        pd.testing.assert_frame_equal(made, committed)
        note = notes_folder(profile) / f"{name}.txt"
        assert note.read_text(encoding="utf-8").startswith(f"{name}.csv: kept")
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_what_was_found_to_be_true_names_no_row(path: Path) -> None:
    table = read_table(path.stem)
    truths = [name for name in table if set(table[name].dropna().map(type)) == {bool}]
    # with an undefined one among them pandas takes them for texts
    assert [name for name in truths if not is_numeric_dtype(table[name]) and name not in FOUND] == []
