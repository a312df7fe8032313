"""Verdicts: each rule with a table that passes it and tables that do not."""

import math
from pathlib import Path

import pandas as pd
import pytest

from splitkit.runs.profiles import get_profile
from splitkit.runs.results import read_table
from splitkit.storage import paths
from splitkit.studies import verdicts
from splitkit.studies.verdicts import FORMS, Verdict

MODEL, TASK = "tiny-gemma2", "psychopathy"


def shapes(c2: list[bool | None], c3: list[bool | None]) -> pd.DataFrame:
    """One cell per entry, the forms in turn."""
    forms = [FORMS[i % 3] for i in range(len(c2))]
    frame = pd.DataFrame(
        {"form": forms, "c2": pd.Series(c2, dtype=object), "c3": pd.Series(c3, dtype=object)}
    )
    return frame.assign(model=MODEL, task=TASK)


def fits(curve: str, r2: list[float], task: str = TASK) -> pd.DataFrame:
    return pd.DataFrame({"model": MODEL, "task": task, "curve": curve, "r2": r2})


def test_claims_have_an_id_each() -> None:
    assert list(verdicts.CLAIMS) == [f"C{i}" for i in range(1, 13)]


def word(judged: list[Verdict]) -> str:
    assert len(judged) == 1
    assert judged[0].rule == verdicts.CLAIMS[judged[0].claim].rule
    return judged[0].verdict


@pytest.mark.parametrize(
    ("deviations", "expected"),
    [
        ([1e-14, 1e-15, 0.0], "holds"),
        ([1e-14, 1e-3, 0.0], "holds in part"),
        ([1.0, 1e-3, 1.0], "does not hold"),
        ([1e-14, math.nan, 0.0], "undecided"),
        ([1e-14, 1e-15], "undecided"),
    ],
)
def test_c1(deviations: list[float], expected: str) -> None:
    table = pd.DataFrame({"model": MODEL, "form": FORMS[: len(deviations)], "deviation": deviations})
    assert word(verdicts.decide_c1(table)) == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([True] * 8 + [False] * 2, "holds"),
        ([True] * 5 + [False] * 5, "holds in part"),
        ([True] * 4 + [False] * 6, "does not hold"),
        ([True] * 4 + [None] * 6, "holds"),
        ([None] * 3, "undecided"),
    ],
)
def test_c2_and_c3(column: list[bool | None], expected: str) -> None:
    other: list[bool | None] = [False] * len(column)
    assert word(verdicts.decide_c2(shapes(column, other))) == expected
    assert word(verdicts.decide_c3(shapes(other, column))) == expected


def test_c4_is_decided_by_the_weakest_form() -> None:
    every: list[bool | None] = [True] * 12
    assert word(verdicts.decide_c4(shapes(every, every))) == "holds"
    one_form_fails = shapes(every, every)
    one_form_fails.loc[one_form_fails["form"] == "lora", "c3"] = False
    judged = verdicts.decide_c4(one_form_fails)
    assert word(judged) == "does not hold"
    assert judged[0].ours == 0.0
    half = shapes(every, [True] * 6 + [False] * 6)
    assert word(verdicts.decide_c4(half)) == "holds in part"
    assert word(verdicts.decide_c4(half[half["form"] != "vector"])) == "undecided"


@pytest.mark.parametrize(
    ("r2", "expected"),
    [
        ([0.99, 0.96, 0.2], "holds"),
        ([0.99, 0.95, 0.2], "holds in part"),
        ([0.9, 0.2], "does not hold"),
        ([0.99, math.nan], "holds in part"),
        ([math.nan], "undecided"),
    ],
)
def test_c5(r2: list[float], expected: str) -> None:
    assert word(verdicts.decide_c5(fits("preference", r2))) == expected


@pytest.mark.parametrize(
    ("r2", "expected"),
    [
        ([0.99, 0.98, 0.2], "holds"),
        ([0.97, 0.97, 0.99], "holds in part"),
        ([0.9, 0.2], "does not hold"),
        ([math.nan], "undecided"),
    ],
)
def test_c6(r2: list[float], expected: str) -> None:
    assert word(verdicts.decide_c6(fits("utility", r2))) == expected


def split_fits(train: list[float], test: list[float], transfer: list[float]) -> pd.DataFrame:
    """Preference fits of one cell per entry."""
    parts = [
        pd.DataFrame({"split": split, "seed": range(len(r2)), "r2": r2})
        for split, r2 in (("train", train), ("test", test), ("transfer", transfer))
    ]
    keys = {"model": MODEL, "task": TASK, "form": "lora", "objective": "sft", "curve": "preference"}
    return pd.concat(parts, ignore_index=True).assign(**keys)


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        ([0.99] * 5, [0.96] * 4 + [0.1], "holds"),
        ([0.99] * 2, [0.96, 0.1], "holds in part"),
        ([0.99] * 3, [0.96, 0.1, math.nan], "does not hold"),
        ([0.951] * 2, [0.945] * 2, "holds"),
        ([0.99, 0.5], [0.99, 0.1], "holds"),
        ([0.5], [0.99], "undecided"),
    ],
)
def test_c7(train: list[float], test: list[float], expected: str) -> None:
    assert word(verdicts.decide_c7(split_fits(train, test, []))) == expected


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        ([0.99, 0.95, -12.0], "holds"),
        ([0.99, 0.9, -12.0], "holds in part"),
        ([0.99, 0.5, -12.0, math.nan], "does not hold"),
        ([math.nan], "undecided"),
    ],
)
def test_c8(transfer: list[float], expected: str) -> None:
    assert word(verdicts.decide_c8(split_fits([0.99], [0.1], transfer))) == expected


