"""The main job on toy notebooks: order, parameters, failures, permissions, the lock."""

import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from splitkit import reproduce
from splitkit.runs import notebooks
from splitkit.runs.profiles import Profile, get_profile
from splitkit.storage import paths
from splitkit.storage.files import RunInProgress, exclusive
from splitkit.studies import verdicts

SMOKE = get_profile("smoke")
EMBEDDED = get_profile("embedded")
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def toy(folder: Path, name: str, *sources: str, parameters: str = 'PROFILE = "embedded"') -> Path:
    """A notebook with a tagged parameters cell and one code cell per source."""
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell("# Toy"), tagged, *(new_code_cell(source) for source in sources)]
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that a run writes to, and the notebooks, are in the test's own."""
    for name in ("NOTEBOOKS", "RESULTS", "FIGURES", "CACHE", "BUILD"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(reproduce, "compute_cells", lambda *_: [])
    monkeypatch.setattr(reproduce, "make_tables", lambda *_: [])


def test_a_run_executes_in_order_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "import os; print(os.getcwd())"
    toy(tmp_path / "notebooks", "01_b.ipynb", "print(PROFILE)", asked)
    toy(tmp_path / "notebooks", "00_a.ipynb", "1 + 1")
    toy(tmp_path / "notebooks", "scratch.ipynb", "1 / 0")
    verdict = verdicts.Verdict("C1", "tiny-qwen2", "all", "holds", 1e-14, "an identity", "a rule")
    verdicts.write_verdicts([verdict], SMOKE)
    assert "verdicts.csv: new" in reproduce.summary(SMOKE, [])
    assert reproduce.main(["--profile", "smoke"]) == 0
    told = capsys.readouterr().out
    # of an earlier run
    assert "verdicts.csv" not in told
    assert told.index("[1/2] 00_a.ipynb") < told.index("[2/2] 01_b.ipynb")
    assert "tiny-qwen2" in told
    assert "one affine update" in told
    folder = tmp_path / "build" / "notebooks" / "smoke"
    assert sorted(path.name for path in folder.iterdir()) == ["00_a.ipynb", "01_b.ipynb"]
    executed = nbformat.read(folder / "01_b.ipynb", as_version=4)
    printed = [output.text for cell in executed.cells for output in cell.get("outputs", [])]
    assert printed == ["smoke\n", f"{tmp_path / 'notebooks'}\n"]


def test_failing_notebooks_are_named_with_their_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy(tmp_path / "notebooks", "00_a.ipynb", "1 / 0")
    toy(tmp_path / "notebooks", "01_b.ipynb", "x = 1", "# why\ny = x / 0\nprint(y)")
    toy(tmp_path / "notebooks", "02_c.ipynb", "print('fine')")
    assert reproduce.main(["--profile", "smoke"]) == 1
    told = capsys.readouterr().err
    assert "00_a.ipynb failed in code cell 2 (`1 / 0`)" in told
    assert "01_b.ipynb failed in code cell 3 (`# why`)" in told
    assert "ZeroDivisionError: division by zero" in told
    folder = tmp_path / "build" / "notebooks" / "smoke"
    # the finished notebook is kept; the unfinished ones lie beside it, to be looked at
    kept = ["00_a.failed.ipynb", "01_b.failed.ipynb", "02_c.ipynb"]
    assert sorted(path.name for path in folder.iterdir()) == kept


def test_a_failed_table_is_told_after_all_else_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy(tmp_path / "notebooks", "00_a.ipynb", "print('fine')")
    monkeypatch.setattr(reproduce, "make_tables", lambda *_: ["the tables of 'fits' failed: why"])
    assert reproduce.main(["--profile", "smoke"]) == 1
    told = capsys.readouterr()
    assert "[1/1] 00_a.ipynb" in told.out and "figures  " in told.out
    assert "the tables of 'fits' failed: why" in told.err
    assert "the same command goes on from there" in told.err
    assert "all done" not in told.out


def test_unknown_parameters_are_refused(tmp_path: Path) -> None:
    notebook = toy(tmp_path / "notebooks", "00_a.ipynb", "1", parameters="PROFIL = 'embedded'")
    with pytest.raises(notebooks.NotebookError, match=r"00_a\.ipynb takes no parameter \['PROFILE'\]"):
        notebooks.run_notebook(notebook, SMOKE, tmp_path / "out")


def test_no_write_permission_stops_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").write_text("a file where the folder should be")
    monkeypatch.setattr(reproduce, "compute_cells", lambda *_: pytest.fail("computed something"))
    assert reproduce.main(["--profile", "embedded"]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with exclusive(SMOKE.results, "another"), pytest.raises(RunInProgress, match=f"process {os.getpid()}"):
        reproduce.reproduce(SMOKE)


def test_from_committed_computes_no_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "compute_cells", lambda *_: pytest.fail("computed something"))
    monkeypatch.setattr(reproduce, "make_tables", lambda *_: pytest.fail("computed something"))
    assert "No notebook wrote a verdict" in reproduce.reproduce(SMOKE, from_committed=True)


def test_unknown_profile_lists_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        reproduce.main(["--profile", "papr"])
    told = capsys.readouterr().err
    assert "embedded" in told
    assert "smoke" in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--profile", "paper-rehearsal", "--model", "nobody"],
            "no model 'nobody': give a folder, a hub id",
        ),
        (["--profile", "smoke", "--from-committed"], "smoke has no committed results"),
        (["--profile", "smoke", "--jobs", "0"], "1 or more, not 0"),
    ],
)
def test_what_cannot_be_run_is_one_line(
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    assert reproduce.main(options) == 1
    assert said in capsys.readouterr().err


def test_a_part_is_named_by_the_values_of_its_cells() -> None:
    part = reproduce.part_of(EMBEDDED, ["task=axbench", "seed=0,2", "form=vector", "objective=split"])
    assert len(part.cells()) == 2 * 10 * 2 and part.whole == EMBEDDED
    assert {cell.seed for cell in part.part} == {0, 2}
    for wanted, said in (
        ("seed=7", "embedded has no seed '7'; it has 0, 1, 2"),
        ("seed", "NAME one of model, task, form, objective, seed, not 'seed'"),
        ("layer=1", "not 'layer=1'"),
    ):
        with pytest.raises(ValueError, match=said):
            reproduce.part_of(EMBEDDED, [wanted])
    with pytest.raises(ValueError, match="has no cell of objective=diffmean form=lora"):
        reproduce.part_of(EMBEDDED, ["objective=diffmean", "form=lora"])


def test_a_part_makes_the_tables_of_its_cells_and_no_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def make(wanted: list, profile: Profile, jobs: int, read: list[str]) -> list[str]:
        calls.append(({name for study in wanted for name in study.names}, read, len(profile.part)))
        return []

    monkeypatch.setattr(reproduce, "make_tables", make)
    only = ["--only", "task=psychopathy", "seed=1", "form=lora"]
    assert reproduce.main(["--profile", "embedded", *only]) == 0
    assert reproduce.main(["--profile", "embedded", "--tables", "family_fits,curves"]) == 0
    assert reproduce.main(["--profile", "embedded", *only, "--tables", "fits"]) == 0
    (of_cells, read, cells), (pooled, others, none), (fits, needed, _) = calls
    # fits are of the part's curves, which are made for them
    assert fits == {"fits"} and "curves" not in needed and "family_fits" in needed
    assert {"curves", "fits", "scores"} <= of_cells and not {"family_fits", "null_fits"} & of_cells
    assert set(read).isdisjoint(of_cells) and "family_fits" in read and cells == 2 * 4
    assert (pooled, none) == ({"family_fits", "curves"}, 0) and "fits" in others
    assert reproduce.main(["--profile", "embedded", "--tables", "fots"]) == 1
    assert reproduce.main(["--profile", "embedded", *only, "--seeds", "1"]) == 1
    told = capsys.readouterr().err
    assert "no table 'fots'" in told and "go without --slice" in told


def test_what_is_pooled_is_not_made_of_a_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "compute_cells", lambda *_: pytest.fail("computed something"))
    only = ["--only", "task=psychopathy", "form=lora", "--tables"]
    for tables in ("manifold_relation", "curves,family_fits"):
        assert reproduce.main(["--profile", "tiny", *only, tables]) == 1
    told = capsys.readouterr().err
    assert "utility_angle, manifold_relation: pooled from all cells of manifold_distance of each" in told
    assert "family_fits: pooled from all cells of curves there are, and" in told
