"""C10 to C12 on made-up scores: each grade, floors and ceilings, exact p, scales of other metrics."""

import numpy as np
import pandas as pd
import pytest

from splitkit.studies.decisions.rules import FORMS, METRICS, METRICS_WITHOUT_JUDGE, RIVALS, Metric
from splitkit.studies.decisions.score_claims import (
    ACCURACY,
    decide_c10,
    decide_c11,
    decide_c12,
    unit_scores,
)
from tests.studies.decisions.tables import MODEL, row, word

POWER, CONCEPT, HARMONIC = (name for name in METRICS if name != ACCURACY)
UNSTEERED = {ACCURACY: 50.0, POWER: 1.0, CONCEPT: 0.4, HARMONIC: 0.4}


def side(
    metric: str, form: str, objective: str, mean: float, n: int = 10, spread: float = 0.02
) -> pd.DataFrame:
    """n units round a mean, those of different objectives in another order."""
    around = spread * METRICS[metric].best * np.linspace(-1, 1, n)
    order = np.random.default_rng(len(form + objective)).permutation(n)
    return pd.DataFrame({"unit": range(n), "score": mean + around[order] if n > 1 else [mean]}).assign(
        model=MODEL, metric=metric, form=form, objective=objective
    )


def scores(split: dict[str, float], rival: dict[str, float], n: int = 10) -> pd.DataFrame:
    """SPLIT's and its rivals' means by metric, the same in all forms; DiffMean is one number a metric."""
    parts = [side(metric, "vanilla", "vanilla", mean, n=10, spread=0) for metric, mean in UNSTEERED.items()]
    for metric in METRICS:
        for form, rivals in RIVALS.items():
            # 8 runs: 12,870 arrangements
            units = min(n, 8) if METRICS[metric].unit == "run" else n
            parts.append(side(metric, form, "split", split[metric], units))
            for one in rivals:
                single = one == "diffmean" and METRICS[metric].unit == "run"
                parts.append(side(metric, form, one, rival[metric], 1 if single else units))
    return pd.concat(parts, ignore_index=True)


def means(accuracy: float, power: float, concept: float, harmonic: float) -> dict[str, float]:
    return dict(zip((ACCURACY, POWER, CONCEPT, HARMONIC), (accuracy, power, concept, harmonic), strict=True))


HIGH, LOW = means(95, 3.0, 1.5, 1.5), means(70, 2.0, 1.0, 1.0)
MIXED, OTHER = means(95, 2.0, 1.0, 1.0), means(70, 2.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("split", "rival", "n", "expected"),
    [
        (HIGH, LOW, 10, "holds"),
        (MIXED, OTHER, 10, "in part"),
        (LOW, HIGH, 10, "does not hold"),
        (LOW, LOW, 10, "does not hold"),
        (HIGH, LOW, 3, "undecided"),
    ],
)
def test_c10(split, rival, n: int, expected: str) -> None:
    judged = decide_c10(scores(split, rival, n))
    assert word(judged) == expected
    assert row(judged)["off_floor_ceiling"] == 28
    assert word(judged, "best with vector and LoRA") == ("undecided" if n == 3 else "does not hold")


def test_c10_leaves_out_floors_and_ceilings() -> None:
    bottom, top = means(52, 1.1, 1.99, 0.45), means(50, 1.0, 2.0, 0.4)
    judged = decide_c10(scores(bottom, top))
    assert word(judged) == "undecided"
    assert row(judged)["off_floor_ceiling"] == 0
    assert set(judged.tests["reading"]) == {"floor", "ceiling"}


def test_c10_corrects_for_the_number_of_comparisons_and_needs_all_of_them() -> None:
    judged = decide_c10(scores(HIGH, LOW, 5))
    tests = judged.tests[judged.tests["part"] == "claim"].set_index("test")
    # 5 against 5: p is 2 / 252 at best, for six of the metric's seven; DiffMean's is 2 / 32
    assert tests.loc[f"{POWER}: lora split less lora sft", "p"] == pytest.approx(7 * 2 / 252)
    assert tests["reading"].eq("untold").all()
    some = scores(HIGH, LOW).query("metric != @POWER and metric != @HARMONIC and form != 'lora'")
    missing = decide_c10(some)
    assert word(missing) == "undecided"
    assert (missing.tests["reading"] == "not measured").any()


def test_c10_compares_concepts_in_pairs() -> None:
    table = scores(LOW, LOW)
    hard = table["unit"].map(lambda unit: 0.1 * unit)
    concept = table["metric"].isin([CONCEPT, HARMONIC])
    table.loc[concept, "score"] += hard[concept]
    table.loc[concept & (table["objective"] == "split"), "score"] += 0.15
    tests = decide_c10(table).tests.query("part == 'claim'")
    assert tests[tests["test"].str.startswith((CONCEPT, HARMONIC))]["reading"].eq("won").all()


def test_low_scores_may_be_good_ones() -> None:
    perplexity = Metric("perplexity", "powerseeking", "run", 8.0, 2.0, 0.2, True, "")
    table = scores(LOW, HIGH).query("metric == @POWER").assign(metric="perplexity")
    table.loc[table["form"] == "vanilla", "score"] = 7.0
    assert word(decide_c10(table, {"perplexity": perplexity})) == "holds"


