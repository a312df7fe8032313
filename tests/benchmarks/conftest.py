"""Fixtures and options of the benchmarks; `make bench` runs them, `make test` does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import splitkit as sk
from tests.benchmarks.racing import Race, Table

torch.set_num_threads(1)
_TABLE = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("splitkit benchmarks")
    group.addoption("--large", action="store_true", help="grow to what 24 GB of memory hold (an hour)")
    group.addoption("--rounds", type=int, default=5, help="rounds of each race (5)")
    group.addoption("--record", action="store_true", help="write data/benchmarks and figures/benchmarks.*")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = Table()


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[_TABLE]


@pytest.fixture
def race(benchmark: Any, table: Table, rounds: int) -> Race:
    return Race(benchmark, table, rounds)


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds"))


@pytest.fixture(scope="session")
def large(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--large"))


@pytest.fixture(params=list(sk.MODELS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def loaded(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return sk.load_model(name)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    table = config.stash[_TABLE].frame()
    if table.empty:
        return
    from tests.benchmarks.report import EXPECTED, markdown, record

    terminalreporter.section("beside splitkit")
    terminalreporter.write_line(markdown(table))
    if config.getoption("--record"):
        missing = [name for name in EXPECTED if name not in set(table["benchmark"])]
        if exitstatus != 0 or missing:
            terminalreporter.write_line(
                f"NOT RECORDED: only a whole run without failures is; not measured: {missing}"
            )
        else:
            record(table, Path(__file__).resolve().parents[2])
