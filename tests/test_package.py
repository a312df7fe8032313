"""The package's surface: light to import, every public name there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import splitkit
from splitkit.storage import paths


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, splitkit\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'import splitkit loads {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", splitkit.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(splitkit, name) is not None
    assert name in dir(splitkit)


def test_the_public_names_are_those_with_a_home() -> None:
    assert set(splitkit.__all__) == set(splitkit._HOME)
    assert len(splitkit.__all__) <= 25


def test_an_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no 'steer'.*load_model.*sweep"):
        splitkit.steer  # noqa: B018


def test_a_copy_without_the_repository_says_what_to_do(tmp_path: Path) -> None:
    shutil.copytree(
        paths.ROOT / "splitkit", tmp_path / "splitkit", ignore=shutil.ignore_patterns("__pycache__")
    )
    for code in (
        "from splitkit.tasks import load_pairs; load_pairs('psychopathy')",
        "from splitkit.runs.profiles import get_profile",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        said = done.stderr.splitlines()[-1]
        assert said.startswith("FileNotFoundError: splitkit needs its repository"), said
        assert "pip install -e ." in said
