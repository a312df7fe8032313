"""The notebooks: fit to be read, their checked outputs there, and each running from scratch."""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from splitkit.runs.notebooks import notebooks, run_notebook
from splitkit.runs.profiles import get_profile
from splitkit.storage import paths
from splitkit.storage.digests import data_digest

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
MARK = "# NBVAL_CHECK_OUTPUT"
LONGEST = 15
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt)/[\w.]")


def texts(output: NotebookNode) -> Iterator[str]:
    """The readable parts of an output: a picture's bytes are no text."""
    yield output.get("text", "")
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/") or kind == "image/svg+xml":
            yield data if isinstance(data, str) else "".join(data)


def faults(notebook: NotebookNode) -> list[str]:
    """What keeps a committed notebook from being read and checked, in words."""
    found: list[str] = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    marked = 0
    for i, cell in enumerate(notebook.cells):
        if MACHINE_PATH.search(cell.source):
            found.append(f"cell {i} names a path of one machine")
        if cell.cell_type != "code":
            continue
        if i == 0 or notebook.cells[i - 1].cell_type != "markdown":
            found.append(f"cell {i} has no text before it")
        if len(cell.source.strip().splitlines()) > LONGEST:
            found.append(f"cell {i} has more than {LONGEST} lines")
        if MARK in cell.source:
            marked += 1
            if cell.execution_count is None or not cell.outputs:
                found.append(f"cell {i} is marked to be checked, but was not executed or shows nothing")
        for output in cell.outputs:
            if output.get("name") == "stderr":
                found.append(f"cell {i} wrote to stderr: {output.text[:80]!r}")
            if output.output_type == "error":
                found.append(f"cell {i} failed: {output.ename}")
            if any(MACHINE_PATH.search(text) for text in texts(output)):
                found.append(f"cell {i} shows a path of one machine")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("the code cells were not executed once each, in order")
    if not marked:
        found.append("no cell is marked to be checked")
    return found


def uncaptioned(notebook: NotebookNode, stem: str) -> list[str]:
    """Figures below which no caption names the function that draws them and the notebook."""
    found = []
    for cell, after in pairwise([*notebook.cells, new_markdown_cell("")]):
        for name in re.findall(r"\b(figure\w*)\(", cell.source if cell.cell_type == "code" else ""):
            caption = rf"\*.*`plots\.\w+\.{name}`, notebook `{stem}`\.\*"
            if not re.match(caption, after.source):
                found.append(name)
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_caption(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert uncaptioned(notebook, path.stem) == []
    drawn = [cell for cell in notebook.cells if "image/png" in str(cell.get("outputs"))]
    captions = [cell for cell in notebook.cells if f"`, notebook `{path.stem}`.*" in cell.source]
    assert len(captions) == len(drawn)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebook_is_whole(path: Path) -> None:
    assert faults(nbformat.read(path, as_version=4)) == []
    assert {"PROFILE", "MODEL"} <= set(papermill.inspect_notebook(str(path))), (
        "a cell tagged `parameters` must set PROFILE and MODEL"
    )


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders for the notebooks' kernels, shared by all, so that a cell is computed once."""
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RESULTS", "FIGURES", "CACHE"):
            patch.setenv(f"SPLITKIT_{name}", str(folder / name.lower()))
        # what is read and not computed from scratch: no weights of released models are at hand
        shutil.copytree(paths.DATA / "results" / "small", folder / "results" / "small")
        yield folder


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebook_runs_from_scratch(path: Path, elsewhere: Path) -> None:
    committed = [paths.DATA / "results", paths.ROOT / "figures"]
    before = [data_digest(folder) for folder in committed]
    executed = nbformat.read(run_notebook(path, get_profile("smoke"), elsewhere / "executed"), as_version=4)
    assert [data_digest(folder) for folder in committed] == before, "a smoke run changed committed files"
    said = [o.text for cell in executed.cells for o in cell.get("outputs", []) if o.get("name") == "stderr"]
    # a progress bar is what stderr is for in a run that computes
    assert [text for text in said if "Warning" in text or "Error" in text] == []


def good() -> NotebookNode:
    shown = [new_output("stream", name="stdout", text="1\n")]
    return new_notebook(
        cells=[
            new_markdown_cell("# Title"),
            new_code_cell("PROFILE = 'embedded'", execution_count=1, metadata={"tags": ["parameters"]}),
            new_markdown_cell("Text."),
            new_code_cell(f"{MARK}\nprint(1)", execution_count=2, outputs=shown),
        ]
    )


def test_a_good_notebook_has_no_faults() -> None:
    assert faults(good()) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"execution_count": None}, "was not executed"),
        ({"outputs": []}, "shows nothing"),
        ({"source": "print(1)"}, "no cell is marked"),
        ({"source": f"{MARK}\n" + "x = 1\n" * 15}, "more than 15 lines"),
        ({"source": f"{MARK}\nopen('/home/me/x')"}, "names a path"),
        ({"execution_count": 7}, "in order"),
        ({"outputs": [new_output("stream", name="stderr", text="oh")]}, "stderr"),
        ({"outputs": [new_output("error", ename="KeyError", evalue="", traceback=[])]}, "KeyError"),
        ({"outputs": [new_output("display_data", {"text/plain": "in /home/me/x.png"})]}, "shows a path"),
    ],
)
def test_every_fault_is_found(change: dict[str, object], expected: str) -> None:
    notebook = good()
    notebook.cells[-1].update(change)
    assert any(expected in fault for fault in faults(notebook))
