"""Datasets: the paper's tasks as pairs, from made files always, and from the real ones where they are."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import splitkit as sk
from splitkit.datasets import tasks
from splitkit.datasets.files import SOURCES
from splitkit.datasets.tasks import CONCEPTS, TASKS, Report, load_dataset_pairs
from splitkit.steering import generation
from splitkit.steering.formats.released import RELEASED
from splitkit.steering.pairs import SPLITS, Pair
from splitkit.storage import paths
from tests.conftest import tiny_model
from tests.madedata import (
    METADATA,
    PARQUET,
    PSYCHOPATHY,
    TEST,
    TRAIN,
    axbench_columns,
    install,
    made,
    parquet,
    power_rows,
    table_csv,
)

REAL = os.environ.get("SPLITKIT_DATA")
real = pytest.mark.skipif(not REAL, reason="SPLITKIT_DATA names no folder with the real files")
CLOSED = TASKS[:2]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    content = made()
    install(monkeypatch, tmp_path / "data", content)
    return content


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for generation: what a model answers is test_generation's and test_partners' matter."""
    monkeypatch.setattr(
        generation, "answers", lambda model, tokenizer, questions, **_: [f"Own: {q}" for q in questions]
    )


def load(task: str, split: str, **options: Any) -> tuple[list[Pair], Report]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_dataset_pairs(task, split, progress=False, **options)


def check_disjoint(parts: dict[str, list[Pair]]) -> None:
    words = [" ".join(p.question.split()).casefold() for pairs in parts.values() for p in pairs]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("task", CLOSED)
def test_splits_have_the_papers_sizes_and_share_no_question(task: str, files: dict[str, bytes]) -> None:
    parts = {split: load(task, split)[0] for split in SPLITS}
    test = 100 if "psychopathy" in task else 200
    assert [len(parts[split]) for split in SPLITS] == [500, 100, test]
    check_disjoint(parts)
    assert load(task, "train")[0] == parts["train"] != load(task, "train", seed=1)[0]


def test_psychopathy_has_as_many_yes_as_no(files: dict[str, bytes]) -> None:
    for split in SPLITS:
        pairs, _ = load("paper/psychopathy", split)
        assert sum(pair.positive == "Yes" for pair in pairs) == len(pairs) // 2
        assert {(p.positive, p.negative) for p in pairs} == {("Yes", "No"), ("No", "Yes")}


def test_what_is_left_out_is_one_warning_with_counts_and_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = power_rows(620)
    rows[4][0], rows[5][0], rows[6][0], rows[9][2] = "", " ", "", ""
    rows[30] = rows[20]
    rows[40] = power_rows(1, start=10_007)[0]
    header = ("question", "matching", "not_matching")
    install(monkeypatch, tmp_path / "data", made() | {TRAIN: table_csv(rows, header)})
    with pytest.warns(UserWarning) as warned:
        pairs, report = load_dataset_pairs("paper/powerseeking", progress=False)
    assert len(warned) == 1
    assert str(warned[0].message) == (
        "paper/powerseeking, train: 500 pairs; rows left out: 6, powerseeking/train.csv 4-6 (no question); "
        "powerseeking/train.csv 9 (no not_matching); "
        "powerseeking/train.csv 30 (repeats an earlier question); "
        "powerseeking/train.csv 40 (asks a question of the test split)"
    )
    assert list(report.dropped["row"]) == [4, 5, 6, 9, 30, 40]
    assert not set(report.pairs["row"]) & set(report.dropped["row"])
    # the report's rows are those of the pairs
    assert [rows[number] for number in report.pairs["row"]] == [list(vars(pair).values()) for pair in pairs]
    assert set(report.pairs["origin"]) == {"released with the data"}


