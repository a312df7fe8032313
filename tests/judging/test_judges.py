"""Judges: the exact one reads every wording of the world, and agreement is what scipy and textbooks say."""

from random import Random

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from splitkit.judging.judges import (
    ExactJudge,
    agreement,
    asked,
    counts,
    judged,
    spearman,
    specimens,
    tabulate,
    weighted_kappa,
)
from splitkit.judging.rubrics import KINDS, Case, Score, missing
from splitkit.world import scoring, tasks
from splitkit.world.grammar import WORLD, WorldError


def test_every_wording_of_an_instruction_is_read_back() -> None:
    rng = Random(0)
    for split in ("train", "test"):
        for question in WORLD.questions("axbench", split):
            assert asked(WORLD.ask(question, rng)) == question
            assert asked(WORLD.ask(question, rng, concept=rng.choice(WORLD.concepts))) == question


@pytest.mark.parametrize(
    "text", ["", "Write a haiku.", "Write a letter to a farmer. And a poem.", "a letter to a farmer"]
)
def test_what_the_world_did_not_ask_is_named(text: str) -> None:
    with pytest.raises(WorldError, match="not an instruction of the embedded world"):
        ExactJudge().score("axbench/ocean", [text], ["Dear farmer."])


def test_the_exact_judge_gives_the_grammars_scores() -> None:
    pairs = tasks.make_pairs("axbench/ocean", "test")[:5]
    questions, answers = [q for q, _, _ in pairs] * 2, [p for _, p, _ in pairs] + [n for _, _, n in pairs]
    table = ExactJudge().score("axbench/ocean", questions, answers)
    assert list(table.columns) == ["concept", "instruction", "fluency", "harmonic", "reason"]
    expected = [scoring.score(a, asked(q), "ocean") for q, a in zip(questions, answers, strict=True)]
    for name in ("concept", "instruction", "fluency", "harmonic"):
        assert table[name].tolist() == [getattr(row, name) for row in expected]
    assert table["concept"].tolist()[5:] == [0.0] * 5
    assert (table["reason"] == "").all()
    assert ExactJudge().score("axbench/ocean", questions[:1], [""]).loc[0, "harmonic"] == 0
    with pytest.raises(WorldError, match="unknown concept 'whales'"):
        ExactJudge().score("axbench/whales", questions, answers)


def test_an_answer_without_a_level_is_missing_and_counted() -> None:
    answer = WORLD.power_answer(WORLD.questions("powerseeking", "test")[0], Random(0), 3)
    with pytest.warns(UserWarning, match="2 of 3 scores are missing: 2 unreadable"):
        table = ExactJudge().score("powerseeking", ["q"] * 3, [answer, "Blub blub.", ""])
    assert table["power"].tolist()[0] == 3
    assert table["power"].isna().tolist() == [False, True, True]
    assert table["reason"].tolist() == [
        "",
        "power: unreadable (no sentence of the grammar)",
        "power: unreadable (empty)",
    ]
    assert counts(table).loc["power", ["answers", "scored", "unreadable", "no reply"]].tolist() == [
        3,
        1,
        2,
        0,
    ]


@pytest.mark.filterwarnings("ignore:.*scores are missing")
def test_counts_tell_the_reasons_apart() -> None:
    rows = [
        {"concept": Score(2.0), "instruction": Score(1.0), "fluency": Score(2.0)},
        {
            "concept": missing("unparsable", "wrong id"),
            "instruction": Score(1.0),
            "fluency": missing("out of scale", "7, not 0-2"),
        },
        {
            "concept": missing("unparsable"),
            "instruction": missing("no reply", "status 500"),
            "fluency": Score(0.0),
        },
    ]
    table = tabulate(rows)
    assert table["harmonic"].tolist()[0] == 1.5
    assert table["harmonic"].isna().tolist() == [False, True, True]
    found = counts(table)
    assert list(found.columns) == ["answers", "scored", *KINDS]
    assert found.loc["concept"].tolist() == [3, 1, 2, 0, 0, 0, 0]
    assert found.loc["instruction", ["scored", "no reply"]].tolist() == [2, 1]
    assert found.loc["fluency", ["scored", "out of scale"]].tolist() == [2, 1]


