"""Paths: every environment variable that the package reads is listed."""

import re

from splitkit.storage import paths


def test_every_variable_is_listed() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in paths.PACKAGE.rglob("*.py"))
    named = set(re.findall(r'"(SPLITKIT_[A-Z_]+|OPENAI_[A-Z_]+)"', code))
    assert named == set(paths.VARIABLES)
