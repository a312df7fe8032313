"""The command line: from pairs to an exported steering, exit statuses, errors in one line, quick help."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import splitkit
from splitkit.__main__ import _SHARES, COMMANDS, layer_numbers, main
from splitkit.steering.choosing.readable import RELATIVE

MODEL, HELD_OUT = "tiny-qwen2", "axbench/ocean:validation"


@pytest.fixture(scope="module", autouse=True)
def few_pairs() -> Iterator[None]:
    """Of each task its first four pairs."""
    load_pairs = splitkit.load_pairs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitkit, "load_pairs", lambda task, split: load_pairs(task, split)[:4])
        yield


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved vector of tiny-qwen2."""
    folder = tmp_path_factory.mktemp("command") / "sea"
    assert main(["train", MODEL, HELD_OUT, "--out", str(folder), "--layer", "3", "--quiet"]) == 0
    return folder


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> object:
    assert main([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_from_a_steering_to_a_strength_and_a_file(
    steering: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "sweep.csv"
    swept = said(
        ["sweep", MODEL, str(steering), HELD_OUT, "--relative", "0,0.1,0.3", "--out", str(table)], capsys
    )
    rows = swept["means over pairs"]
    assert [row["relative"] for row in rows] == [0, 0.1, 0.3]
    assert rows[1]["m"] == pytest.approx(0.1 * swept["matching strength"])
    assert table.read_text().count("\n") == 1 + 3 * 4
    choose = ["choose", MODEL, str(steering), HELD_OUT, "--relative", "0.1,0.3"]
    by_losses = said([*choose, "--by", "losses"], capsys)
    assert by_losses["m"] in [row["m"] for row in rows]
    assert "allowed" in by_losses["curves"][0]
    by_text = said([*choose, "--questions", "2", "--max-new-tokens", "4"], capsys)
    assert [row["m"] for row in by_text["strengths"]] == [row["m"] for row in rows]
    assert by_text["m"] in [row["m"] for row in rows if row["relative"] == by_text["matching strengths"]]
    assert [row["m"] for row in by_text["answers"]] == [0.0] * 2 + [by_text["m"]] * 2 * (by_text["m"] > 0)
    m = f"0,{rows[1]['m']}"
    answers = said(["generate", MODEL, str(steering), "Who?", "--m", m, "--max-new-tokens", "2"], capsys)
    assert [row["m"] for row in answers] == [0, rows[1]["m"]]
    file = tmp_path / "sea.safetensors"
    arguments = ["export", MODEL, str(steering), str(file), "--format", "safetensors", "--m", "2"]
    assert said(arguments, capsys) == {"written": str(file)}
    assert main(["generate", MODEL, str(file), "Who?", "--m", "1", "--max-new-tokens", "2", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("Who?\n[m = 1] ")


def test_a_scan_names_the_best_layer(capsys: pytest.CaptureFixture[str]) -> None:
    found = said(["scan", MODEL, HELD_OUT, HELD_OUT, "--layers", "3"], capsys)
    assert {row["layer"] for row in found["scan"]} == {3}
    assert found["best layer"] == 3


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        (["train", MODEL, "nowhere.jsonl", "--out", "x"], 2, "there is no file of pairs nowhere.jsonl."),
        (
            ["train", "tiny-qwen", HELD_OUT, "--out", "x"],
            2,
            "unknown model 'tiny-qwen'; there are tiny-gemma2",
        ),
        (["train", MODEL, "axbench/oceans", "--out", "x"], 2, "axbench/oceans"),
        (["train", MODEL, HELD_OUT, "--out", "x", "--set", "lr"], 2, "--set takes NAME=VALUE"),
        (["choose", MODEL, "{}", "nowhere.csv"], 2, "there is no file of pairs nowhere.csv."),
        (
            ["choose", MODEL, "{}", HELD_OUT, "--questions", "0", "--quiet"],
            2,
            "questions must be a whole number",
        ),
        (["choose", MODEL, "{}", HELD_OUT, "--m", "0", "--quiet"], 2, "name a strength to compare with it"),
        (
            ["choose", MODEL, "{}", HELD_OUT, "--m", "0", "--by", "losses", "--quiet"],
            2,
            "name a strength to compare with it",
        ),
        (["generate", MODEL, "nowhere", "--m", "1"], 2, "no question is given"),
        (["generate", MODEL, "nowhere", "Who?", "--m", "1"], 2, "there is no file or folder nowhere."),
        (
            ["export", MODEL, "{}", "x", "--format", "gguf", "--m", "1", "--quiet"],
            2,
            "a file that ends in .gguf, not 'x'",
        ),
        (["generate", MODEL, "{}", "Who?", "--m", "nan", "--quiet"], 2, "m must be finite"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    arguments: list[str],
    status: int,
    reason: str,
    steering: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main([part.replace("{}", str(steering)) for part in arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith(f"splitkit {arguments[0]}: ")
    assert reason in err
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_has_another_status(
    steering: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FloatingPointError("at m = 3 a loss is not finite")

    monkeypatch.setattr(splitkit, "sweep", fails, raising=False)
    assert main(["sweep", MODEL, str(steering), HELD_OUT, "--m", "0,3", "--quiet"]) == 1
    assert capsys.readouterr().err == "splitkit sweep: at m = 3 a loss is not finite\n"


def test_help_is_quick_and_names_every_command() -> None:
    code = (
        "import sys, splitkit.__main__ as m\n"
        "print(m.options().format_help(), sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 0.5
    assert all(name in done.stdout for name in COMMANDS)
    assert done.stdout.endswith(" []\n")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "reproduce"])
def test_a_commands_help_has_its_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert " ".join(COMMANDS[name][1].split()[:2]) in " ".join(capsys.readouterr().out.split())


def test_bad_options_and_lists() -> None:
    with pytest.raises(SystemExit) as left:
        main(["sweep", MODEL])
    assert left.value.code == 2
    assert layer_numbers("3,10-12") == [3, 10, 11, 12]


def test_it_tries_the_strengths_that_readable_strength_tries() -> None:
    """They are written twice, so that the options load nothing heavy."""
    assert _SHARES["choose"] == list(RELATIVE)
