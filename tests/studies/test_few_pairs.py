"""Few pairs: another concept than the searched one, the recorded settings, as many steps as with 64 pairs."""

from dataclasses import replace

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from splitkit.runs.cell_keys import hparams
from splitkit.runs.profiles import AXBENCH, PROFILES
from splitkit.studies import few_pairs


def test_two_pairs_and_as_many_steps() -> None:
    few = few_pairs.few_pairs_profile(PROFILES["embedded"])
    assert not set(AXBENCH[:3]) & set(few.tasks) and len(few.tasks) == few_pairs.CONCEPTS
    assert len(few.cells()) == 2 * 5 * 8 and not any(few.swept(cell) for cell in few.cells())
    for cell in few.cells():
        assert few.size("train", cell.task) == 2
        settings, recorded = hparams(cell, few), hparams(cell, PROFILES["embedded"])
        steps = settings["epochs"] * 2 / settings["batch_size"]
        assert steps == 32 == 4 * 64 / recorded["batch_size"]
        assert {**settings, "epochs": 0, "batch_size": 0} == {**recorded, "epochs": 0, "batch_size": 0}


def test_a_small_profile_keeps_what_it_has() -> None:
    few = few_pairs.few_pairs_profile(PROFILES["smoke"])
    assert few.tasks == ("axbench/ocean",) and ("vector", "split") in few.answered
    with pytest.raises(ValueError, match="no concept"):
        few_pairs.few_pairs_profile(replace(PROFILES["smoke"], tasks=("psychopathy",)))


def test_a_test_over_concepts_sees_how_few_they_are() -> None:
    rows = [
        {
            "model": "a",
            "form": "lora",
            "task": f"axbench/{i}",
            "objective": objective,
            "score": score + i / 10,
        }
        for i in range(3)
        for objective, score in (("split", 1.0 + 0.1 * i), ("sft", 0.5), ("reps", 1.0))
    ]
    tests = few_pairs.concept_tests(pd.DataFrame(rows)).set_index("rival")
    assert tests["concepts"].tolist() == [3, 3] and tests.loc["sft", "difference"] == pytest.approx(0.6)
    expected = ttest_1samp([0.5, 0.6, 0.7], 0).pvalue
    assert tests.loc["sft", "p"] == pytest.approx(expected) and tests.loc["reps", "p"] > 0.1
    one = few_pairs.concept_tests(pd.DataFrame(rows[:3]))
    assert one["p"].isna().all() and one["concepts"].eq(1).all()
