"""Every figure that a notebook saves: its files, caption, function and the tables it is drawn from.

Read from the committed notebooks' sources alone. Nothing is executed.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from splitkit.storage.paths import PACKAGE

CAPTION = re.compile(r"\*(?P<text>[^*]*?)`(?P<function>plots\.\w+\.\w+)`, notebook `\w+`\.\*")


@dataclass(frozen=True)
class Drawn:
    """One saved figure: `files` are PNGs, each with an SVG beside it; `tables` are CSV files."""

    name: str
    notebook: str
    function: str
    caption: str
    files: tuple[Path, ...]
    tables: tuple[Path, ...]


def figures(root: Path) -> list[Drawn]:
    """All saved figures of the notebooks in `root/notebooks`, in reading order."""
    return [found for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")) for found in _of(path, root)]


@cache
def summary(function: str) -> str:
    """First paragraph of the docstring of a function `plots.module.name`, without importing it."""
    _, module, name = function.split(".")
    for node in ast.parse((PACKAGE / "plots" / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    raise ValueError(f"splitkit has no {function}")


def _of(path: Path, root: Path) -> Iterator[Drawn]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    code = [
        ast.parse(source) if cell["cell_type"] == "code" else None
        for cell, source in zip(cells, sources, strict=True)
    ]
    profile = next(
        (found[1] for source in sources if (found := re.search(r'^PROFILE = "(\w+)"', source, re.M))), ""
    )
    kept = _kept_tables()
    for i, cell in enumerate(code):
        calls = [node for node in ast.walk(cell) if isinstance(node, ast.Call)] if cell else []
        drawing = [call for call in calls if _name(call.func).startswith("figure")]
        for saving in (call for call in calls if _name(call.func) == "save" and len(call.args) > 1):
            caption = next((found for text in sources[i + 1 : i + 2] if (found := CAPTION.match(text))), None)
            if caption is None or not drawing:
                raise ValueError(
                    f"{path.name}: no caption names the function of the figure saved in cell {i}"
                )
            call = max((c for c in drawing if c.lineno <= saving.lineno), key=lambda c: c.lineno)
            folder = _either(root / "figures", profile)
            pattern = re.compile(_pattern(saving.args[1]) + r"\.png")
            files = tuple(file for file in sorted(folder.glob("*.png")) if pattern.fullmatch(file.name))
            words = caption["text"].strip().rstrip(":").replace("Drawn by", "").strip()
            yield Drawn(
                files[0].stem if len(files) == 1 else _pattern(saving.args[1]).replace(".+", "*"),
                path.stem,
                caption["function"],
                " ".join(f"{words}. {summary(caption['function'])}".lstrip(". ").split()),
                files,
                tuple(
                    dict.fromkeys(
                        _tables(
                            call,
                            [c for c in code[: i + 1] if c],
                            kept,
                            _either(root / "data" / "results", profile),
                        )
                    )
                ),
            )


def _either(folder: Path, profile: str) -> Path:
    """The profile's own folder where it has one."""
    return folder / profile if (folder / profile).is_dir() else folder


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _pattern(name: ast.expr) -> str:
    """A regular expression for the names that a constant or an f-string can give."""
    if isinstance(name, ast.JoinedStr):
        return "".join(re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in name.values)
    return re.escape(str(getattr(name, "value", "")))


@cache
def _kept_tables() -> dict[str, tuple[str, ...]]:
    """Names (or, ending in _, their beginnings) of the tables under `kept`, by the study's module."""
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted((PACKAGE / "studies").rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        constants = {
            t.id: n.value
            for n in body
            if isinstance(n, ast.Assign)
            for t in n.targets
            if isinstance(t, ast.Name)
        }
        for function in (node for node in body if isinstance(node, ast.FunctionDef)):
            for mark in function.decorator_list:
                if isinstance(mark, ast.Call) and _name(mark.func) == "kept":
                    values = [constants.get(_name(getattr(arg, "value", None)), arg) for arg in mark.args]
                    words = [
                        n.value for value in values for n in ast.walk(value) if isinstance(n, ast.Constant)
                    ]
                    names = tuple(word if isinstance(word, str) else f"table{word}_" for word in words)
                    found[path.stem] = found.get(path.stem, ()) + names
    return found


def _tables(
    call: ast.Call, cells: list[ast.Module], kept: dict[str, tuple[str, ...]], folder: Path
) -> Iterator[Path]:
    """The committed tables that the arguments of a call come from, by the assignments before it.

    A study's module stands for all its tables, unless a key names one of them.
    """
    wanted = {
        node.id
        for argument in [*call.args, *(k.value for k in call.keywords)]
        for node in ast.walk(argument)
        if isinstance(node, ast.Name)
    }
    used: list[ast.AST] = list(call.args)
    statements = [node for cell in cells for node in ast.walk(cell) if isinstance(node, ast.Assign | ast.For)]
    seen = -1
    # until a round finds nothing new
    while seen < len(used):
        seen = len(used)
        for node in statements:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value if isinstance(node, ast.Assign) else node.iter
            names = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            if names & wanted and value not in used:
                used.append(value)
                wanted |= {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    nodes = [node for value in used for node in ast.walk(value)]
    imports = [node for cell in cells for node in ast.walk(cell) if isinstance(node, ast.ImportFrom)]
    ours = {
        alias.asname or alias.name: alias.name
        for node in imports
        if (node.module or "").startswith("splitkit.studies")
        for alias in node.names
    }
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    called = {f.value.id for f in functions if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name)}
    keys = {
        node.slice.value
        for node in nodes
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    }
    for module in sorted(ours[name] for name in called & set(ours)):
        names = kept.get(module, (module,))
        files = [
            file
            for name in names
            for file in sorted(folder.glob(f"{name}*.csv" if name[-1] == "_" else f"{name}.csv"))
        ]
        yield from [file for file in files if file.stem in keys] or files