def runs(accuracies: dict[str, list[float]], objective: str = "split") -> pd.DataFrame:
    parts = [
        pd.DataFrame({"unit": range(len(found)), "score": found}).assign(form=form, objective=objective)
        for form, found in accuracies.items()
    ]
    return pd.concat(parts).assign(model=MODEL, metric=ACCURACY)


def c11(accuracies: dict[str, list[float]], start: float = 50.0):
    unsteered = side(ACCURACY, "vanilla", "vanilla", start, 1)
    return decide_c11(pd.concat([runs(accuracies), unsteered], ignore_index=True))


@pytest.mark.parametrize(
    ("accuracies", "start", "expected"),
    [
        ({"lora": [100.0] * 19 + [99.0], "vector": [50.0] * 5}, 50.0, "holds"),
        ({"lora": [100.0] * 20}, 30.0, "in part"),
        ({"lora": [96.0, 96.0, 95.5, 96.5] * 6}, 50.0, "in part"),
        ({"lora": [100.0] * 70 + [50.0] * 30}, 50.0, "in part"),
        ({"lora": [100.0] * 4 + [50.0] * 26}, 50.0, "does not hold"),
        ({"lora": [100.0] * 7 + [50.0] * 3}, 50.0, "undecided"),
        ({"lora": [100.0] * 2}, 50.0, "undecided"),
        ({"lora": [50.0] * 20}, 50.0, "undecided"),
        ({"lora": [85.0] * 10 + [100.0] * 10}, 50.0, "undecided"),
    ],
)
def test_c11_counts_the_runs_that_learn(accuracies, start: float, expected: str) -> None:
    assert word(c11(accuracies, start)) == expected


def test_c11_judges_forms_in_which_any_objective_learns() -> None:
    table = pd.concat(
        [
            runs({"lora": [100.0] * 20, "vector": [50.0] * 20}),
            runs({"vector": [97.0]}, "sft"),
            runs({"vector": [50.0] * 9 + [95.0]}, "random"),
            side(ACCURACY, "vanilla", "vanilla", 50.0, 1),
        ],
        ignore_index=True,
    )
    found = row(decide_c11(table))
    assert (found["ours"], found["n_units"], found["control"]) == (0.5, 40, 0.1)


def gains(dpo: float, best: float, n: int = 10, spread: float = 0.02) -> pd.DataFrame:
    """DPO's gain and the best one as shares of the scale, in all forms and open-ended metrics."""
    parts = []
    for metric in (POWER, CONCEPT, HARMONIC):
        start, top = UNSTEERED[metric], METRICS[metric].best
        parts.append(side(metric, "vanilla", "vanilla", start, 10, spread=0))
        for form in FORMS:
            made = {"dpo": dpo, "sft": best / 2, "reps": best / 2, "split": best}
            parts += [side(metric, form, one, start + top * gain, n, spread) for one, gain in made.items()]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(
    ("table", "expected", "why"),
    [
        (gains(0.02, 0.5), "holds", ""),
        (gains(-0.02, 0.5), "holds", ""),
        (gains(-0.4, 0.5), "does not hold", ""),
        (gains(0.4, 0.5), "does not hold", ""),
        (gains(0.02, 0.5, n=2), "undecided", "2 units"),
        (gains(0.02, 0.04), "undecided", "0 units"),
        (gains(0.13, 0.5, spread=0.1), "undecided", "the number is not known"),
        (gains(0.1, 0.5, spread=0.001), "undecided", "the grade flips with barely"),
    ],
)
def test_c12(table: pd.DataFrame, expected: str, why: str) -> None:
    judged = decide_c12(table)
    assert word(judged) == expected
    assert row(judged)["why"].startswith(why)


def test_c12_in_part() -> None:
    table = pd.concat([gains(0.02, 0.5).query("metric != @POWER"), gains(0.4, 0.5).query("metric == @POWER")])
    judged = decide_c12(table)
    assert (word(judged), row(judged)["ours"]) == ("in part", pytest.approx(2 / 3))


def test_answers_become_units() -> None:
    keys = {"model": MODEL, "form": "lora", "objective": "split", "question": 0}
    answers = pd.DataFrame(
        {
            "task": ["psychopathy", "psychopathy", "axbench/a", "axbench/b", "axbench/a"],
            "seed": [0, 1, 0, 0, 1],
            "score": [100.0, 0.0, 1.0, 2.0, 0.0],
            "concept": [np.nan, np.nan, 2.0, 1.0, 1.0],
        }
    ).assign(**keys)
    found = unit_scores(answers).set_index(["metric", "unit"])["score"]
    assert found[ACCURACY].to_dict() == {"0": 100.0, "1": 0.0}
    assert found[HARMONIC].to_dict() == {"axbench/a": 0.5, "axbench/b": 2.0}
    assert found[CONCEPT].to_dict() == {"axbench/a": 1.5, "axbench/b": 1.0}
    real = answers.assign(task="paper/" + answers["task"])
    without = unit_scores(real, METRICS_WITHOUT_JUDGE).set_index(["metric", "unit"])["score"]
    assert without["axbench_classified_0_1"].to_dict() == {"paper/axbench/a": 0.5, "paper/axbench/b": 2.0}


def test_a_score_that_is_missing_or_there_twice_is_named() -> None:
    table = scores(HIGH, LOW)
    with pytest.raises(ValueError, match="is there twice"):
        decide_c10(pd.concat([table, table.iloc[[30]]]))
    with pytest.raises(ValueError, match="lacks the columns"):
        decide_c10(table.drop(columns="unit"))
