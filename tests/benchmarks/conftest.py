"""Fixtures and options of the benchmarks; `make bench` runs them, `make test` does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from racing import Race, Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import splitkit as sk

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


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = config.stash[_TABLE].frame()
    if len(table):
        from report import markdown

        terminalreporter.section("beside splitkit")
        terminalreporter.write_line(markdown(table))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--record"):
        if exitstatus != 0:
            raise pytest.UsageError("nothing recorded: a benchmark failed.")
        from report import record

        record(session.config.stash[_TABLE].frame(), Path(__file__).resolve().parents[2])
