"""Files: whole or not at all, and one run at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from splitkit.storage import files


def test_write_whole_keeps_the_old_file_when_replacing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.csv"
    files.write_whole(path, "old\n")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        files.write_whole(path, "new\n")
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_whole_folder_vanishes_on_error_and_appears_on_success(tmp_path: Path) -> None:
    target = tmp_path / "cell"
    with pytest.raises(RuntimeError), files.whole_folder(target) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with files.whole_folder(target) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "whole").write_text("x")
        assert not target.exists()
    assert (target / "part" / "whole").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["cell"]


def test_check_writable_names_the_folder_and_the_way_out(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "results")
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match=r"file/results.*SPLITKIT_RESULTS"):
        files.check_writable(tmp_path / "file" / "results")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_check_writable_refuses_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="Nothing was computed"):
            files.check_writable(tmp_path)
    finally:
        tmp_path.chmod(0o755)


def test_a_second_run_is_refused_by_name_of_the_first(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from splitkit.storage.files import exclusive\n"
        "with exclusive(Path(sys.argv[1]), 'a test'):\n    print('held', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(files.RunInProgress, match=rf"process {first.pid}, a test"),
        files.exclusive(tmp_path, "second"),
    ):
        pass
    # a killed run leaves no lock behind
    first.kill()
    first.wait()
    with files.exclusive(tmp_path, "third"):
        pass


def test_what_killed_writers_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".cell-1.abc.tmp").mkdir()
    (tmp_path / ".cell-1.abc.tmp" / "part").write_text("half")
    (tmp_path / "cell-1").mkdir()
    files.remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cell-1"]
