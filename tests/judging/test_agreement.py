"""Agreement: specimens from broken to perfect, their exact scores, and the statistics of a comparison."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from splitkit.judging.agreement import agreement, compare, exact_scores, specimens
from splitkit.judging.judges import tabulate
from splitkit.judging.rubrics import Score
from splitkit.world.grammar import WORLD, Question

pytestmark = pytest.mark.filterwarnings("ignore:.*scores are missing")


class Measuring:
    """A judge that looks at the length of an answer alone."""

    def score(self, task: str, questions: Sequence[str], answers: Sequence[str]) -> pd.DataFrame:
        return tabulate([{"power": Score(float(len(answer) % 5))} for answer in answers])


def test_a_judge_is_compared_with_the_exact_scores() -> None:
    row = agreement(Measuring(), "powerseeking", n=60).iloc[0]
    assert row["rubric"] == "power" and 30 < row["n"] <= 60 and row["unscored"] == 0
    assert 0 < row["equal"] < 1
    assert row["spearman_low"] <= row["spearman"] <= row["spearman_high"] < 1
    with pytest.raises(ValueError, match="no rubric"):
        agreement(Measuring(), "psychopathy")


def test_specimens_span_the_scales() -> None:
    rows = specimens("axbench/winter")
    scores = exact_scores("axbench/winter", rows)
    assert list(scores.columns) == ["concept", "instruction", "fluency", "harmonic", "reason"]
    for name in ("concept", "instruction", "fluency"):
        shares = scores[name].value_counts(normalize=True)
        assert set(shares.index) == {0.0, 1.0, 2.0}
        assert shares.min() > 0.08
    power = exact_scores("powerseeking", specimens("powerseeking"))
    assert set(power["power"].dropna()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert power["power"].isna().any()
    assert specimens("axbench/winter") == rows != specimens("axbench/winter", seed=1)


def test_the_facts_of_a_specimen_are_those_of_its_words() -> None:
    for question, words, _ in specimens("axbench/winter"):
        request = WORLD.lexicon["instructions"]["forms"][question.facts["form"]]["request"]
        assert question.facts["noun"] in words and request in words


def test_an_answer_without_a_level_is_missing_and_counted() -> None:
    question = Question("powerseeking", "q", {})
    with pytest.warns(UserWarning, match="2 of 2 scores are missing: 2 unreadable"):
        table = exact_scores("powerseeking", [(question, "q", text) for text in ("Blub blub.", "")])
    assert table["power"].isna().all()
    assert table["reason"].tolist() == ["power: unreadable"] * 2


def table_of(power: list[float], reasons: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"power": power, "reason": reasons or [""] * len(power)})


def test_only_what_both_scored_is_compared() -> None:
    exact = table_of([0.0, 1, 2, 3, 4, 3.5, np.nan, 2])
    other = table_of([0.0, 1, 2, 3, 2, 4.0, 4, np.nan], [""] * 7 + ["power: unparsable (wrong id)"])
    row = compare(exact, other).iloc[0]
    assert (row["rubric"], row["n"], row["unscored"], row["unparsable"]) == ("power", 6, 1, 1)
    assert row["equal"] == pytest.approx(5 / 6)  # 3.5 is as near to 4 as whole numbers get
    assert row["mean_abs_difference"] == pytest.approx(2.5 / 6)
    assert row["spearman"] == pytest.approx(stats.spearmanr(exact["power"][:6], other["power"][:6]).statistic)
    assert row["spearman_low"] <= row["spearman"] <= row["spearman_high"] <= 1


def test_the_interval_covers_a_known_correlation() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(40):
        a = rng.normal(size=80)
        b = a + rng.normal(size=80)  # Pearson's is 1/sqrt(2): Spearman's is 6/pi asin(half of it)
        row = compare(table_of(a.tolist()), table_of(b.tolist())).iloc[0]
        covered += row["spearman_low"] <= 6 / np.pi * np.arcsin(0.5**1.5) <= row["spearman_high"]
    assert covered >= 33


def test_without_overlap_or_variation_it_is_undefined() -> None:
    nothing = table_of([np.nan] * 2, ["power: no reply (timed out)"] * 2)
    row = compare(table_of([1.0, 2.0]), nothing).iloc[0]
    assert (row["n"], row["unscored"], row["unparsable"]) == (0, 2, 0)
    assert row[["equal", "mean_abs_difference", "spearman", "spearman_low"]].isna().all()
    assert np.isnan(compare(table_of([1.0, 2.0]), table_of([3.0, 3.0])).iloc[0]["spearman"])
