"""The package's surface: light to import, every public name there."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import splitkit
from splitkit.storage import paths


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
    assert len(splitkit.__all__) <= 50


def test_no_public_name_is_a_folders_too() -> None:
    # of the two, the one that was imported last would be found under it
    folders = {path.name for path in Path(splitkit.__file__).parent.iterdir() if path.is_dir()}
    assert folders.isdisjoint(splitkit.__all__)


def test_an_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no 'steer'.*load_model.*sweep"):
        splitkit.steer  # noqa: B018


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, built from a copy of what git keeps for it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    for name in ("splitkit", "data"):
        shutil.copytree(
            paths.ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "results")
        )
    (source / "data" / "results").mkdir()
    shutil.copy(paths.ROOT / "data" / "results" / "verdicts.csv", source / "data" / "results")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps"]
    build += ["--no-build-isolation", "--wheel-dir", str(source / "dist"), str(source)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = (source / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def run_installed(installed: Path, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in `folder` on the installed package, with another home and none of our settings."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("SPLITKIT_", "XDG_"))
    }
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        env=inherited | {"PYTHONPATH": str(installed), "HOME": str(folder / "home")},
    )  # fmt: skip


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_the_wheel_has_every_module_and_no_results(installed: Path) -> None:
    modules = {path.relative_to(paths.PACKAGE) for path in paths.PACKAGE.rglob("*.py")}
    inside = installed / "splitkit"
    assert {path.relative_to(inside) for path in inside.rglob("*.py")} == modules
    assert (inside / "py.typed").exists()
    assert sorted(path.name for path in (inside / "data").iterdir()) == [
        "hparams",
        "hparams.csv",
        "models",
        "paper",
        "world",
    ]


def test_an_installed_package_steers_without_its_clone(installed: Path, tmp_path: Path) -> None:
    before = files(installed)
    done = run_installed(
        installed,
        tmp_path,
        "import splitkit as sk\n"
        "assert not sk.__file__.startswith(ROOT), sk.__file__\n"
        "model, tokenizer = sk.load_model('tiny-qwen2')\n"
        "pairs = sk.load_pairs('psychopathy')[:8]\n"
        "iv = sk.train(model, tokenizer, pairs, form='vector', objective='diffmean', seed=0)\n"
        "sweep = sk.sweep(model, tokenizer, iv, pairs, m=[-1.0, 0.0, 1.0])\n"
        "print(sk.operating_point(sweep).m)\n"
        "from splitkit import paper\n"
        "print(len(paper.table(3)))\n".replace("ROOT", repr(str(paths.ROOT))),
    )
    assert done.returncode == 0, done.stderr
    assert files(installed) == before


def test_what_needs_the_clone_says_so(installed: Path, tmp_path: Path) -> None:
    done = run_installed(
        installed,
        tmp_path,
        "from splitkit.runs.results import read_table\n"
        "from splitkit.runs.notebooks import notebooks\n"
        "from splitkit.reproduce import main\n"
        "for ask in (lambda: read_table('verdicts'), notebooks):\n"
        "    try:\n"
        "        print(ask())\n"
        "    except FileNotFoundError as error:\n"
        "        print(error)\n"
        "assert main(['--from-committed']) == 1\n",
    )
    asked = ("The committed results", "The notebooks", "reproduce stopped: The notebooks and their results")
    said = [line for line in [*done.stdout.splitlines(), *done.stderr.splitlines()] if line]
    assert len(said) == len(asked), said
    for line, what in zip(said, asked, strict=True):
        assert line.startswith(f"{what} come with splitkit's repository")
        assert "pip install -e ." in line
    assert done.returncode == 0
