"""The folders: each in one place, the environment can move the three that are written to.

In a clone the data lie beside the package, and tables, figures and cache in the clone. An installed package
carries its data, writes to the user's cache, and has no committed tables, notebooks or figures.
"""

import os
from pathlib import Path

VARIABLES: dict[str, str] = {
    "SPLITKIT_RESULTS": "folder of the tables",
    "SPLITKIT_FIGURES": "folder of the figures",
    "SPLITKIT_CACHE": "folder of finished cells and of all else that is kept",
    "SPLITKIT_DATA": "folder with the paper's data files, which are downloaded otherwise",
    "SPLITKIT_MODELS": "folder with models as <owner>/<name>, for machines without the hub",
    "SPLITKIT_DEVICE": "device of models that are not shipped, as torch names it",
    "SPLITKIT_THREADS": "torch threads of a process; 1 otherwise, so that results repeat bit for bit",
    "SPLITKIT_JUDGE_URL": "endpoint of the judge",
    "SPLITKIT_JUDGE_MODEL": "model of the judge",
    "SPLITKIT_JUDGE_BUDGET": "the most requests that a run may need of the judge",
    "OPENAI_API_KEY": "key of the judge",
    "XDG_CACHE_HOME": "folder of the user's caches, where an installed package writes; ~/.cache otherwise",
}
"""Every environment variable that splitkit itself reads, and its meaning."""

PACKAGE: Path = Path(__file__).resolve().parents[1]
"""The folder of the package's own code."""

ROOT: Path = PACKAGE.parent
"""The folder around the package: in a clone, the clone."""

IN_CLONE: bool = (ROOT / "data" / "world" / "lexicon.toml").is_file()
"""Whether the package lies in its clone (also by `pip install -e .`), not among installed packages."""

DATA: Path = (ROOT if IN_CLONE else PACKAGE) / "data"
PAPER: Path = DATA / "paper"
MODELS: Path = DATA / "models"
NOTEBOOKS: Path = ROOT / "notebooks"


def require_clone(what: str) -> None:
    """FileNotFoundError, with the way to get a clone, where the package was installed without one."""
    if not IN_CLONE:
        raise FileNotFoundError(
            f"{what} come with splitkit's repository, not with the installed package: clone it with git and "
            "run `pip install -e .` in the clone."
        )


def expanded(name: str | Path) -> Path:
    """A path with ~ and ~user replaced by their home; a user that is not there has none, the text stays."""
    return Path(os.path.expanduser(name))


def _folder(variable: str, default: Path) -> Path:
    """The folder an environment variable names (made absolute: notebooks run elsewhere), or the default."""
    value = os.environ.get(variable)
    return expanded(value).resolve() if value else default


_HOME = ROOT if IN_CLONE else _folder("XDG_CACHE_HOME", Path.home() / ".cache") / "splitkit"

BUILD: Path = _HOME / "build"
RESULTS: Path = _folder("SPLITKIT_RESULTS", (DATA if IN_CLONE else _HOME) / "results")
FIGURES: Path = _folder("SPLITKIT_FIGURES", _HOME / "figures")
CACHE: Path = _folder("SPLITKIT_CACHE", _HOME / ".cache" if IN_CLONE else _HOME)
