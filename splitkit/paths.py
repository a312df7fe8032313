"""Where things are: every folder in one place; the environment can move the three that are written to."""

import os
from pathlib import Path

ROOT: Path = Path(__file__).resolve().parents[1]
"""The repository's root; the package is installed editable, so data and notebooks lie beside it."""

DATA: Path = ROOT / "data"
PAPER: Path = DATA / "paper"
MODELS: Path = DATA / "models"
NOTEBOOKS: Path = ROOT / "notebooks"
BUILD: Path = ROOT / "build"


def _folder(variable: str, default: Path) -> Path:
    """The folder an environment variable names (made absolute: notebooks run elsewhere), or the default."""
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else default


RESULTS: Path = _folder("SPLITKIT_RESULTS", DATA / "results")
FIGURES: Path = _folder("SPLITKIT_FIGURES", ROOT / "figures")
CACHE: Path = _folder("SPLITKIT_CACHE", ROOT / ".cache")
