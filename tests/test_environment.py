"""What is installed, what pip installs and what conda installs are one set."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from typing import Any

import pytest
import yaml

from splitkit.storage.paths import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS: list[str] = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
CONDA: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


def test_conda_installs_the_same_set() -> None:
    pip = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    assert sorted(pip) == sorted([*PINS, "-e ."])
    python = next(e for e in CONDA["dependencies"] if isinstance(e, str) and e.startswith("python"))
    assert python.startswith(f"python{PROJECT['requires-python']}")


@pytest.mark.parametrize("pin", PINS)
def test_every_dependency_is_pinned_and_installed(pin: str) -> None:
    match = re.fullmatch(r"([A-Za-z0-9_-]+)==([0-9][0-9A-Za-z.]*)", pin)
    assert match, f"{pin} is not pinned to one version"
    # a build of the same version for this machine ("2.13.0+cpu") is the same version
    assert version(match[1]).split("+")[0] == match[2]


def test_the_extras_of_users_are_tested_in_the_same_versions() -> None:
    extras = {name: pins for name, pins in PROJECT["optional-dependencies"].items() if name != "dev"}
    assert extras
    assert {pin for pins in extras.values() for pin in pins} <= set(PINS)


def test_torch_is_the_version_agreed_on() -> None:
    assert "torch==2.13.0" in PINS


def test_every_import_is_declared() -> None:
    declared = {re.split("==", pin)[0].lower() for pin in PINS}
    homes = packages_distributions()
    undeclared = set()
    own = {"splitkit", "tests"}
    for path in [*(ROOT / "splitkit").rglob("*.py"), *(ROOT / "tests").rglob("test_*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names):
                if name not in own and not declared & {home.lower() for home in homes.get(name, [])}:
                    undeclared.add(f"{path.name}: {name}")
    assert not undeclared
