"""Audit: what agrees is told from what does not, in curves, answers and rows; no other cache is used."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from splitkit import audit, cells, curvetables, paths, scoretables
from splitkit.profiles import PROFILES
from splitkit.results import read_table, write_table

# one cell with curves and answers, of the smallest profile there is
SMOKE = replace(
    PROFILES["smoke"], tasks=("psychopathy",), kinds=(("vector", "split"),), answered=(("vector", "split"),)
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with a record of the profile, and with the cells that it was made of."""
    folder = tmp_path_factory.mktemp("record")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CACHE", folder / "cache")
        patch.setattr(paths, "RESULTS", folder / "results")
        patch.setenv("SPLITKIT_RESULTS", str(folder / "results"))
        found = cells.compute_cells(SMOKE, 1, progress=False)
        write_table(curvetables.curve_table(SMOKE, 1, progress=False), "curves", SMOKE)
        write_table(scoretables.tables(found)["answer_scores"], "answer_scores", SMOKE)
        yield folder


def test_a_record_that_is_right_agrees_and_a_changed_one_does_not(recorded, tmp_path) -> None:
    folder = recorded
    drawn = audit.draw(SMOKE, 1, number=3)
    fresh = audit.audit(SMOKE, drawn, tmp_path / "audit", 1, progress=False)
    assert sorted(path.name for path in (tmp_path / "audit").iterdir() if path.is_dir()) == [
        "answers",
        "curves",
        "trained",
    ]
    assert fresh["agrees"].tolist() == [True]
    assert fresh["curves"].item() < 1e-5
    assert (fresh["answers"].item(), fresh["changed"].item()) == (SMOKE.n_test, 0)
    assert "1 of 1 cells drawn by lot agree" in audit.summary(fresh, 1)

    # what is computed stays as it is; the record moves beneath it
    for name, column, by in (("curves", "utility", 20.0), ("answer_scores", "score", 100.0)):
        path = folder / "results" / f"{name}.csv"
        right = path.read_bytes()
        table = read_table(name, SMOKE)
        table.loc[1, column] = table.loc[1, column] + by
        table.to_csv(path, index=False)
        moved = audit.audit(SMOKE, drawn, tmp_path / "audit", 1, progress=False)
        path.write_bytes(right)
        assert moved["agrees"].tolist() == [False]
        assert name.split("_")[0] in moved["reason"].item()
        assert moved["changed"].item() == (name == "answer_scores")
        assert "NO" in audit.summary(moved, 1)

    path = folder / "results" / "curves.csv"
    right = path.read_bytes()
    read_table("curves", SMOKE).iloc[1:].to_csv(path, index=False)
    short = audit.audit(SMOKE, drawn, tmp_path / "audit", 1, progress=False)
    path.write_bytes(right)
    assert not short["agrees"].item()
    assert math.isinf(short["curves"].item())


def test_a_draw_repeats_and_names_how_many_there_are() -> None:
    embedded = PROFILES["embedded"]
    assert audit.draw(embedded, 12, 5) == audit.draw(embedded, 12, 5) != audit.draw(embedded, 12, 6)
    assert len(set(audit.draw(embedded, 888, 1))) == len(embedded.cells()) == 888
    for count in (0, 889):
        with pytest.raises(ValueError, match="1 to 888"):
            audit.draw(embedded, count, 1)


def test_the_bound_is_what_twelve_right_cells_leave_open() -> None:
    assert audit.bound(0, 12) == pytest.approx(1 - 0.05 ** (1 / 12))
    assert audit.bound(12, 12) == 1.0
    assert audit.bound(0, 12) < audit.bound(1, 12)


def test_bad_options_end_before_any_work(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    assert audit.main(["--cells", "889"]) == 1
    assert audit.main(["--jobs", "0"]) == 1
    said = capsys.readouterr().err
    assert "1 to 888" in said
    assert "1 or more, not 0" in said
    assert not any(tmp_path.iterdir())


def test_the_command_says_which_draw_and_fails_where_a_cell_does(capsys, monkeypatch, tmp_path) -> None:
    row = {**vars(PROFILES["embedded"].cells()[0]), "curves": 0.3, "answers": 4, "changed": 1}
    row |= {"agrees": False, "reason": "curves: moved", "seconds": 1.0}
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(audit, "audit", lambda *_: pd.DataFrame([row]))
    assert audit.main(["--cells", "1", "--draw", "7"]) == 1
    said = capsys.readouterr().out
    assert "draw 7" in said
    assert "1 of 4 changed" in said
    assert "0 of 1 cells drawn by lot agree" in said
