"""Data files: what is read, and where damage is said to be."""

import json
import sys

import pytest

from splitkit.datasets.readers import read_csv, read_jsonl, read_parquet, text, whole_number
from tests.madedata import jsonl, parquet, table_csv

LONG = "long " * 50_000


def test_jsonl_keeps_texts_as_they_are() -> None:
    texts = ["a\r\nb", "\u2028 line \x85 ends", "blank\n\nline", LONG, " Yes", "né"]
    content = jsonl([{"q": t, "more": 1} for t in texts]).replace(b"\n", b"\r\n") + b"\n\n"
    rows = read_jsonl(content, "f", ["q"])
    assert [text(row, "q", "f") for row in rows] == texts
    assert [number for number, _ in rows] == list(range(len(texts)))
    assert read_jsonl(b"\xef\xbb\xbf" + jsonl([{"q": "x"}]), "f", ["q"])[0][1]["q"] == "x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "f holds no rows"),
        (b"\n \n", "f holds no rows"),
        (b'{"q": "x"}\n{"q": ', "f, row 1: no JSON"),
        (b'{"q": "x"}\n\n[1]', "f, row 1: .* is no JSON object"),
        (b'{"q": "x"}\n{"r": "x"}', "f, row 1: there is no q; there is"),
        (b'{"q": "x"}\n{"q": "\xff"}', "f, line 2: no UTF-8"),
        (b"[" * 100_000, "f, row 0: no JSON"),
        (b'{"q": ' + b"9" * 5000 + b"}", "f, row 0: no JSON"),
    ],
)
def test_damaged_jsonl_says_where(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_jsonl(content, "f", ["q"])


def test_csv_keeps_texts_as_they_are() -> None:
    texts = ["a\r\nb", "a\rb", 'a "quoted" one', "a, b", "NA", "", "nan", "x" * 100_000]
    rows = read_csv(table_csv([[t, "y"] for t in texts], ["q", "r"]), "f", ["r", "q"])
    assert [values["q"] for _, values in rows] == texts
    assert text(rows[4], "q", "f") == "NA"
    assert text(rows[5], "q", "f") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "f holds no rows"),
        (b"q,r\n", "f holds no rows"),
        (b"q,s\n1,2\n", "f: there is no r; there is"),
        (b"q,r,q\n1,2,3\n", "f: q is there more than once"),
        (b"q,r\n1,2\n1\n", "f, row 1: 1 values under 2 columns"),
        (b"q,r\n1,2,3\n", "f, row 0: 3 values under 2 columns"),
        (b'q,r\n1,2\n"1,2\n', r"f, row 1 \(line 3\): no CSV"),
        (b'q,r\n1,"2"x\n', "f, row 0 .*no CSV"),
        (b"q,r\n1,2\n\xe9,2\n", "f, line 3: no UTF-8"),
        (b"q,r\n" + b"x" * 200_000 + b",2\n", "f, row 0 .*field larger than field limit"),
    ],
)
def test_damaged_csv_says_where(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_csv(content, "f", ["q", "r"])


def test_parquet_gives_python_values() -> None:
    content = parquet({"q": ["a\r\n", None, LONG], "id": [1, None, 3], "more": [[1], [2], []]})
    rows = read_parquet(content, "f", ["q", "id"])
    assert [text(row, "q", "f") for row in rows] == ["a\r\n", None, LONG]
    assert [whole_number(row, "id", "f") for row in rows] == [1, None, 3]
    assert set(rows[0][1]) == {"q", "id"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "f is no parquet file"),
        (b"PAR1 and then nothing PAR1", "f is no parquet file"),
        (parquet({"q": ["x"] * 9})[:-20], "f is no parquet file"),
        (parquet({"r": ["x"]}), "f: there is no q"),
        (parquet({"q": []}), "f holds no rows"),
    ],
)
def test_damaged_parquet_says_so(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_parquet(content, "f", ["q"])


def test_without_pyarrow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install '\.\[paper\]'"):
        read_parquet(b"", "f", ["q"])


@pytest.mark.parametrize("absent", [None, float("nan"), "", " \r\n\t"])
def test_an_absent_text_is_none(absent: object) -> None:
    assert text((3, {"q": absent}), "q", "f") is None


@pytest.mark.parametrize("wrong", [1, True, ["x"], {"x": 1}, b"x", 0.5])
def test_what_is_no_text_names_its_row(wrong: object) -> None:
    with pytest.raises(ValueError, match=rf"f, row 3: q is .*, a {type(wrong).__name__}, not a text"):
        text((3, {"q": wrong}), "q", "f")


def test_half_a_character_names_its_row() -> None:
    with pytest.raises(ValueError, match="f, row 3: q is no valid Unicode"):
        text((3, {"q": json.loads(r'"\ud800"')}), "q", "f")


def test_whole_numbers() -> None:
    assert whole_number((0, {"n": 3.0}), "n", "f") == 3
    assert whole_number((0, {"n": float("nan")}), "n", "f") is None
    for wrong in (True, "3", 0.5, float("inf"), [3]):
        with pytest.raises(ValueError, match="f, row 0: n is .*, not a whole number"):
            whole_number((0, {"n": wrong}), "n", "f")
