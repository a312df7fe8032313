"""Small files in the formats of the paper's data, and a registry that takes them for the real ones."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from splitkit.datasets.files import SOURCES, Source
from splitkit.storage import paths

PSYCHOPATHY = "psychopathy/psychopathy.jsonl"
TRAIN, TEST = "powerseeking/train.csv", "powerseeking/test.csv"
PARQUET, METADATA = "axbench_concept10/train_data.parquet", "axbench_concept10/metadata.jsonl"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def jsonl(rows: Sequence[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table_csv(rows: Sequence[Sequence[str]], header: Sequence[str]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([header, *rows])
    return stream.getvalue().encode()


def parquet(columns: Mapping[str, Any]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), sink)
    return sink.getvalue().to_pybytes()


def psychopathy_rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f'Would you say this?\n"Statement {i}"',
            "statement": f"Statement {i}",
            "label_confidence": 0.9,
            "answer_matching_behavior": " Yes" if i % 2 else " No",
            "answer_not_matching_behavior": " No" if i % 2 else " Yes",
        }
        for i in range(n)
    ]


def power_rows(n: int, start: int = 0) -> list[list[str]]:
    return [[f"Offer {i}, take it?\nSay.", f"I take {i}.", f'No, "{i}".'] for i in range(start, start + n)]


def axbench_columns(per_concept: int, concepts: int = 10, negatives: int = 4) -> dict[str, list[Any]]:
    ids = [-1] * negatives + [c for c in range(concepts) for _ in range(per_concept)]
    return {
        "input": [f"Do {i}." for i in range(len(ids))],
        "output": [f"Done {i}." for i in range(len(ids))],
        "output_concept": ["EEEEE" if c < 0 else f"concept {c}" for c in ids],
        "concept_genre": ["text"] * len(ids),
        "category": ["negative" if c < 0 else "positive" for c in ids],
        "dataset_category": ["instruction"] * len(ids),
        "concept_id": ids,
    }


def metadata_rows(concepts: int = 10) -> list[dict[str, Any]]:
    return [
        {
            "concept_id": c,
            "concept": f"concept {c}",
            "ref": "",
            "concept_genres_map": {f"concept {c}": ["text"]},
        }
        for c in range(concepts)
    ]


def made() -> dict[str, bytes]:
    """Every file, with a few more rows than the splits need."""
    header = ("question", "matching", "not_matching")
    return {
        PSYCHOPATHY: jsonl(psychopathy_rows(720)),
        TRAIN: table_csv(power_rows(620), header),
        TEST: table_csv(power_rows(200, start=10_000), header),
        PARQUET: parquet(axbench_columns(20)),
        METADATA: jsonl(metadata_rows()),
    }


STARTUP = """
import json, os
from splitkit.datasets import files
for name, sha256 in json.loads(os.environ["MADE_DATA"]).items():
    files.SOURCES[name] = files.Source(files.SOURCES[name].url, sha256)
"""
"""What a process that a test starts does first, so that it takes made files for the real ones, too."""


def install_everywhere(monkeypatch: pytest.MonkeyPatch, folder: Path, files: Mapping[str, bytes]) -> None:
    """`install`, here and in every process that is started from here."""
    install(monkeypatch, folder, files)
    (folder / "startup").mkdir()
    (folder / "startup" / "sitecustomize.py").write_text(STARTUP)
    path = [str(folder / "startup"), str(paths.ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("MADE_DATA", json.dumps({name: sha256(content) for name, content in files.items()}))


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files below `folder`, as SPLITKIT_DATA, and let the registry expect just them."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        monkeypatch.setitem(SOURCES, name, Source(SOURCES[name].url, sha256(content)))
    monkeypatch.setenv("SPLITKIT_DATA", str(folder))
