"""Audit: what agrees is told from what does not, in curves, answers and rows; no other cache is used."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor

from splitkit import audit
from splitkit.runs import cells
from splitkit.runs.profiles import PROFILES
from splitkit.runs.results import read_table, write_table
from splitkit.storage import paths
from splitkit.studies import mean_curves, scores

# one cell with curves and answers, of the smallest profile there is
SMOKE = replace(
    PROFILES["smoke"],
    tasks=("psychopathy",),
    combinations=(("vector", "split"),),
    answered=(("vector", "split"),),
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
        write_table(mean_curves.mean_curves.__wrapped__(SMOKE, 1)["curves"], "curves", SMOKE)
        for name, table in scores.tables(found).items():
            write_table(table, name, SMOKE)
        yield folder


def test_a_record_that_is_right_agrees_and_a_changed_one_does_not(recorded, tmp_path) -> None:
    folder = recorded
    drawn = audit.draw(SMOKE, 1, number=3)
    fresh = audit.audit(drawn, tmp_path / "audit", 1)
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
    moves = {"curves": ("utility", 20.0), "scores": ("score", 9.0), "strength_scores": ("score", 9.0)}
    for name, (column, by) in moves.items():
        path = folder / "results" / f"{name}.csv"
        right = path.read_bytes()
        table = read_table(name, SMOKE)
        table.loc[0, column] = table.loc[0, column] + by
        table.to_csv(path, index=False)
        moved = audit.audit(drawn, tmp_path / "audit", 1)
        path.write_bytes(right)
        assert moved["agrees"].tolist() == [False]
        assert moved["reason"].item().startswith(f"{name}: column '{column}' moved")
        assert "NO" in audit.summary(moved, 1)

    path = folder / "results" / "curves.csv"
    right, table = path.read_bytes(), read_table("curves", SMOKE)
    for other in (table.iloc[1:], table.drop(columns="utility")):
        other.to_csv(path, index=False)
        strange = audit.audit(drawn, tmp_path / "audit", 1)
        assert not strange["agrees"].item()
    path.write_bytes(right)

    # an answer that scores otherwise is counted; the means above decide
    path = folder / "results" / "answer_scores.csv"
    table = read_table("answer_scores", SMOKE)
    table.assign(score=table["score"].where(table["question"] > 0, 7.0)).iloc[:-1].to_csv(path, index=False)
    tipped = audit.audit(drawn, tmp_path / "audit", 1)
    assert (tipped["answers"].item(), tipped["changed"].item()) == (SMOKE.n_test - 1, 1)


def test_workers_that_know_another_cache_are_not_asked(recorded, tmp_path, monkeypatch) -> None:
    """A cell whose folders the workers' own cache has already is computed all the same, where it was said."""
    monkeypatch.setenv("SPLITKIT_CACHE", str(recorded / "cache"))
    get_reusable_executor().shutdown()
    warm = joblib.Parallel(n_jobs=2, backend="loky")
    assert (
        warm(joblib.delayed(os.getenv)("SPLITKIT_CACHE") for _ in range(2)) == [str(recorded / "cache")] * 2
    )
    fresh = audit.audit(SMOKE, tmp_path / "audit", 2)
    assert fresh["agrees"].tolist() == [True]
    assert len(list((tmp_path / "audit" / "trained").glob("*/meta.json"))) == 1
    assert recorded / "cache" == paths.CACHE
    assert os.environ["SPLITKIT_CACHE"] == str(recorded / "cache")


def test_the_unsteered_model_is_held_against_the_record_too() -> None:
    """What answers at m = 0 is form and objective "vanilla" on record."""
    vanilla = pd.DataFrame(
        [{**SMOKE.cells()[0].key, "form": "vanilla", "objective": "vanilla", "score": 1.0}]
    )
    record = pd.concat([vanilla, vanilla.assign(seed=1)])
    assert audit._recorded(vanilla, record)["seed"].tolist() == [0]


def test_a_draw_repeats_and_names_how_many_there_are() -> None:
    embedded = PROFILES["embedded"]
    assert audit.draw(embedded, 12, 5) == audit.draw(embedded, 12, 5) != audit.draw(embedded, 12, 6)
    assert audit.draw(embedded, 888, 1).cells() == embedded.cells()
    assert len(audit.draw(embedded, 12, 5).cells()) == 12
    assert len(embedded.cells()) == 888
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
    row = {**PROFILES["embedded"].cells()[0].key, "curves": 0.3, "answers": 4, "changed": 1}
    row |= {"agrees": False, "reason": "curves: moved"}
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(audit, "audit", lambda *_: pd.DataFrame([row]))
    assert audit.main(["--cells", "1", "--draw", "7"]) == 1
    said = capsys.readouterr().out
    assert "draw 7" in said
    assert "1 of 4 changed" in said
    assert "0 of 1 cells drawn by lot agree" in said
    assert str(tmp_path / "audit" / "7") in said

    monkeypatch.setattr(
        audit, "audit", lambda *_: pd.DataFrame([row | {"agrees": True} | {"reason": ""}] * 12)
    )
    assert audit.main(["--cells", "12", "--draw", "7"]) == 0
    # rounded up: 1 - 0.05^(1/12) is 22.09 %
    assert "at most 22.1 % of all 888 do not" in capsys.readouterr().out
    assert not (tmp_path / "audit" / "7").exists()

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "audit", stopped)
    assert audit.main(["--draw", "8"]) == 130
    assert "--draw 8" in capsys.readouterr().err


def test_all_cells_leave_nothing_open() -> None:
    row = {**SMOKE.cells()[0].key, "curves": 0.0, "answers": 0, "changed": 0, "agrees": True, "reason": ""}
    assert "confidence" not in audit.summary(pd.DataFrame([row]), 1)
