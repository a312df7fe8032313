"""Pairs from files and tables: the same pairs from each, and errors that name row and column."""

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import splitkit as sk
from splitkit.steering.own_pairs.reading import read_pairs

TALK = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Any news?"}]
ROWS: list[dict[str, Any]] = [
    {"asked": "How are you?", "glad": "Splendid, really!", "sad": 'He said: "awful"; twice,\nthen left.'},
    {"asked": TALK, "glad": "We won.", "sad": "We lost."},
]
PAIRS = [sk.Pair(row["asked"], row["glad"], row["sad"]) for row in ROWS]
NAMES = {"question": "asked", "positive": "glad", "negative": "sad"}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def cells(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}


def test_the_same_pairs_from_every_source(tmp_path: Path) -> None:
    table = pd.DataFrame(ROWS)
    lines = "\n\n".join(json.dumps(row) for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8-sig")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    for name, mark in (("a.csv", ","), ("b.csv", ";"), ("a.tsv", "\t")):
        pd.DataFrame(map(cells, ROWS)).assign(other=1).to_csv(tmp_path / name, index=False, sep=mark)
    sources = [ROWS, table, iter(ROWS), *sorted(tmp_path.iterdir())]
    assert len(sources) == 8
    for source in sources:
        assert read_pairs(source, **NAMES) == PAIRS, source
    # a conversation may be Parquet's array of dicts, which is what pandas makes of it
    pytest.importorskip("pyarrow")
    folder = tmp_path / "parquet"
    folder.mkdir()
    pd.DataFrame({"asked": [TALK], "glad": ["We won."], "sad": ["We lost."]}).to_parquet(folder / "a.parquet")
    assert read_pairs(str(folder / "a.parquet"), **NAMES) == PAIRS[1:]


def test_answers_may_be_whole_conversations() -> None:
    row = {"chosen": [*TALK, answer("We won.")], "rejected": [*TALK, answer("We lost.")]}
    for given in (
        row,
        {**row, "question": TALK},
        {"question": TALK, "chosen": [answer("We won.")], "rejected": "We lost."},
    ):
        question = "question" if "question" in given else None
        assert read_pairs([given], question=question, positive="chosen", negative="rejected") == PAIRS[1:]


def test_parquet_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyarrow"):
        read_pairs(tmp_path / "a.parquet")


GOOD = {"question": "q", "positive": "a", "negative": "b"}


@pytest.mark.parametrize(
    "row, said",
    [
        ({"q": "q", "positive": "a", "negative": "b"}, "row 1 has no column 'question'; it has 'q', 'pos"),
        ({**GOOD, "positive": None}, "row 1, column 'positive' is empty"),
        ({**GOOD, "negative": float("nan")}, "row 1, column 'negative' is empty"),
        ({**GOOD, "negative": 3}, "row 1, column 'negative' holds a int, 3"),
        ({**GOOD, "positive": "  "}, "row 1, column 'positive': the answer is empty"),
        ({**GOOD, "question": ""}, "row 1, column 'question': the question is empty"),
        ({**GOOD, "question": [{"role": "user"}]}, "row 1, column 'question': the question has"),
        ({**GOOD, "positive": "b"}, "row 1: columns 'positive' and 'negative' hold the same answer"),
        (
            {**GOOD, "positive": TALK},
            "row 1, column 'positive': the conversation ends with a message of 'user'",
        ),
        ({**GOOD, "positive": ["a"]}, "row 1, column 'positive': an answer is a text or a list of messages"),
        ({**GOOD, "positive": [*TALK, answer("a")]}, "its conversation is not that of column 'question'"),
    ],
)
def test_what_is_wrong_with_a_row(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_pairs([GOOD, row])


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("a.txt", "", "a.txt has an ending that is not read"),
        ("a.csv", "", "no row in it"),
        ("a.csv", "question,positive,negative\nq,a,b\nq,a,b,c\n", "row 1 of a.csv has 4 cells, the header 3"),
        ("a.csv", "question,question,positive\nq,a,b\n", "two columns 'question'"),
        ("a.jsonl", '{"question": "q"\n', "a.jsonl, line 1 is not JSON"),
        ("a.json", "{}", "a.json holds a dict"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        read_pairs(tmp_path / name)


def test_what_is_no_table(tmp_path: Path) -> None:
    class Splits(dict[str, Any]):
        @property
        def column_names(self) -> dict[str, list[str]]:
            return {"train": ["question"]}

    for source, said in (
        (3, "a int is no table"),
        (GOOD, "a dict is no table"),
        (Splits(train=[]), "splits train"),
    ):
        with pytest.raises(TypeError, match=said):
            read_pairs(source)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="row 0 is a str"):
        read_pairs(["q"])  # type: ignore[list-item]
    with pytest.raises(FileNotFoundError, match="no file"):
        read_pairs(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes("question\nä".encode("latin-1"))
    with pytest.raises(ValueError, match="not in UTF-8"):
        read_pairs(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="columns of their own"):
        read_pairs([GOOD], positive="negative")
    with pytest.raises(ValueError, match="the answer alone"):
        read_pairs([GOOD], question=None)