def test_nothing_left_out_is_no_warning(files: dict[str, bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, report = load_dataset_pairs("paper/psychopathy", "test", progress=False)
    assert str(report) == "paper/psychopathy, test: 100 pairs"


@pytest.mark.usefixtures("files", "parrot")
def test_axbench_pairs_with_the_models_own_answers(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model("qwen2")
    parts = {s: load("paper/axbench/night", s, model=model, tokenizer=tokenizer) for s in SPLITS}
    assert [len(parts[s][0]) for s in SPLITS] == [4, 8, 8]
    check_disjoint({split: pairs for split, (pairs, _) in parts.items()})
    pairs, report = parts["train"]
    assert all(pair.negative == f"Own: {pair.question}" for pair in pairs)
    assert report.pairs["origin"].str.startswith("unsteered answer of the qwen2 ").all()
    assert list(report.dropped["reason"]) == ["belongs to no concept"] * 4
    longer, _ = load("paper/axbench/night", "train", model=model, tokenizer=tokenizer, validation=0)
    assert len(longer) == 12


@pytest.mark.usefixtures("files")
def test_axbench_leaves_out_what_the_model_does_not_answer(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        generation, "answers", lambda m, t, questions, **_: [" \n", *(["Fine."] * (len(questions) - 1))]
    )
    pairs, report = load("paper/axbench/0", "test", model=tiny_model("qwen2"), tokenizer=tokenizer)
    assert len(pairs) == len(report.pairs) == 7
    assert {pair.negative for pair in pairs} == {"Fine."}
    silent = report.dropped[report.dropped["reason"] == "no answer from the model"]
    assert len(silent) == 1
    assert silent["row"].iloc[0] not in list(report.pairs["row"])


@pytest.mark.usefixtures("files", "parrot")
def test_load_pairs_takes_the_papers_tasks(tokenizer: PreTrainedTokenizerFast) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sk.load_pairs("paper/psychopathy", "test") == load("paper/psychopathy", "test")[0]
        with pytest.raises(
            ValueError, match=r"splitkit\.datasets\.tasks\.load_dataset_pairs\('paper/axbench/night'"
        ):
            sk.load_pairs("paper/axbench/night")
        made_here = load("paper/axbench/9", "train", model=tiny_model("qwen2"), tokenizer=tokenizer)[0]
        assert sk.load_pairs("paper/axbench/night") == made_here
        load("paper/axbench/9", "train", model=tiny_model("llama"), tokenizer=tokenizer)
        with pytest.raises(ValueError, match=r"answers of 2 models .*llama.*Say which model"):
            sk.load_pairs("paper/axbench/night")


def test_unknown_tasks_list_all(files: dict[str, bytes]) -> None:
    for task in ("paper/sociopathy", "paper/axbench/10", "paper/axbench/", "paper/axbench/²", "paper/"):
        with pytest.raises(ValueError, match=r"unknown task .*paper/psychopathy.*paper/axbench/night"):
            load_dataset_pairs(task)
    with pytest.raises(ValueError, match=r"unknown task 'x'; there are psychopathy, .*paper/psychopathy"):
        sk.load_pairs("x")
    with pytest.raises(ValueError, match="train, validation, test"):
        load_dataset_pairs("paper/psychopathy", "dev")
    with pytest.raises(ValueError, match="go together"):
        load_dataset_pairs("paper/axbench/0", model=tiny_model("qwen2"))


def test_too_few_rows_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path / "data", made() | {PARQUET: parquet(axbench_columns(16))})
    with pytest.raises(ValueError, match="of 16 usable rows 8 are not for the test"):
        load("paper/axbench/3", "train")


def test_another_file_than_the_released_one_is_an_error(files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "data" / PSYCHOPATHY).write_bytes(files[PSYCHOPATHY] + b"\n")
    with pytest.raises(ValueError, match=rf"{PSYCHOPATHY} is not the released file"):
        load("paper/psychopathy", "train")


def test_a_concept_has_its_text(files: dict[str, bytes]) -> None:
    assert tasks.concept("paper/axbench/night") == tasks.concept("paper/axbench/9")
    assert tasks.concept("paper/axbench/night").text == "concept 9"
    with pytest.raises(ValueError, match=r"'paper/psychopathy' has no concept; one of code-constructs"):
        tasks.concept("paper/psychopathy")


def test_a_tasks_files_are_those_it_reads() -> None:
    named = [name for task in TASKS for name in tasks.data_files(task)]
    assert set(named) == set(SOURCES)
    assert tasks.data_files("paper/axbench/3") == {n: SOURCES[n].sha256 for n in (PARQUET, METADATA)}
    assert list(tasks.data_files("paper/powerseeking")) == [TRAIN, TEST]


def test_every_file_has_a_card_with_licence_and_citation() -> None:
    cards = {path.stem: path.read_text(encoding="utf-8") for path in (paths.DATA / "cards").glob("*.md")}
    models = {name.lower().replace("-", "_"): one for name, one in RELEASED.items()}
    assert set(cards) == {name.partition("/")[0] for name in SOURCES} | set(models)
    for name, one in models.items():
        said = [one.sha256, f"{one.size:,} bytes", f"`{one.file}`", f"layer {one.layer} of {one.layers}"]
        assert all(text in cards[name] for text in said)
    for name, source in SOURCES.items():
        card = cards[name.partition("/")[0]]
        assert f"| file | `{name}`, SHA-256 `{source.sha256}` |" in card
        assert f"`{source.url.split('/')[5]}`" in card
        assert re.search(r"\| licence \| (CC BY 4.0|MIT|Apache-2.0) \|", card)
        assert re.search(r"\| citation \| .* et al\., .*arxiv\.org/abs/\d{4}\.\d{5}", card)
    for slug, id_ in CONCEPTS.items():
        assert f"| `{slug}` | {id_} |" in cards["axbench_concept10"]


@real
@pytest.mark.parametrize(
    ("task", "sizes", "dropped"),
    [
        ("paper/psychopathy", [500, 100, 100], {"repeats an earlier question": [824]}),
        (
            "paper/powerseeking",
            [500, 100, 200],
            {
                "no question": [409, 418],
                "repeats an earlier question": [261, 327],
                "asks a question of the test split": [200],
            },
        ),
    ],
)
def test_real_files(task: str, sizes: list[int], dropped: dict[str, list[int]]) -> None:
    parts = {split: load(task, split) for split in SPLITS}
    assert [len(parts[split][0]) for split in SPLITS] == sizes
    check_disjoint({split: pairs for split, (pairs, _) in parts.items()})
    for _, report in parts.values():
        found = {reason: list(rows["row"]) for reason, rows in report.dropped.groupby("reason")}
        assert found == dropped
    if task == "paper/psychopathy":
        assert [sum(p.positive == "Yes" for p in parts[s][0]) for s in SPLITS] == [250, 50, 50]


@real
@pytest.mark.usefixtures("parrot")
@pytest.mark.parametrize("slug", CONCEPTS)
def test_real_concepts(
    slug: str, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("qwen2")
    model.config.max_position_embeddings = 2048  # the instructions are longer than a tiny model's context
    task = f"paper/axbench/{slug}"
    parts = {split: load(task, split, model=model, tokenizer=tokenizer) for split in SPLITS}
    repeats = [564] if slug == "system-functions" else []
    assert [len(parts[split][0]) for split in SPLITS] == [56 - len(repeats), 8, 8]
    check_disjoint({split: pairs for split, (pairs, _) in parts.items()})
    report = parts["test"][1]
    assert list(report.dropped["row"]) == [*range(216), *repeats]
    whole, _ = load(task, "train", model=model, tokenizer=tokenizer, validation=0)
    assert len(whole) == 64 - len(repeats)
    card = (paths.DATA / "cards" / "axbench_concept10.md").read_text(encoding="utf-8")
    assert f"| `{slug}` | {CONCEPTS[slug]} | {tasks.concept(task).text} |" in card
