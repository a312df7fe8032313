"""The paper's tables, and the join that lays ours beside them."""

import pandas as pd
import pytest

from splitkit import paper


def test_tables_are_those_of_the_paper() -> None:
    assert [len(paper.table(number)) for number in (1, 2, 3, 4, 6, 7)] == [3, 14, 22, 3, 14, 14]
    assert len(paper.official_hparams()) == 54
    with pytest.raises(KeyError, match=r"\[1, 2, 3, 4, 6, 7\]"):
        paper.table(5)


@pytest.mark.parametrize("number", [2, 6, 7])
def test_tidy_keeps_every_number(number: int) -> None:
    rows = paper.tidy(number)
    assert len(rows) == 14 * 6
    wide = paper.table(number).set_index(["model", "form", "objective"])
    for row in rows.itertuples():
        column = f"{str(row.curve)[:4]}_{row.task_family}"
        assert wide.loc[(row.model, row.form, row.objective), column] == row.r2
    # the printed averages, rounded by the paper, come from the same numbers
    means = rows[rows["curve"] == "preference"].groupby(["model", "form", "objective"])["r2"].mean()
    assert (means - wide["pref_avg"]).abs().max() < 0.0101


def test_tidy_refuses_other_tables() -> None:
    with pytest.raises(KeyError, match=r"2 \(train\)"):
        paper.tidy(3)


def test_beside_joins_by_family_and_keeps_what_the_paper_lacks() -> None:
    rows = [
        ("tiny-gemma2", "axbench/ocean", "vector", "sft", "preference", 0.90),
        ("tiny-gemma2", "axbench/ocean", "vector", "split", "preference", 0.95),
        ("tiny-qwen2", "psychopathy", "lora", "reps", "utility", 0.97),
    ]
    ours = pd.DataFrame(rows, columns=["model", "task", "form", "objective", "curve", "r2"])
    joined = paper.beside(ours, 2)
    assert joined["paper"].tolist()[::2] == [0.98, 0.98]
    assert pd.isna(joined["paper"][1])
    assert joined["difference"][0] == pytest.approx(-0.08)
    with pytest.raises(ValueError, match="curve"):
        paper.beside(ours.drop(columns="curve"), 2)
    with pytest.raises(KeyError, match="tiny-gemma2"):
        paper.beside(ours.assign(model="gpt"), 2)
