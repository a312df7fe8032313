"""The README and the guide for contributors name only what is there."""

import re
import shlex
from pathlib import Path

import pytest

from splitkit.__main__ import COMMANDS, options
from splitkit.runs import results
from splitkit.runs.notebooks import notebooks
from splitkit.storage import paths
from splitkit.studies import verdicts

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_file_and_folder_it_names_exists(name: str) -> None:
    text = (paths.ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    quoted = re.findall(r"`((?:notebooks|splitkit|data|figures|tests)/[\w./-]*)`", text)
    missing = [path for path in [*links, *quoted] if not (paths.ROOT / path).exists()]
    assert missing == []
    assert len(links) + len(quoted) > 15


def test_every_notebook_is_in_its_table() -> None:
    assert [path.name for path in notebooks() if f"notebooks/{path.name}" not in README] == []


def test_its_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the smallest sizes, the README's own lines."""
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    lines = code.group(1).replace("seed=0)", "seed=0, epochs=1)")
    lines = lines.replace('split="train")', 'split="train")[:8]')
    assert lines.count("[:8]") == 1
    assert lines.count("epochs=1") == 1
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "README.md", "exec"), {})
    assert (tmp_path / "my-steering" / "config.json").exists()


def test_its_example_of_a_model_of_your_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model, with the smallest sizes."""
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[1]
    for whole, small in (
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "tiny-qwen2"),
        ("max_new_tokens=40", "max_new_tokens=2"),
    ):
        assert code.count(whole) == 1
        code = code.replace(whole, small)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "cheerful" / "config.json").exists()


def test_its_example_of_your_own_pairs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model, with the smallest sizes."""
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[2]
    for whole, small in (
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "tiny-qwen2"),
        (
            "sk.scan_layers(model, tokenizer, pairs, held_out,",
            "sk.scan_layers(model, tokenizer, pairs, held_out, [2],",
        ),
        ("layer=sk.best_layer(scan),", "layer=sk.best_layer(scan), trials=1, epochs=1,"),
        ("r / 20 for r in range(-14, 15)", "r / 2 for r in range(-1, 2)"),
        ("progress=True", "progress=False"),
    ):
        assert whole in code
        code = code.replace(whole, small)
    monkeypatch.chdir(tmp_path)
    for name, numbers in (("train", range(3)), ("held_out", range(3, 5))):
        rows = [f"Question {n}?,It is splendid {n}.,It is dreadful {n}." for n in numbers]
        Path(f"{name}.csv").write_text("\n".join(["asked,glad,sad", *rows]))
    exec(compile(code, "README.md", "exec"), {})
    assert {path.name for path in tmp_path.glob("*.png")} == {"layers.png", "sweep.png", "projection.png"}


def test_its_example_of_out_and_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model, with one step of training."""
    (code,) = (
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "sk.export" in block
    )
    given = 'TrainingArguments("sea-run", '
    assert code.count(given) == 1
    small = 'max_steps=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, '
    start = (
        "import splitkit as sk\n"
        "model, tokenizer = sk.load_model('tiny-qwen2')\n"
        "pairs = [sk.Pair('Who?', 'A sailor.', 'A farmer.'), sk.Pair('Where?', 'At sea.', 'On land.')]\n"
        "iv = sk.train(model, tokenizer, pairs, 'vector', 'diffmean')\n"
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(start + code.replace(given, given + small), "README.md", "exec"), {})
    assert {"sea.gguf", "sea.safetensors", "sea-peft"} <= {path.name for path in tmp_path.iterdir()}


def test_its_example_of_every_other_name_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is: a cell of the smoke profile, in a cache of its own."""
    (code,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "sk.compute_cells" in block
    )
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "trained").is_dir() and names["result"].cell == names["cell"]


def test_its_command_lines_are_read() -> None:
    (block,) = (
        block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "splitkit scan" in block
    )
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert [options().parse_args(words[1:]).command for words in lines] == list(COMMANDS)[:-1]


def test_its_verdicts_are_the_committed_ones() -> None:
    table = results.read_table("verdicts")
    for claim, rows in table.groupby("claim"):
        shown = []
        for _, own in rows.groupby("model"):
            counts = own["verdict"].value_counts()
            parts = [f"{v} ({counts[v]} of {len(own)})" for v in verdicts.VERDICTS if v in counts]
            shown.append("; ".join(parts) if len(own) > 1 else own["verdict"].iloc[0])
        assert re.search(rf"^\| {claim}: [^|]+ \| {re.escape(' | '.join(shown))} \|", README, re.MULTILINE)
