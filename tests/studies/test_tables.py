"""Tables made before the notebooks: all there are, each once, and read by whatever builds on them."""

import os
from pathlib import Path

import pandas as pd
import pytest

from splitkit.runs.kept_tables import FAILED, MADE, TableError, committed_tables
from splitkit.runs.profiles import Profile, get_profile
from splitkit.storage import paths
from splitkit.studies import tables


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("SPLITKIT_RECOMPUTE", "1")
    for name in (MADE, FAILED):
        monkeypatch.setenv(name, "of an earlier run")


def test_what_is_made_is_read_by_what_builds_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    computed: list[str] = []

    def table(name: str, profile: Profile) -> pd.DataFrame:
        def compute() -> dict[str, pd.DataFrame]:
            computed.append(name)
            return {name: pd.DataFrame({"x": [float(len(computed))]})}

        return committed_tables([name], profile, compute, tolerance=0.0)[name]

    def first(profile: Profile, jobs: int) -> tables.Tables:
        return {"first": table("first", profile)}

    def second(profile: Profile, jobs: int) -> tables.Tables:
        table("first", profile)
        return {"second": table("second", profile)}

    monkeypatch.setattr(tables, "MAKERS", {"the first": first, "the second": second})
    smoke = get_profile("smoke")
    assert tables.make_tables(smoke, 1, tmp_path) == []
    assert computed == ["first", "second"]
    assert os.environ[MADE] == "first,second"
    told = capsys.readouterr().out
    assert told.index("table the first: ") < told.index("table the second: ")
    # as a notebook of the same run does
    assert table("second", smoke)["x"].item() == 2.0
    # and of the next one
    tables.make_tables(smoke, 1, tmp_path)
    assert computed == ["first", "second", "first", "second"]


def test_a_failed_table_costs_only_what_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attempts: list[int] = []

    def curves(profile: Profile, jobs: int) -> tables.Tables:
        def compute() -> dict[str, pd.DataFrame]:
            attempts.append(1)
            raise ValueError("no such curves")

        return committed_tables(["curves"], profile, compute, tolerance=0.0)

    made = {"scores": pd.DataFrame()}
    makers = {"the curves": curves, "fits": curves, "scores": lambda profile, jobs: made}
    monkeypatch.setattr(tables, "MAKERS", makers)
    (tmp_path / "failed_table_of_an_earlier_run.txt").touch()
    failed = tables.make_tables(get_profile("smoke"), 1, tmp_path)
    assert len(failed) == 2
    assert "the tables of 'the curves' failed: ValueError: no such curves" in failed[0]
    assert (
        failed[1] == "the tables of 'fits' were not made: needs the table 'curves', which could not be made"
        " in this run"
    )
    assert len(attempts) == 1
    traces = list(tmp_path.glob("failed_table_*.txt"))
    assert [path.name for path in traces] == ["failed_table_the_curves.txt"]
    assert str(traces[0]) in failed[0]
    assert 'raise ValueError("no such curves")' in traces[0].read_text(encoding="utf-8")
    assert os.environ[MADE] == "scores"
    assert "table scores: 0.0 s" in capsys.readouterr().out
    # neither does a notebook of this run compute it again, nor does a later run remember
    with pytest.raises(TableError, match="curves"):
        curves(get_profile("smoke"), 1)
    monkeypatch.setattr(tables, "MAKERS", {"scores": makers["scores"]})
    assert tables.make_tables(get_profile("smoke"), 1, tmp_path) == []


def test_every_module_with_committed_tables_is_asked() -> None:
    package = Path(tables.__file__).parent
    asked = (package / "tables.py").read_text(encoding="utf-8")
    found = [
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if "committed_tables(" in path.read_text(encoding="utf-8")
    ]
    assert found
    missing = [
        name
        for name in found
        if f"studies.{name} " not in asked and f"import {name.split('.')[-1]}\n" not in asked
    ]
    assert missing == []
