"""Result tables: rounding, comparison with the reference, provenance."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from splitkit.runs import results
from splitkit.runs.profiles import get_profile
from splitkit.storage import digests, paths

PROFILE = get_profile("embedded")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "results"


def frame(r2: float = 0.123456789) -> pd.DataFrame:
    return pd.DataFrame({"model": ["a", "b"], "r2": [r2, math.nan], "n": [1, 2]})


def test_a_table_comes_back_as_it_was_written(folder: Path) -> None:
    written = results.write_table(frame(), "fits", PROFILE, digits=4, seconds=1.26)
    assert written.status == "new"
    back = results.read_table("fits")
    assert back["r2"][0] == 0.1235
    assert pd.isna(back["r2"][1])
    record = json.loads((folder / "fits.provenance.json").read_text())
    assert record["profile"] == "embedded"
    assert set(record["models"]) == set(PROFILE.models)
    assert record["seconds"] == 1.3
    assert record["packages"]["torch"].startswith("2.13.0")
    assert record["data"]["paper"] != "absent"


def test_an_agreeing_table_keeps_the_committed_bytes(folder: Path) -> None:
    results.write_table(frame(), "fits", PROFILE)
    before = [(p.name, p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.iterdir())]
    written = results.write_table(frame(0.1240), "fits", PROFILE, tolerance=1e-3)
    assert written.status == "kept"
    assert written.max_deviation == pytest.approx(0.124 - 0.123457)
    assert before == [(p.name, p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.iterdir())]
    written = results.write_table(frame(0.1250), "fits", PROFILE, tolerance={"r2": 1e-3})
    assert written.status == "replaced"
    assert "'r2'" in str(written)
    assert results.read_table("fits")["r2"][0] == 0.125


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (frame().drop(columns="n"), "columns"),
        (frame().iloc[:1], "rows"),
        (frame().assign(model=["a", "c"]), "'model'"),
        (frame().assign(r2=[0.123456789, 1.0]), "'r2' moved by inf in row 1, from nan to 1.0"),
        (frame().assign(n=[1, 3]), "'n' moved by 0.5 in row 1"),
    ],
)
def test_every_other_difference_is_named(other: pd.DataFrame, reason: str) -> None:
    comparison = results.compare(other, frame())
    assert not comparison.agrees
    assert reason in comparison.reason


def test_texts_flags_and_gaps_survive_the_file(folder: Path) -> None:
    table = pd.DataFrame(
        {
            "note": ["", "at 0, and beyond"],
            "empty": ["", ""],
            "flagged": [True, False],
            "c2": pd.Series([None, True], dtype=object),
        }
    )
    results.write_table(table, "notes", PROFILE)
    assert results.write_table(table, "notes", PROFILE).status == "kept"
    changed = table.assign(note=["", "at 0"])
    assert results.write_table(changed, "notes", PROFILE).status == "replaced"


def test_equal_infinities_agree() -> None:
    table = pd.DataFrame({"m": [math.inf, -math.inf, 1.0]})
    assert results.compare(table, table).agrees


@pytest.mark.parametrize(("new", "old"), [(3.0, math.inf), (math.inf, 3.0), (-math.inf, math.inf)])
def test_an_infinity_that_moved_is_seen(new: float, old: float) -> None:
    comparison = results.compare(pd.DataFrame({"m": [1.0, new]}), pd.DataFrame({"m": [1.0, old]}))
    assert not comparison.agrees and comparison.max_deviation == math.inf
    assert "'m' moved by inf in row 1" in comparison.reason


def test_a_missing_table_says_how_to_make_it(folder: Path) -> None:
    results.write_table(frame(), "fits", PROFILE)
    with pytest.raises(FileNotFoundError, match=r"\['fits'\].*splitkit\.reproduce --profile embedded"):
        results.read_table("curves")


def test_no_write_permission_is_said_before_anything_is_done(folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    with pytest.raises(PermissionError, match="cannot write to .*results"):
        results.write_table(frame(), "fits", PROFILE)


def test_digests_follow_content_not_comments(tmp_path: Path) -> None:
    assert digests.data_digest(tmp_path) == "absent"
    (tmp_path / "a").write_text("1")
    first = digests.data_digest(tmp_path)
    (tmp_path / "b").write_text("1")
    assert digests.data_digest(tmp_path) != first
    left = digests.syntax("def f(x: int) -> int:\n    '''Text.'''\n    return x\n")
    right = digests.syntax("def f(x: int) -> int:\n    # why\n    return x\n")
    assert left == right != digests.syntax("def f(x: int) -> int:\n    return -x\n")


def test_a_text_with_a_carriage_return_stays_one_row(folder: Path) -> None:
    table = pd.DataFrame({"text": ["one\rtwo", 'said "no", he', "three"], "x": [1.0, 2.0, 3.0]})
    results.write_table(table, "texts", PROFILE)
    pd.testing.assert_frame_equal(results.read_table("texts", PROFILE), table)


def test_a_table_written_again_does_not_hide_what_it_replaced(folder: Path) -> None:
    table = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    other = pd.DataFrame({"x": [1.0, 2.5, 3.5]})
    results.write_table(table, "t", PROFILE)
    assert "beyond tolerance in 2 of 3 rows" in results.write_table(other, "t", PROFILE).reason
    assert results.write_table(other, "t", PROFILE).status == "kept"
    (note,) = results.notes(PROFILE)
    assert str(note).startswith("t.csv: replaced") and (note.rows, note.moved) == (3, 2)
