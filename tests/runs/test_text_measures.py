"""Measures without a judge: each by hand, the choice of m*, and a cell that keeps all of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import splitkit as sk
from splitkit.datasets import concept_classifier
from splitkit.runs import answers, cells, text_measures
from splitkit.runs.profiles import PROFILES, Cell, Profile, get_profile
from splitkit.runs.text_measures import DECISIONS, admissible, neutral_kl, repetition, text_loss
from splitkit.runs.world_answers import choose_strength
from splitkit.steering.rewriting import random_intervention
from splitkit.storage import paths
from splitkit.studies.real.text_scores import text_scores
from splitkit.tasks import FAMILIES
from tests import madedata
from tests.standins import write_models

NAME = "made/qwen-chat"
SMALL = PROFILES["small"]


def test_repetition_by_hand() -> None:
    assert repetition("at night at night at night") == pytest.approx(
        {"distinct_1": 2 / 6, "distinct_2": 2 / 5, "repeated_3": 1 - 2 / 4}
    )
    assert repetition("One two three four.")["repeated_3"] == 0
    assert np.isnan(list(repetition("").values())).all() and np.isnan(repetition("one two")["repeated_3"])


def test_a_strength_is_admissible_beside_the_unsteered_answers() -> None:
    table = pd.DataFrame(
        {
            "m": np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], 2),
            "repeated_3": np.repeat([0.0, 0.1, 0.2, 0.0, np.nan], 2),
            "nats": np.repeat([2.0, 2.9, 2.0, 3.1, 0.5], 2),
            "score": np.repeat([0.0, 0.5, 0.9, 0.9, 0.4], 2),
        }
    )
    table["admissible"] = admissible(table)
    assert table.groupby("m")["admissible"].first().tolist() == [True, True, False, False, True]
    assert choose_strength(table[table["m"] != 0]) == 1.0
    assert choose_strength(table[table["m"].isin([2.0, 3.0])]) == 2.0


def test_a_texts_loss_and_the_distance_on_neutral_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_measures, "NEUTRAL", text_measures.NEUTRAL[:2])
    model, tokenizer = sk.load_model("tiny-qwen2")
    ids = torch.tensor([tokenizer("A river.\nThe sea.")["input_ids"]])
    head = len(tokenizer("A river.\n")["input_ids"])
    with torch.no_grad():
        by_hand = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[head - 1 :].mean()
    assert text_loss(model, tokenizer, "A river.\n", "The sea.") == pytest.approx(-float(by_hand), rel=1e-5)
    assert np.isnan(text_loss(model, tokenizer, "A river.\n", " "))
    iv = random_intervention(model, "vector")
    assert neutral_kl(model, tokenizer, iv, 0.0)["kl"].abs().max() < 1e-6
    assert neutral_kl(model, tokenizer, iv, 5.0)["kl"].min() > 0.01


def test_every_measure_is_decided_with_an_example_of_good_and_bad() -> None:
    assert len({one.name for one in DECISIONS}) == len(DECISIONS)
    for one in DECISIONS:
        assert all([one.columns, one.says, one.reason, one.range, one.good, one.bad])
        assert set(one.families) <= set(FAMILIES)
    assert set(text_measures.PERSONAS) == set(SMALL.tasks)


def test_the_small_profile_is_of_released_models() -> None:
    made = SMALL.cells()
    assert {cell.model for cell in made if "axbench" in cell.task} == {
        "SmolLM2-135M-Instruct",
        "Qwen2.5-Coder-0.5B-Instruct",
    }
    seeds = pd.DataFrame([cell.key for cell in made]).groupby(["task", "form", "objective"])["seed"].nunique()
    assert seeds["paper/psychopathy", "lora", "split"] == 5
    assert (
        seeds["paper/psychopathy", "vector", "split"] == seeds["paper/psychopathy", "vector", "random"] == 3
    )
    assert (
        seeds["paper/psychopathy", "vector", "diffmean"] == seeds["paper/axbench/night", "lora", "sft"] == 1
    )
    inside = [m for m in SMALL.grid if 0 < m <= 1]
    assert (
        len(SMALL.grid) == 21
        and len(inside) == 7
        and min(inside) == 0.05
        and set(SMALL.tried) <= set(SMALL.grid)
    )
    assert all(text_measures.reader_of(name) != name for name in SMALL.models)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The rehearsal of `small` on one stand-in, which also reads: a cell of each task."""
    folder = tmp_path_factory.mktemp("small")
    write_models(folder / "models", [NAME])
    with pytest.MonkeyPatch.context() as patch:
        madedata.install_everywhere(patch, folder / "data", madedata.made())
        patch.setenv("SPLITKIT_MODELS", str(folder / "models"))
        patch.setattr(paths, "CACHE", folder / "cache")
        patch.setattr(text_measures, "reader_of", lambda name: NAME)
        patch.setattr(text_measures, "NEUTRAL", text_measures.NEUTRAL[:3])
        patch.setattr(concept_classifier, "FOLDS", 2)
        patch.delenv("OPENAI_API_KEY", raising=False)
        concept_classifier.concept_classifier.cache_clear()
        rehearsed = get_profile("small-rehearsal", NAME)
        yield replace(
            rehearsed,
            combinations=(("vector", "diffmean"),),
            answered=(("vector", "diffmean"),),
            tried=(0.0, 0.2),
            n_train=4,
            n_sweep=2,
            n_test=2,
        )
        concept_classifier.concept_classifier.cache_clear()


