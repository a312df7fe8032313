"""Digests of what numbers depend on: files, folders, and the code that makes them."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from splitkit.storage import paths

STEERED = ("curves/log_odds.py", "steering", "world")
"""The code on which trained interventions and their curves depend."""

ANSWERED = (*STEERED, "tasks.py", "runs/world_answers.py")
"""The code on which scored answers depend."""

PAIRED = ("datasets", "runs/answers.py")
"""The code on which the pairs of the paper's own tasks depend besides."""

JUDGED = ("judging", "runs/judged_answers.py", "runs/text_measures.py", "runs/yes_no.py")
"""The code on which the scores of answers to the paper's own tasks depend besides."""

PRETRAINED = (
    "steering/prompts",
    "steering/tokenization.py",
    *(f"world/{name}.py" for name in ("grammar", "pretraining", "recipes", "tasks")),
)
"""The code on which the weights of an embedded model depend."""


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
def code_digest(places: tuple[str, ...] = STEERED) -> str:
    """SHA-256 over the syntax of files and folders of the package: comments and docstrings change nothing."""
    package = paths.PACKAGE
    roots = [package / place for place in places]
    # a file that is not there cannot be read below
    files = {file for root in roots for file in (root.rglob("*.py") if root.is_dir() else [root])}
    trees = [
        f"{file.relative_to(package).as_posix()} {syntax(file.read_text(encoding='utf-8'))}"
        for file in sorted(files)
    ]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()
