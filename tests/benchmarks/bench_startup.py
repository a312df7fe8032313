"""Start-up: what importing splitkit and loading a model cost a fresh process."""

import re
import resource
import subprocess
import sys

import numpy as np
import pytest

from tests.benchmarks.racing import OURS, Table

WAYS = {
    "bare Python": "pass",
    "import splitkit": "import splitkit",
    "import torch": "import torch",
    "import torch, transformers": "import torch, transformers; transformers.PreTrainedModel",
    "load tiny-gemma2": "import splitkit; splitkit.load_model('tiny-gemma2')",
    "load tiny-gemma2 twice": "import splitkit as s; [s.load_model('tiny-gemma2') for _ in '12']",
}


@pytest.mark.parametrize("way", list(WAYS))
def test_startup(table: Table, rounds: int, way: str) -> None:
    seconds = [_child_seconds(WAYS[way]) for _ in range(rounds)]
    table.add(
        ("value", "<=", 1.0) if way == "import splitkit" else None,
        benchmark="start-up",
        model="",
        case=way,
        way=OURS,
        value=float(np.median(seconds)),
        unit="s CPU",
        share=1.0,
        rounds=rounds,
    )


def test_import_alone(table: Table, rounds: int) -> None:
    """`python -X importtime -c "import splitkit"`: the package's own line, everything it imports in it."""
    found = []
    for _ in range(rounds):
        command = [
            sys.executable,
            "-X",
            "importtime",
            "-c",
            "import splitkit, sys; assert 'torch' not in sys.modules",
        ]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        line = re.search(r"\|\s*(\d+) \| splitkit$", said, re.MULTILINE)
        assert line is not None
        found.append(int(line[1]) / 1e6)
    table.add(
        ("value", "<=", 1.0),
        benchmark="start-up",
        model="",
        case="import splitkit (-X importtime)",
        way=OURS,
        value=float(np.median(found)),
        unit="s wall",
        share=1.0,
        rounds=rounds,
    )


def _child_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
