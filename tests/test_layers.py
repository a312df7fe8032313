"""A folder of the package imports only the folders below it, and no modules import each other in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter

from splitkit.storage.paths import PACKAGE

ENGINE = {"storage", "curves", "steering"}
DATA = ENGINE | {"world", "datasets"}
RUNS = DATA | {"tasks", "paper", "judging", "runs"}

MAY_IMPORT: dict[str, set[str]] = {
    "storage": {"storage"},
    "curves": {"curves"},
    "steering": ENGINE,
    "world": ENGINE | {"world"},
    "datasets": ENGINE | {"datasets"},
    "tasks": DATA,
    "paper": DATA | {"tasks"},
    "judging": {"storage", "steering", "world", "judging"},
    "runs": RUNS,
    "studies": RUNS | {"studies"},
    "plots": RUNS | {"studies", "plots"},
    "reproduce": RUNS | {"studies", "plots"},
    "audit": RUNS | {"studies", "plots"},
    "models": {"storage", "steering"},
    "commands": {"storage"},
    "__main__": {"commands", "reproduce"},
}
"""The folders and top modules that each of them may import; `splitkit/__init__.py` may name all."""

FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
}


def imports(module: str) -> set[str]:
    """The package's modules that one of them imports anywhere: lazily and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively: name the module from splitkit on"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inside if name.removeprefix("splitkit.") in FILES}
            # `from splitkit.storage import paths` needs the module `paths`; other names are the folder's own
            found |= modules | ({node.module or ""} if modules != inside else set())
    return {name.removeprefix("splitkit.") for name in found if name.startswith("splitkit.")}


IMPORTS = {module: imports(module) for module in FILES}


def test_every_import_points_down() -> None:
    upward = {
        (module, name)
        for module, names in IMPORTS.items()
        for name in names
        if name.split(".")[0] not in MAY_IMPORT[module.split(".")[0]]
    }
    assert upward == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle, each imported by the next: {' < '.join(error.args[1])}") from None


def test_a_folder_has_at_most_twenty_files() -> None:
    folders = {path.parent for path in FILES.values()} | {PACKAGE}
    assert [folder.name for folder in folders if len(list(folder.glob("*.py"))) > 20] == []
