"""Where things are: every folder in one place; the environment can move the three that are written to."""

import os
from pathlib import Path

PACKAGE: Path = Path(__file__).resolve().parents[1]
"""The folder of the package's own code."""


def repository(root: Path) -> Path:
    """`root` itself, once it is clear that the data lie below it.

    Raises:
        FileNotFoundError: where the package was installed without its repository, with the way out.
    """
    if not (root / "data" / "world" / "lexicon.toml").is_file():
        raise FileNotFoundError(
            f"splitkit needs its repository, whose data are not in {root}: clone it with git and run "
            "`pip install -e .` in the clone."
        )
    return root


ROOT: Path = repository(PACKAGE.parent)
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
