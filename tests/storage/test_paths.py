"""Paths: every environment variable that the package reads is listed."""

import re
from pathlib import Path

import pytest

from splitkit.storage import paths


def test_every_variable_is_listed() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in paths.PACKAGE.rglob("*.py"))
    named = set(re.findall(r'"((?:SPLITKIT|OPENAI|XDG)_[A-Z_]+)"', code))
    assert named == set(paths.VARIABLES)


def test_a_home_is_put_in_and_nobody_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.expanded("~/models") == tmp_path / "models"
    assert paths.expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
