"""A fuzz of the loaders: whatever a file holds, it becomes correct pairs or a clear error of ours."""

import json
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import splitkit
from splitkit.datasets import examples
from splitkit.datasets.examples import Dropped, Example
from splitkit.datasets.tasks import load_dataset_pairs
from splitkit.steering.pairs import SPLITS
from tests.madedata import (
    METADATA,
    PARQUET,
    PSYCHOPATHY,
    TEST,
    TRAIN,
    axbench_columns,
    install,
    jsonl,
    made,
    metadata_rows,
    parquet,
    power_rows,
    psychopathy_rows,
    table_csv,
)

PACKAGE = Path(splitkit.__file__).parent
KNOWN = examples.concepts(jsonl(metadata_rows(3)), METADATA)
HEADER = ("question", "matching", "not_matching")
NASTY = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\xff\xfe",
    b"\xc3",
    b'"',
    b"\\",
    b",",
    b"{",
    b"NaN",
    b"\xef\xbb\xbf",
]

texts = st.one_of(
    st.sampled_from(
        ["Do you?", "do  YOU?", " Yes", " No", "", " \r\n", "a\rb", "nan", '"', "\ud800", "\x00"]
    ),
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.integers(1, 150_000).map(lambda n: "long " * (n // 5)),
)
values = st.one_of(
    texts,
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.lists(texts, max_size=2),
    st.dictionaries(st.sampled_from(["concept 0", "a"]), texts, max_size=2),
)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """A good file with up to three wounds: a piece cut out, doubled, overwritten or put in."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 200)))
        piece = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=8), st.just(content[start:end])))
        kind = draw(st.sampled_from(["cut", "truncate", "insert", "overwrite"]))
        content = {
            "cut": content[:start] + content[end:],
            "truncate": content[:start],
            "insert": content[:start] + piece + content[start:],
            "overwrite": content[:start] + piece + content[start + len(piece) :],
        }[kind]
    return content


def json_files(rows: list[dict[str, Any]]) -> st.SearchStrategy[bytes]:
    """Lines of a good file, some with other values, columns that are gone, or no objects at all."""
    change = st.dictionaries(st.sampled_from([*rows[0], "other"]), values, max_size=2)
    fewer = st.sampled_from([*rows[0], ""])
    changed = st.builds(
        lambda row, new, gone: {k: v for k, v in (row | new).items() if k != gone},
        st.sampled_from(rows),
        change,
        fewer,
    )
    line = st.one_of(st.sampled_from(rows), changed, changed, values)
    return st.lists(line, max_size=5).map(jsonl)


def csv_files(rows: list[list[str]]) -> st.SearchStrategy[bytes]:
    """Rows of a good file, some with other texts or of another length, under a header of any kind."""
    header = st.one_of(
        st.just(list(HEADER)), st.permutations([*HEADER, "other"]), st.lists(texts, max_size=4)
    )
    row = st.one_of(
        st.sampled_from(rows), st.lists(texts, min_size=3, max_size=3), st.lists(texts, max_size=5)
    )
    return st.builds(_lenient_csv, st.lists(row, max_size=5), header)


def _lenient_csv(rows: list[list[str]], header: list[str]) -> bytes:
    return "\r\n".join(",".join(map(_quoted, row)) for row in [header, *rows]).encode(
        "utf-8", "surrogatepass"
    )


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    """A good table, one or two of whose columns are gone, of another type, or hold other values."""
    columns = axbench_columns(2, concepts=3, negatives=1)
    n = len(columns["input"])
    for _ in range(draw(st.integers(1, 2))):
        column = draw(st.sampled_from(list(columns)))
        kind = draw(
            st.sampled_from(
                [texts, st.none(), st.integers(-3, 4), st.floats(), st.booleans(), st.binary(max_size=3)]
            )
        )
        new = draw(st.lists(st.one_of(kind, st.none()), min_size=n, max_size=n))
        spare = draw(st.booleans())
        mixed = [
            a if spare and i % 3 else b for i, (a, b) in enumerate(zip(columns[column], new, strict=True))
        ]
        for candidate in (mixed, new):
            try:
                pyarrow.array(candidate)
            except (pyarrow.ArrowException, UnicodeError, OverflowError, TypeError):
                continue
            columns[column] = candidate
            break
        if draw(st.integers(0, 4)) == 0:
            columns.pop(column)
            columns.setdefault("input", [None] * n)
    return parquet(columns)


def ours(error: BaseException, *names: str) -> str:
    """'error', once it is clear that it is a plain one, raised by our code, and that it names the file."""
    assert type(error) is ValueError, repr(error)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    assert Path(last).is_relative_to(PACKAGE), last
    message = str(error)
    assert any(name in message for name in names), message[:300]
    assert len(message) < 1000, message[:300]
    return "error"


def check_examples(kept: list[Example], dropped: list[Dropped]) -> None:
    """Texts are texts, and every row is in one place only."""
    for example in kept:
        for text in (example.question, example.positive, *filter(None, [example.negative])):
            assert isinstance(text, str)
            assert text.strip()
            assert text.encode()
        assert example.positive != example.negative
    assert len({examples.question_key(e) for e in kept}) == len(kept)
    rows = [entry.row for entry in (*kept, *dropped)]
    assert len(set(rows)) == len(rows)
    assert all(entry.reason for entry in dropped)


def fuzz(strategy: st.SearchStrategy[bytes], times: int, run: Callable[[bytes], str]) -> None:
    """Run on that many inputs; both outcomes have to be among them, or the fuzz would test one thing only."""
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=times,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def inner(content: bytes) -> None:
        outcomes[run(content)] += 1

    inner()
    assert outcomes.total() >= times
    assert outcomes["error"] > times // 10, outcomes
    assert outcomes["rows"] > times // 100, outcomes


def read(reader: Callable[[bytes], tuple[list[Example], list[Dropped]]], name: str) -> Callable[[bytes], str]:
    def run(content: bytes) -> str:
        try:
            found = reader(content)
        except Exception as error:
            return ours(error, name)
        check_examples(*found)
        return "rows"

    return run


def test_psychopathy() -> None:
    rows = psychopathy_rows(6)
    files = st.one_of(json_files(rows), mutated(jsonl(rows)), st.binary(max_size=40))
    fuzz(files, 450, read(lambda content: examples.psychopathy(content, PSYCHOPATHY), PSYCHOPATHY))


def test_powerseeking() -> None:
    rows = power_rows(6)
    files = st.one_of(csv_files(rows), mutated(table_csv(rows, HEADER)), st.binary(max_size=40))
    fuzz(files, 450, read(lambda content: examples.powerseeking(content, TRAIN), TRAIN))


def test_axbench() -> None:
    good = parquet(axbench_columns(2, concepts=3, negatives=1))
    files = st.one_of(parquet_files(), mutated(good), st.binary(max_size=40))
    fuzz(files, 300, read(lambda content: examples.axbench(content, PARQUET, KNOWN, 1), PARQUET))


def test_concepts() -> None:
    def run(content: bytes) -> str:
        try:
            found = examples.concepts(content, METADATA)
        except Exception as error:
            return ours(error, METADATA)
        assert all(isinstance(c.text, str) and c.text.strip() and c.id == id_ for id_, c in found.items())
        return "rows"

    rows = metadata_rows(4)
    fuzz(st.one_of(json_files(rows), mutated(jsonl(rows))), 150, run)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"


def test_whole_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a folder to pairs: files of the real sizes with wounds, and every split of what is left."""
    good = made()

    def run(content: bytes) -> str:
        install(monkeypatch, folder, good | {TRAIN: content})
        try:
            parts = [load_dataset_pairs("paper/powerseeking", s, progress=False)[0] for s in SPLITS]
        except Exception as error:
            return ours(error, TRAIN, "usable rows")
        questions = [" ".join(pair.question.split()).casefold() for part in parts for pair in part]
        assert len(set(questions)) == len(questions)
        assert len(parts[2]) == 200
        assert json.dumps([vars(pair) for part in parts for pair in part])
        return "rows"

    monkeypatch.setattr("warnings.warn", lambda *args, **kwargs: None)
    fuzz(mutated(good[TRAIN]), 50, run)
    assert (folder / TEST).read_bytes() == good[TEST]
