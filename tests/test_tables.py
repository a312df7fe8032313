"""Tables made before the notebooks: all there are, each once, and read by whatever builds on them."""

import os
from pathlib import Path

import pandas as pd
import pytest

from splitkit import paths, tables
from splitkit.committed import MADE, committed_tables
from splitkit.profiles import Profile, get_profile


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("SPLITKIT_RECOMPUTE", "1")
    monkeypatch.setenv(MADE, "of an earlier run")


def test_what_is_made_is_read_by_what_builds_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
    assert tables.make_tables(smoke, jobs=1) == ["first", "second"]
    assert computed == ["first", "second"]
    assert os.environ[MADE] == "first,second"
    told = capsys.readouterr().out
    assert told.index("table the first: ") < told.index("table the second: ")
    # as a notebook of the same run does
    assert table("second", smoke)["x"].item() == 2.0
    # and of the next one
    tables.make_tables(smoke, jobs=1)
    assert computed == ["first", "second", "first", "second"]


def test_a_failed_table_stops_and_what_was_made_stays_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(profile: Profile, jobs: int) -> tables.Tables:
        raise ValueError("no such curves")

    makers = {"one": lambda profile, jobs: {"one": pd.DataFrame()}, "two": fails}
    monkeypatch.setattr(tables, "MAKERS", makers)
    with pytest.raises(ValueError, match="no such curves"):
        tables.make_tables(get_profile("smoke"), jobs=1)
    assert os.environ[MADE] == "one"


def test_every_module_with_committed_tables_is_asked() -> None:
    package = Path(tables.__file__).parent
    asked = (package / "tables.py").read_text(encoding="utf-8")
    found = [
        path.stem
        for path in package.glob("*.py")
        if "committed_tables(" in path.read_text(encoding="utf-8") and path.stem != "committed"
    ]
    assert found
    missing = [name for name in found if f"splitkit.{name} " not in asked and f"import {name}\n" not in asked]
    assert missing == []