CONCEPTS = [f"axbench/{name}" for name in ("ocean", "music", "fire")]


def test_concepts_and_seeds_are_pooled() -> None:
    """A row per model and family; the share is over all cells, not over the concepts' verdicts."""
    every: list[bool | None] = [True] * 12
    parts = [shapes([shown] * n, [True] * n) for shown, n in ((True, 12), (False, 3), (False, 1))]
    pooled = pd.concat([part.assign(task=t) for part, t in zip(parts, CONCEPTS, strict=True)])
    table = pd.concat([pooled, shapes(every, every)])
    found = verdicts.decide_c2(table)
    assert [(v.task, v.verdict) for v in found] == [("axbench", "holds in part"), (TASK, "holds")]
    assert found[0].ours == pytest.approx(12 / 16)
    assert [v.task for v in verdicts.decide_c4(table)] == ["axbench", TASK]
    numbers = zip((0.99, 0.1, 0.1), CONCEPTS, strict=True)
    rows = pd.concat([fits("preference", [r2], task=concept) for r2, concept in numbers])
    assert verdicts.decide_c5(rows)[0].ours == pytest.approx(1 / 3)


def test_c7_compares_a_concept_with_itself() -> None:
    kept, lost = split_fits([0.99] * 4, [0.99] * 4, [0.95]), split_fits([0.99], [0.1], [0.1])
    table = pd.concat([kept.assign(task=CONCEPTS[0]), lost.assign(task=CONCEPTS[1])])
    (found,) = verdicts.decide_c7(table)
    assert (found.task, found.ours, found.verdict) == ("axbench", 0.8, "holds")
    assert verdicts.decide_c8(table)[0].ours == 0.5


def test_fits_of_test_sets_are_another_claims() -> None:
    both = pd.concat(
        [fits("utility", [0.99]).assign(split="train"), fits("utility", [0.1]).assign(split="test")]
    )
    assert word(verdicts.decide_c6(both)) == "holds"


def test_the_papers_number_stands_beside_ours() -> None:
    # Table 2, gemma, psychopathy: 0.97 0.99 0.92 0.83 0.97 0.93 0.99 and 0.98 0.96 0.98 0.99 0.97 0.99 0.99
    assert verdicts.decide_c5(fits("preference", [1.0]))[0].paper == "0.57"
    assert verdicts.decide_c6(fits("utility", [1.0]))[0].paper == "0.98"
    assert verdicts.decide_c6(fits("utility", [1.0], task="axbench/ocean"))[0].paper == "0.99"
    table = split_fits([0.99], [0.99], [0.99])
    # Tables 2 and 6: of 4 preference and 5 utility numbers above the bar on train, 2 and 4 are on test
    assert verdicts.decide_c7(table)[0].paper == "0.67"
    # Table 7, psychopathy: 0.83, -0.14 and 0.90 are not above 0.90
    assert verdicts.decide_c8(table)[0].paper == "0.79"


def test_bad_tables_and_words_are_refused() -> None:
    with pytest.raises(ValueError, match="r2"):
        verdicts.decide_c5(pd.DataFrame({"model": [], "task": [], "curve": []}))
    with pytest.raises(KeyError, match="C12"):
        Verdict("C13", MODEL, TASK, "holds", 1.0, "", "")
    with pytest.raises(ValueError, match="holds in part"):
        Verdict("C1", MODEL, TASK, "perhaps", 1.0, "", "")


def test_each_notebook_replaces_its_own_claims_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    profile = get_profile("embedded")
    verdicts.write_verdicts(verdicts.decide_c6(fits("utility", [0.99])), profile)
    verdicts.write_verdicts(verdicts.decide_c2(shapes([True], [True])), profile)
    verdicts.write_verdicts(verdicts.decide_c6(fits("utility", [0.5])), profile)
    table = read_table("verdicts")
    assert table["claim"].tolist() == ["C2", "C6"]
    assert table["verdict"].tolist() == ["holds", "does not hold"]
    with pytest.raises(ValueError, match="no verdicts"):
        verdicts.write_verdicts([], profile)
    with pytest.raises(ValueError, match="two verdicts"):
        verdicts.write_verdicts(verdicts.decide_c6(fits("utility", [0.5])) * 2, profile)