def test_the_same_case_is_asked_once_and_an_empty_one_never() -> None:
    seen: list[Case] = []

    def ask(cases: list[Case]) -> dict[Case, Score]:
        seen.extend(cases)
        return {case: Score(1.0) for case in cases}

    said, empty = (Case("fluency", (("answer", text),)) for text in ("Hm.", ""))
    table = judged([{"fluency": said}, {"fluency": empty}, {"fluency": said}], ask)
    assert seen == [said]
    assert table["fluency"].tolist() == [1, 0, 1]


@pytest.mark.filterwarnings("ignore:.*scores are missing")
def test_specimens_span_the_scales() -> None:
    exact = ExactJudge()
    scores = exact.score(*specimens("axbench/winter"))
    for name in ("concept", "instruction", "fluency"):
        shares = scores[name].value_counts(normalize=True)
        assert set(shares.index) == {0.0, 1.0, 2.0}
        assert shares.min() > 0.08
    power = exact.score(*specimens("powerseeking"))
    assert set(power["power"].dropna()) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert power["power"].isna().any()
    assert specimens("axbench/winter") == specimens("axbench/winter") != specimens("axbench/winter", seed=1)
    with pytest.raises(ValueError, match="no rubric"):
        specimens("psychopathy")


def textbook_kappa(a: np.ndarray, b: np.ndarray, levels: int) -> float:
    """Cohen's kappa with quadratic weights, from the table of counts."""
    observed = np.zeros((levels, levels))
    np.add.at(observed, (a, b), 1 / len(a))
    i, j = np.indices(observed.shape)
    weights = (i - j) ** 2
    expected = np.outer(observed.sum(1), observed.sum(0))
    return 1 - (weights * observed).sum() / (weights * expected).sum()


def test_the_statistics_are_those_of_textbook_and_scipy() -> None:
    rng = np.random.default_rng(0)
    for levels in (3, 5):
        a = rng.integers(levels, size=60)
        b = np.clip(a + rng.integers(-1, 2, size=60), 0, levels - 1)
        assert weighted_kappa(a, b) == pytest.approx(textbook_kappa(a, b, levels))
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    constant = np.ones(5)
    assert np.isnan(weighted_kappa(constant, constant))
    assert np.isnan(spearman(constant, np.arange(5)))


def table_of(power: list[float], reasons: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"power": power, "reason": reasons or [""] * len(power)})


def test_agreement_counts_and_measures_only_what_both_scored() -> None:
    exact = table_of([0.0, 1, 2, 3, 4, 3.5, np.nan, 2])
    other = table_of([0.0, 1, 2, 3, 2, 4.0, 4, np.nan], [""] * 7 + ["power: unparsable (wrong id)"])
    row = agreement(exact, other).iloc[0]
    assert (row["rubric"], row["n"], row["unscored"], row["unparsable"]) == ("power", 6, 1, 1)
    assert row["equal"] == pytest.approx(5 / 6)  # 3.5 is as near to 4 as whole numbers get
    assert row["mean_abs_difference"] == pytest.approx(2.5 / 6)
    assert row["kappa_low"] <= row["kappa"] <= row["kappa_high"] <= 1
    assert row["spearman_low"] <= row["spearman"] <= row["spearman_high"] <= 1


def test_the_interval_covers_a_known_agreement() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(40):
        a = rng.normal(size=80)
        b = a + rng.normal(size=80)  # concordance 2 cov / (var a + var b) = 2 / 3
        row = agreement(table_of(a.tolist()), table_of(b.tolist())).iloc[0]
        covered += row["kappa_low"] <= 2 / 3 <= row["kappa_high"]
    assert covered >= 33


def test_agreement_without_overlap_is_undefined_and_of_other_answers_refused() -> None:
    nothing = agreement(
        table_of([1.0, 2.0]), table_of([np.nan] * 2, ["power: no reply (timed out)"] * 2)
    ).iloc[0]
    assert (nothing["n"], nothing["unscored"], nothing["unparsable"]) == (0, 2, 0)
    assert nothing[["equal", "mean_abs_difference", "spearman", "kappa", "kappa_low"]].isna().all()
    with pytest.raises(ValueError, match="not two tables of the same answers: 1 rows of power"):
        agreement(table_of([1.0]), table_of([1.0, 2.0]))
