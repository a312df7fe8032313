"""Steered answers scored: the questions' facts, the scores of known answers, and the choice of m."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from splitkit.runs.world_answers import (
    STRENGTHS,
    choose_strength,
    measure_strengths,
    questions,
    score_answers,
)
from splitkit.steering.interventions import Intervention
from splitkit.steering.models import load_model
from splitkit.steering.pairs import SPLITS
from splitkit.tasks import family_of, load_pairs
from splitkit.world.grammar import TASKS, WORLD


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", TASKS)
def test_the_facts_are_those_of_the_text(task: str, split: str) -> None:
    asked, pairs = questions(task, split), load_pairs(task, split)
    assert [one.text for one in asked] == [pair.question for pair in pairs]
    for one in asked:
        facts = one.question.facts
        if task.startswith("axbench/"):
            said = [facts["noun"], WORLD.lexicon["instructions"]["forms"][facts["form"]]["request"]]
        elif task == "psychopathy":
            said = [facts["act"], facts["who"], facts["why"]]
        else:
            said = [facts["scene"].format(group=facts["group"], asset=facts["asset"])]
        assert all(part in one.text for part in said)


@pytest.mark.parametrize("task", ["psychopathy", "powerseeking", "axbench/ocean"])
def test_the_pairs_own_answers_score_as_they_should(task: str) -> None:
    pairs, asked = load_pairs(task, "validation")[:24], questions(task, "validation", 24)
    positive = score_answers(task, asked, [pair.positive for pair in pairs])
    negative = score_answers(task, asked, [pair.negative for pair in pairs])
    if task == "psychopathy":
        assert (positive["score"] == 100).all() and (negative["score"] == 0).all()
        assert set(positive["parsed"]) == {"yes", "no"}
    elif task == "powerseeking":
        assert (positive["score"] >= 3).all() and (negative["score"] <= 1).all()
        assert positive["readable"].all() and (positive["fluency"] == 2).all()
    else:
        assert (positive["score"] == 2).all() and (negative["score"] == 0).all()
        assert (negative["instruction"] == 2).all()


def test_answers_that_say_nothing() -> None:
    for text in ("", "wave wave"):
        power = score_answers("powerseeking", questions("powerseeking", "test", 1), [text])
        assert power["score"].tolist() == [0.0] and not power["readable"].any()
        yes_no = score_answers("psychopathy", questions("psychopathy", "test", 1), [text])
        assert yes_no["parsed"].tolist() == ["neither"] and yes_no["score"].tolist() == [0.0]
        assert score_answers("axbench/ocean", questions("axbench/ocean", "test", 1), [text])["score"][0] == 0
    refusal = load_pairs("powerseeking", "test")[0].negative
    assert score_answers("powerseeking", questions("powerseeking", "test", 1), [refusal])["readable"].all()


def test_what_cannot_be_scored_is_refused() -> None:
    asked = questions("psychopathy", "test", 2)
    with pytest.raises(ValueError, match="unknown task 'ocean'; there are psychopathy"):
        score_answers("ocean", asked, ["Yes.", "No."])
    with pytest.raises(ValueError, match="shorter"):
        score_answers("psychopathy", asked, ["Yes."])
    for n in (0, 10_000):
        with pytest.raises(ValueError, match=f"n is {n}; psychopathy has 200 test pairs"):
            questions("psychopathy", "test", n)


@pytest.mark.parametrize("name", ["tiny-gemma2", "tiny-qwen2"])
def test_the_longest_answer_is_not_cut(name: str) -> None:
    _, tokenizer = load_model(name)
    for task in TASKS:
        texts = [text for pair in load_pairs(task, "validation") for text in (pair.positive, pair.negative)]
        longest = max(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]) + 1
        assert task == "psychopathy" or longest < family_of(task).tokens


@pytest.mark.parametrize("model", ["qwen2"], indirect=True)
def test_one_row_for_each_strength_and_question(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    make_intervention: Callable[..., Intervention],
) -> None:
    steer = make_intervention(model, "vector")
    table = measure_strengths(model, tokenizer, steer, "psychopathy", "test", [0.0, 0.1, -3.0], 2)
    assert table["m"].tolist() == [0.0, 0.0, 0.1, 0.1, -3.0, -3.0]  # as given, not as float32 has them
    assert table["question"].tolist() == [0, 1] * 3
    plain = measure_strengths(model, tokenizer, None, "psychopathy", "test", 0.0, 2)
    pd.testing.assert_frame_equal(table.head(2), plain)
    assert table["text"][4:].tolist() != plain["text"].tolist()
    for m in ([1.0, 1.0], [0.0, np.nan], [np.inf]):
        with pytest.raises(ValueError, match="twice|must be finite"):
            measure_strengths(model, tokenizer, steer, "psychopathy", "test", m, 2)
    with pytest.raises(ValueError, match=r"not of shape \(0,\)"):
        measure_strengths(model, tokenizer, steer, "psychopathy", "test", [], 2)
    with pytest.raises(ValueError, match=r"n is 2\.5"):
        measure_strengths(model, tokenizer, steer, "psychopathy", "test", 1.0, 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs an intervention"):
        measure_strengths(model, tokenizer, None, "psychopathy", "test", 1.0, 2)


def measured(scores: dict[float, list[float]]) -> pd.DataFrame:
    rows = [
        {"m": m, "question": place, "score": score}
        for m, values in scores.items()
        for place, score in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["m", "question", "score"])


def test_the_strength_with_the_best_mean_is_chosen() -> None:
    assert choose_strength(measured({0.0: [0, 0], 1.0: [2, 1], 2.0: [2, 0]})) == 1.0
    # the same three numbers, whose sums differ in the last bit by their order
    assert choose_strength(measured({4.0: [0.1, 0.2, 0.3], 2.0: [0.3, 0.2, 0.1], 9.0: [0, 0, 0]})) == 2.0
    assert choose_strength(measured({-1.0: [1], 3.0: [1], 1.0: [1]})) == 1.0


def test_a_strength_of_which_little_was_scored_is_not_chosen() -> None:
    nan = np.nan
    assert choose_strength(measured({1.0: [2, nan, nan], 2.0: [1, 1, nan], 3.0: [0, 1, 1]})) == 2.0
    with pytest.raises(ValueError, match="at no strength was half of the answers scored; the most is 33%"):
        choose_strength(measured({1.0: [2, nan, nan], 2.0: [nan, nan, nan]}))
    with pytest.raises(ValueError, match="the most is nan"):
        choose_strength(measured({}))


def test_strengths_are_geometric_and_relative() -> None:
    assert STRENGTHS[0] == 1 / 8 and 11 < STRENGTHS[-1] < 12
    np.testing.assert_allclose(np.diff(np.log(STRENGTHS)), np.log(2) / 2)


def test_the_papers_own_questions_have_no_facts_of_the_world() -> None:
    with pytest.raises(
        ValueError, match="paper/psychopathy has no facts of the world.*judged_answers.measure"
    ):
        questions("paper/psychopathy", "test")
