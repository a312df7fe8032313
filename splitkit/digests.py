"""Digests of what numbers depend on: files, folders, models, and the code that makes them."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from splitkit import paths

TRAINED = (
    "adapters",
    "corpus",
    "encoding",
    "head",
    "interventions",
    "matching",
    "models",
    "objectives",
    "pairs",
    "recording",
    "rows",
    "scale",
    "sites",
    "tails",
    "trainer",
    "training",
    "world",
)
"""The modules on which a trained intervention depends."""

SWEPT = (*TRAINED, "logodds", "stems", "sweeps")
"""The modules on which a cell's curves depend."""

ANSWERED = (*TRAINED, "evaluation", "generation", "scoring")
"""The modules on which a cell's scored answers depend."""

PAIRED = ("datafiles", "datasets", "examples", "generation", "material", "partners", "splits")
"""The modules on which the pairs of the paper's own tasks depend besides."""

GRADED = (
    "endpoint",
    "grading",
    "judges",
    "llmjudge",
    "logodds",
    "replies",
    "rewriting",
    "rubrics",
    "yesno",
)
"""The modules on which the scores of answers to the paper's own tasks depend besides."""


PRETRAINED = ("checkpoints", "corpus", "pretraining", "world")
"""The modules on which the weights of an embedded model depend."""


@cache
def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def data_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below a folder; 'absent' where there is none."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    if not files:
        return "absent"
    lines = "".join(f"{p.relative_to(folder).as_posix()} {file_digest(p)}\n" for p in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def model_digest(model: str) -> str:
    """The digest that a shipped model states in its `splitkit.json`, another model's from its files.

    'absent' for a model that is not on this machine.
    """
    from splitkit.modelfiles import digest, find, is_shipped

    card = paths.MODELS / model / "splitkit.json"
    if is_shipped(model) and card.exists():
        return json.loads(card.read_text(encoding="utf-8"))["sha256"]
    folder = find(model)
    return "absent" if folder is None else digest(folder)


def syntax(source: str) -> str:
    """The syntax tree of Python code as text, without docstrings; comments are not in it anyway."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = [
                child
                for child in node.body
                if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
            ]
    return ast.dump(tree)


@cache
def code_digest(modules: tuple[str, ...] = SWEPT) -> str:
    """SHA-256 over the syntax of some of the package's modules: comments and docstrings change nothing."""
    sources = ((name, paths.ROOT / "splitkit" / f"{name}.py") for name in sorted(set(modules)))
    trees = [f"{name} {syntax(path.read_text(encoding='utf-8'))}" for name, path in sources]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()
