"""One lock says what pip installs, what conda installs and what is installed; a library names ranges."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from splitkit.storage.paths import PACKAGE, ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
NAMED = CORE + [
    needed
    for needed in map(Requirement, chain.from_iterable(EXTRAS.values()))
    if needed.name != PROJECT["name"]
]
PINS = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
LOCK = dict(pin.split("==") for pin in PINS)
HOMES = packages_distributions()
APART = {needed.name: extra for extra in ("site", "live") for needed in map(Requirement, EXTRAS[extra])}
"""What `make venv` does not install, because no other test needs it."""
LIBRARY = ("storage", "curves", "steering", "world")
"""The folders that work with what is installed without any extra."""


def test_the_lock_pins_all_that_is_named_and_nothing_else() -> None:
    assert set(LOCK) == {needed.name for needed in NAMED}
    assert list(LOCK) == sorted(LOCK, key=str.lower)


@pytest.mark.parametrize("needed", NAMED, ids=str)
def test_every_pin_is_in_its_range(needed: Requirement) -> None:
    assert [part.operator for part in needed.specifier][:1] != ["=="], "a library names a range"
    assert len(needed.specifier) >= 1
    assert LOCK[needed.name] in needed.specifier


@pytest.mark.parametrize("name", LOCK)
def test_every_pin_is_installed(name: str) -> None:
    assert re.fullmatch(r"[0-9][0-9A-Za-z.]*", LOCK[name])
    try:
        installed = version(name)
    except PackageNotFoundError:
        if name in APART:
            pytest.skip(f"the extra [{APART[name]}] is not installed")
        raise
    # a build of the same version for this machine ("2.13.0+cpu") is the same version
    assert installed.split("+")[0] == LOCK[name]


def test_make_and_conda_install_the_lock() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert next(entry["pip"] for entry in conda if isinstance(entry, dict)) == [
        "--constraint requirements.lock",
        "--editable .[dev]",
    ]
    python = next(entry for entry in conda if isinstance(entry, str) and entry.startswith("python"))
    assert python.startswith(f"python{PROJECT['requires-python']}")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "pip install -qq --constraint requirements.lock --editable '.[dev]'\n" in makefile
    assert "$(INSTALLED): pyproject.toml requirements.lock\n" in makefile


def test_the_extras_of_users_are_tested() -> None:
    own = next(needed for needed in map(Requirement, EXTRAS["dev"]) if needed.name == PROJECT["name"])
    assert own.extras == set(EXTRAS) - {"dev", *APART.values()}


def test_torch_is_the_version_agreed_on() -> None:
    assert LOCK["torch"] == "2.13.0"


def undeclared(files: Iterable[Path], declared: Iterable[Requirement]) -> set[str]:
    """The packages that files import and that are neither declared nor Python's nor ours."""
    names = {canonicalize_name(needed.name) for needed in declared}
    known = set(sys.stdlib_module_names) | {"docs", "splitkit", "tests"}
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            for name in {name.split(".")[0] for name in imported} - known:
                if not names & set(map(canonicalize_name, HOMES.get(name, [name]))):
                    found.add(f"{path.name}: {name}")
    return found


def test_every_import_is_declared() -> None:
    assert undeclared([*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("test_*.py")], NAMED) == set()


def test_the_library_needs_no_extra() -> None:
    files = [path for folder in LIBRARY for path in (PACKAGE / folder).rglob("*.py")]
    # a file or a model of these packages' own kind is what brings them in
    own_kind = [needed for needed in NAMED if needed.name in ("gguf", "peft")]
    assert undeclared([*files, PACKAGE / "tasks.py"], [*CORE, *own_kind]) == set()


def test_the_library_is_imported_without_the_packages_of_files() -> None:
    code = (
        "import sys; sys.modules.update(gguf=None, peft=None); import splitkit.steering.sweeps as s; s.sweep"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