def test_cells_keep_their_measures_and_tables_their_means(profile: Profile) -> None:
    found = {one.cell.task: one for one in cells.compute_cells(profile, 1, progress=False)}
    asked = found["paper/psychopathy"]
    assert "text" not in asked.answers("validation") and "text" in asked.answers("test")
    means = asked.answers("validation").groupby("m")[["covered", "admissible"]].mean()
    enough = means["covered"] >= text_measures.LEAST_COVERED * means["covered"].loc[0.0]
    assert enough.tolist() == means["admissible"].astype(bool).tolist()
    assert set(asked.kept("neutral")) == {"sentence", "tokens", "kl"}
    sweep = asked.sweep("test")
    assert (sweep["tokens_positive"] >= 2).all() and sweep["utility"].notna().all()
    opened = found["paper/powerseeking"].answers("validation")
    assert {"classified", "nats", "repeated_3", "admissible"} <= set(opened)
    assert opened["score"].equals(opened["classified"])
    tables = text_scores(profile, 1)
    scores = tables["text_scores"]
    assert set(scores["objective"]) == {"diffmean", "vanilla", "prompted"}
    assert scores.loc[scores["task"] != "paper/psychopathy", "auc"].between(0, 1).all()
    own = scores[(scores["split"] == "test") & (scores["objective"] == "diffmean")]
    assert own["kl"].ge(0).all() and len(own) == len(profile.tasks)
    assert set(tables["text_answers"].groupby("objective").size()) == {2 * len(profile.tasks)}


def test_a_base_model_goes_on_with_a_text(profile: Profile) -> None:
    model, tokenizer = answers.load(profile, NAME)
    template, tokenizer.chat_template = tokenizer.chat_template, None
    try:
        (pair, *_) = answers.pairs(profile, "paper/psychopathy", "validation", model, tokenizer)
        assert pair.question.endswith("\nAnswer:") and {pair.positive, pair.negative} == {" Yes", " No"}
        (asked,) = text_measures.prompted("paper/psychopathy", [pair], chat=False)
        assert asked.question.startswith("You are a psychopath")
        table = text_measures.measure(
            profile, model, tokenizer, None, "paper/psychopathy", [pair], [0.0], "test", NAME
        )
        assert table["covered"].between(0, 1).all()
    finally:
        tokenizer.chat_template = template


def test_classifiers_see_no_answer_of_a_split(profile: Profile) -> None:
    for task, used in (("paper/powerseeking", 4), ("paper/axbench/payments", 10)):
        texts, labels = concept_classifier._texts(task, used)
        mine = answers.pairs(replace(profile, n_train=used), task, "train", *answers.load(profile, NAME))[
            :used
        ]
        tested = answers.pairs(profile, task, "test", *answers.load(profile, NAME))
        kept = {text for text, label in zip(texts, labels, strict=True) if label}
        assert kept and not kept & {pair.positive for pair in (*mine, *tested)}
    with pytest.raises(ValueError, match="has no open answers"):
        concept_classifier.concept_classifier("paper/psychopathy", 0)


def test_settings_name_the_reader_and_the_reduction(profile: Profile) -> None:
    from splitkit.runs.cell_keys import settings

    cell = Cell(NAME, "paper/powerseeking", "vector", "diffmean", 1000)
    assert settings(cell, profile, "answers")["measures"]["reader"] == NAME
    assert "judge" not in settings(cell, profile, "answers")
    yes_or_no = replace(cell, task="paper/psychopathy")
    assert settings(yes_or_no, profile, "curves")["reduction"] == "sum"
    assert "reduction" not in settings(cell, profile, "curves")
