"""Committed tables are read; missing ones, those of other profiles and asked-for ones are computed."""

from pathlib import Path

import pandas as pd
import pytest

from splitkit import paths
from splitkit.committed import committed_tables
from splitkit.profiles import get_profile


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
