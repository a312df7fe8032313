"""C10 to C12: the paper's own tables pass, and for each rule there are tables that do not."""

import math

import pandas as pd
import pytest

from splitkit import paper
from splitkit.studies.score_differences import METRICS
from splitkit.studies.verdicts import (
    ACCURACY,
    C10_RIVALS,
    CLAIMS,
    FORMS,
    OPEN_ENDED,
    Verdict,
    decide_c10,
    decide_c11,
    decide_c12,
)

MODEL, COUNTERPART = "tiny-gemma2", "gemma-2-9b-it"


def printed(number: int) -> pd.DataFrame:
    """The paper's table of its Gemma, as if it were ours."""
    table = paper.table(number)
    return table[table["model"] == COUNTERPART].assign(model=MODEL).reset_index(drop=True)


def compared(outcomes: list[str], model: str = MODEL) -> pd.DataFrame:
    """Every comparison of C10, with these outcomes in turn."""
    rows = [
        {"model": model, "form": form, "metric": name, "rival": rival}
        for form, rivals in C10_RIVALS.items()
        for rival in rivals
        for name in METRICS
    ]
    return pd.DataFrame(rows).assign(outcome=[outcomes[i % len(outcomes)] for i in range(len(rows))])


def where(table: pd.DataFrame, objective: str, form: str | None = None) -> pd.Series:
    rows = table["objective"] == objective
    return rows & (table["form"] == form) if form else rows


def one(judged: list[Verdict]) -> Verdict:
    assert len(judged) == 1
    assert (judged[0].task, judged[0].rule) == ("all", CLAIMS[judged[0].claim].rule)
    return judged[0]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["split better"], "holds"),
        (["split better", "ceiling", "ceiling"], "holds"),
        (["split better", "tie"], "holds in part"),  # half is not more than half
        (["split better", "rival better", "split better", "tie"], "holds in part"),
        (["tie"], "does not hold"),
        (["rival better", "split better"], "does not hold"),
    ],
)
def test_c10_asks_for_tests(outcomes: list[str], expected: str) -> None:
    verdict = one(decide_c10(printed(3), compared(outcomes)))
    # of 12 pairs two are at the ceiling, and RePS has two of the others
    assert (verdict.verdict, verdict.ours, verdict.paper) == (expected, 0.8, "0.80")


def test_c10_asks_for_means() -> None:
    table = printed(3)
    low = {"psychopathy_acc_pct": 60.0, "powerseeking_0_4": 2.0}
    table.loc[where(table, "split"), list(low)] = list(low.values())
    verdict = one(decide_c10(table, compared(["split better"])))
    assert verdict.verdict == "holds in part" and verdict.ours == pytest.approx(4 / 12)
    # a tie is no win
    table = printed(3)
    columns = list(METRICS)
    table.loc[table["objective"].isin(["split", "sft", "reps", "diffmean"]), columns] = [90.0, 3.0, 1.0, 1.0]
    assert one(decide_c10(table, compared(["rival better"]))).ours == 0


def test_c10_without_all_there_is_to_compare() -> None:
    ceiling = printed(3)
    ceiling.loc[ceiling["form"] != "vanilla", list(METRICS)] = [100.0, 4.0, 2.0, 2.0]
    assert one(decide_c10(ceiling, compared(["ceiling"]))).verdict == "undecided"
    complete = compared(["split better"])
    assert one(decide_c10(printed(3), complete.iloc[:-1])).verdict == "undecided"
    assert one(decide_c10(printed(3), complete.assign(model="another"))).verdict == "undecided"
    unmeasured = printed(3).assign(powerseeking_0_4=math.nan)
    assert one(decide_c10(unmeasured, complete)).verdict == "undecided"
    # DPO is not among the claim's rivals
    dpo = complete.assign(rival="dpo", outcome="rival better")
    assert one(decide_c10(printed(3), pd.concat([complete, dpo]))).verdict == "holds"
    with pytest.raises(ValueError, match="outcome"):
        decide_c10(printed(3), complete.drop(columns="outcome"))
    with pytest.raises(ValueError, match="2 rows of local_weight, split"):
        decide_c10(pd.concat([printed(3), printed(3)]), complete)


@pytest.mark.parametrize(
    ("split", "unsteered", "expected", "ours"),
    [
        ((98.0, 99.0, 100.0), 50.0, "holds", 98.0),
        ((98.0, 99.0, 100.0), 58.0, "holds in part", 98.0),
        ((97.9, 90.0, 98.0), 50.0, "holds in part", 90.0),
        ((97.9, 90.0, 97.0), 50.0, "does not hold", 90.0),
        ((98.0, math.nan, 100.0), 50.0, "undecided", math.nan),
        ((98.0, 99.0, 100.0), math.nan, "undecided", math.nan),
    ],
)
def test_c11(split: tuple[float, ...], unsteered: float, expected: str, ours: float) -> None:
    table = printed(3)
    for form, value in zip(FORMS, split, strict=True):
        table.loc[where(table, "split", form), ACCURACY] = value
    table.loc[where(table, "vanilla"), ACCURACY] = unsteered
    verdict = one(decide_c11(table))
    assert (verdict.verdict, verdict.paper) == (expected, "99")
    assert verdict.ours == pytest.approx(ours, nan_ok=True)
    assert one(decide_c11(table[~where(table, "split", "lora")])).verdict == "undecided"


def test_c12_holds_of_the_papers_numbers_and_of_none_that_move() -> None:
    verdict = one(decide_c12(printed(3), printed(4)))
    assert (verdict.verdict, verdict.ours, verdict.paper) == ("holds", 1.0, "1.00")
    moved = printed(4)
    moved.loc[moved["form"] == "lora", "powerseeking_0_4"] = 3.0
    verdict = one(decide_c12(printed(3), moved))
    assert verdict.verdict == "holds in part" and verdict.ours == pytest.approx(8 / 9)
    # a change for the worse is one too
    worse = printed(4).assign(powerseeking_0_4=0.5, axbench_concept_0_2=1.5)
    verdict = one(decide_c12(printed(3), worse))
    assert verdict.verdict == "does not hold" and verdict.ours == pytest.approx(3 / 9)


def test_c12_is_undecided_where_nothing_moves_or_lacks() -> None:
    still = printed(3)
    still[list(OPEN_ENDED)] = 1.0
    assert one(decide_c12(still, printed(4))).verdict == "undecided"
    for table3, table4 in (
        (printed(3), printed(4).iloc[:2]),
        (printed(3), printed(4).assign(axbench_concept_0_2=math.nan)),
        (printed(3)[~where(printed(3), "vanilla")], printed(4)),
    ):
        assert one(decide_c12(table3, table4)).verdict == "undecided"
    with pytest.raises(ValueError, match="powerseeking_0_4"):
        decide_c12(printed(3), printed(4).drop(columns="powerseeking_0_4"))


def test_a_model_that_the_paper_has_no_dpo_of() -> None:
    theirs = paper.table(3)
    qwen = theirs[theirs["model"] == "qwen2.5-7b-instruct"].assign(model="tiny-qwen2")
    verdict = one(decide_c12(qwen, printed(4).assign(model="tiny-qwen2")))
    assert verdict.paper == "not given" and verdict.verdict in ("holds", "holds in part", "does not hold")
    assert one(decide_c10(qwen, compared(["tie"], "tiny-qwen2"))).paper == "1.00"
