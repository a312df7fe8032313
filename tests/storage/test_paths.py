"""Paths: every environment variable that the package reads is listed."""

import re

from splitkit.storage import paths

LEAVING = {"SPLITKIT_SEEDS", "SPLITKIT_RECOMPUTE", "SPLITKIT_MADE", "SPLITKIT_FAILED"}
"""The variables that parameters are about to replace."""


def test_every_variable_is_listed() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in paths.PACKAGE.rglob("*.py"))
    named = set(re.findall(r'"(SPLITKIT_[A-Z_]+|OPENAI_[A-Z_]+)"', code))
    assert named - LEAVING == set(paths.VARIABLES)
