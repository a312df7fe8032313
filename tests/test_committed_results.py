"""The committed tables say where they come from, and it is what is committed beside them."""

import json
from pathlib import Path

import pytest

from splitkit.steering.formats.shipped import MODELS
from splitkit.steering.model_files import named_model_digest
from splitkit.storage import paths
from splitkit.storage.digests import data_digest

TABLES = sorted((paths.DATA / "results").glob("*.csv"))


def test_there_are_tables() -> None:
    assert len(TABLES) > 10


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_table_comes_from_these_models_and_this_world_at_a_clean_revision(path: Path) -> None:
    origin = json.loads(path.with_suffix("").with_suffix(".provenance.json").read_text(encoding="utf-8"))
    assert origin["profile"] == "embedded"
    assert origin["models"] == {name: named_model_digest(name) for name in MODELS}
    assert origin["data"]["world"] == data_digest(paths.DATA / "world")
    assert "local changes" not in origin["revision"]
