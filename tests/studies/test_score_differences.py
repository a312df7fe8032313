"""Intervals and paired differences: known means and winners, ties, the ceiling, tables that lack rows."""

import math

import numpy as np
import pandas as pd
import pytest

from splitkit.studies.score_differences import METRICS, differences, intervals

MODEL = "tiny-gemma2"


def answered(
    kind: tuple[str, str], values: np.ndarray | list[float], task: str = "powerseeking", seeds: int = 1
) -> pd.DataFrame:
    """The same scores for each seed; values (question,) or (seed, question)."""
    grid = np.broadcast_to(np.atleast_2d(np.asarray(values, dtype=float)), (seeds, np.shape(values)[-1]))
    rows = pd.DataFrame(grid).rename_axis("seed").reset_index()
    long = rows.melt(id_vars="seed", var_name="question", value_name="score")
    concept = long["score"] if task.startswith("axbench") else math.nan
    return long.assign(model=MODEL, task=task, form=kind[0], objective=kind[1], concept=concept)


def test_a_mean_and_its_interval_are_those_of_statistics() -> None:
    values = np.random.default_rng(0).normal(2, 1, 400)
    row = intervals(answered(("lora", "sft"), values)).iloc[0]
    assert row["mean"] == pytest.approx(values.mean()) and (row["seeds"], row["n"]) == (1, 400)
    error = 1.96 * values.std() / 20
    assert row["low"] == pytest.approx(values.mean() - error, abs=0.02)
    assert row["high"] == pytest.approx(values.mean() + error, abs=0.02)
    assert (row["metric"], row["family"]) == ("powerseeking_0_4", "powerseeking")


def test_seeds_that_differ_widen_the_interval() -> None:
    same = answered(("lora", "sft"), np.full(50, 2.0), seeds=3)
    assert intervals(same)[["mean", "low", "high"]].to_numpy().tolist() == [[2.0, 2.0, 2.0]]
    spread = answered(("lora", "sft"), np.array([[1.0], [2.0], [3.0]]) * np.ones(50), seeds=3)
    row = intervals(spread).iloc[0]
    assert (row["mean"], row["low"], row["high"], row["seeds"]) == (2.0, 1.0, 3.0, 3)


def test_concepts_weigh_the_same_and_are_drawn() -> None:
    answers = pd.concat(
        [
            answered(("lora", "sft"), np.zeros(30), "axbench/ocean"),
            answered(("lora", "sft"), np.full(10, 2.0), "axbench/music"),
        ]
    )
    table = intervals(answers).set_index("metric")
    assert list(table.index) == ["axbench_concept_0_2", "axbench_harmonic_0_2"]
    assert table[["mean", "low", "high"]].to_numpy().tolist() == [[1.0, 0.0, 2.0]] * 2
    assert table["n"].tolist() == [40, 40]


@pytest.mark.parametrize(
    ("gain", "outcome"), [(0.5, "split better"), (-0.5, "rival better"), (0.0, "tie"), (0.02, "tie")]
)
def test_outcomes(gain: float, outcome: str) -> None:
    random = np.random.default_rng(1)
    rival = random.uniform(0.5, 2.5, (3, 60))
    split = rival + gain + random.normal(0, 0.4, (3, 60)) * (gain != 0)
    answers = pd.concat(
        [answered(("lora", "split"), split, seeds=3), answered(("lora", "sft"), rival, seeds=3)]
    )
    row = differences(answers).iloc[0]
    assert row["outcome"] == outcome and row["rival"] == "sft"
    assert row["difference"] == pytest.approx(split.mean() - rival.mean())
    assert row["low"] <= row["difference"] <= row["high"]
    assert (row["p"] < 0.05) == (outcome != "tie")
    if gain == 0:
        assert (row["low"], row["high"], row["p"]) == (0, 0, 1)


def test_pairing_sees_what_unpaired_intervals_do_not() -> None:
    hard = np.random.default_rng(2).uniform(0, 3.5, 40)
    answers = pd.concat([answered(("lora", "split"), hard + 0.1), answered(("lora", "sft"), hard)])
    table = intervals(answers).set_index("objective")
    assert table.loc["split", "low"] < table.loc["sft", "high"]
    assert differences(answers)["outcome"].tolist() == ["split better"]


def test_only_rivals_of_the_same_form_and_diffmean_by_its_one_seed() -> None:
    two = np.array([[2.0], [2.5], [3.0]]) * np.ones(20)
    kinds = [("vector", "split"), ("vector", "reps"), ("vector", "dpo"), ("lora", "sft"), ("lora", "split")]
    answers = [answered(kind, two, seeds=3) for kind in kinds]
    answers += [answered(("vector", "diffmean"), np.ones(20)), answered(("vanilla", "vanilla"), np.ones(20))]
    table = differences(pd.concat(answers))
    assert set(zip(table["form"], table["rival"], strict=True)) == {
        ("vector", "reps"),
        ("vector", "dpo"),
        ("vector", "diffmean"),
        ("lora", "sft"),
    }
    row = table.set_index("rival").loc["diffmean"]
    assert (row["difference"], row["low"], row["high"]) == (1.5, 1.0, 2.0)


def test_nothing_can_be_seen_at_the_ceiling() -> None:
    top = METRICS["psychopathy_acc_pct"].top
    nearly = np.full(100, top)
    nearly[0] = 0
    lower = np.full(100, top)
    lower[:10] = 0
    answers = [
        answered((form, objective), values, "psychopathy")
        for form, rival in (("lora", nearly), ("vector", lower))
        for objective, values in (("split", np.full(100, top)), ("sft", rival))
    ]
    table = differences(pd.concat(answers)).set_index("form")
    assert table["outcome"].to_dict() == {"lora": "ceiling", "vector": "split better"}
    # both equal, but not near the top
    low = pd.concat([answered(("lora", one), np.full(9, 98.0), "psychopathy") for one in ("split", "sft")])
    assert differences(low)["outcome"].tolist() == ["tie"]


def test_the_same_numbers_each_time_and_in_any_order() -> None:
    random = np.random.default_rng(3)
    kinds = (("lora", "split"), ("lora", "sft"))
    answers = pd.concat([answered(kind, random.uniform(0, 4, (3, 30)), seeds=3) for kind in kinds])
    shuffled = answers.sample(frac=1, random_state=0)
    key = ["form", "rival"]
    pd.testing.assert_frame_equal(
        differences(answers).sort_values(key), differences(shuffled).sort_values(key), check_exact=True
    )


def test_tables_that_cannot_be_compared() -> None:
    good = pd.concat(
        [answered(("lora", one), np.ones(5), seeds=2) for one in ("split", "sft")], ignore_index=True
    )
    cases = {
        "lacks the columns .'concept'": good.drop(columns="concept"),
        "is empty": good.iloc[:0],
        "scored twice.*'question': 0": pd.concat([good, good.iloc[:1]]),
        "lora, sft, seed 1: 1 of 5 answers to powerseeking are missing": good.iloc[:-1],
        "score is NaN in .*'seed': 0": good.assign(score=good["score"].where(good.index > 0)),
        "SPLIT and one of": good[good["objective"] == "sft"],
    }
    for message, table in cases.items():
        with pytest.raises(ValueError, match=message):
            differences(table)
    unjudged = answered(("lora", "split"), np.ones(5), "axbench/ocean").assign(concept=math.nan)
    with pytest.raises(ValueError, match="concept is NaN"):
        intervals(unjudged)
