"""The package's surface: light to import, every public name there."""

import subprocess
import sys

import pytest

import splitkit


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
