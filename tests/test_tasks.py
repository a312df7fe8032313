"""Tasks: their pairs, their families, and a family of a reader's own."""

from random import Random

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import splitkit as sk
from splitkit.runs.world_answers import choose_strength, measure_strengths
from splitkit.steering.pairs import Pair
from splitkit.tasks import FAMILIES, Family, load_pairs
from splitkit.world.grammar import Question

ANIMALS = ("cat", "dog", "hen", "cow", "fox", "owl")


def toy_questions(task: str, split: str) -> list[Question]:
    questions = [Question("toy", f"toy|{name}", {"animal": name}) for name in ANIMALS]
    Random(split).shuffle(questions)
    return questions


def toy_pairs(task: str, split: str) -> list[tuple[str, str, str]]:
    names = [question.facts["animal"] for question in toy_questions(task, split)]
    return [(f"Your pet, a {name}?", f"My {name}!", f"No {name}.") for name in names]


TOY = Family(
    name="toy",
    tasks=("toy/pets",),
    make_pairs=toy_pairs,
    questions=toy_questions,
    score=lambda task, question, text: {"named": question.facts["animal"] in text},
    measure="named",
    unit=10.0,
    top=10.0,
    label="pets named (0-10)",
    tokens=4,
)


@pytest.mark.parametrize("model", ["qwen2"], indirect=True)
def test_a_family_is_one_record(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With it the family is loaded, trained on, swept and scored; without it, unknown."""
    with pytest.raises(ValueError, match="unknown task 'toy/pets'"):
        load_pairs("toy/pets")
    monkeypatch.setitem(FAMILIES, "toy", TOY)
    pairs = sk.load_pairs("toy/pets")
    assert set(pairs) == {Pair(f"Your pet, a {name}?", f"My {name}!", f"No {name}.") for name in ANIMALS}
    iv = sk.train(model, tokenizer, pairs, "vector", "sft", layer=1, epochs=1)
    assert sk.sweep(model, tokenizer, iv, pairs[:2], [0.0, 1.0])["preference"].notna().all()
    table = measure_strengths(model, tokenizer, iv, "toy/pets", "test", [0.0, 1.0], 3)
    assert list(table.columns) == ["m", "question", "text", "named", "score"]
    assert (table["score"] == 10.0 * table["named"]).all()
    assert choose_strength(table) in (0.0, 1.0)


def test_unknown_tasks_and_splits_list_the_choices() -> None:
    with pytest.raises(ValueError, match="psychopathy, powerseeking, axbench/"):
        load_pairs("sociopathy")
    with pytest.raises(ValueError, match="train, validation, test"):
        load_pairs("psychopathy", "dev")


def test_pairs_of_the_world_are_pairs() -> None:
    pairs = load_pairs("psychopathy")
    assert isinstance(pairs[0], Pair)
    assert pairs == load_pairs("psychopathy", split="train")
    assert {pair.question for pair in pairs}.isdisjoint(p.question for p in load_pairs("psychopathy", "test"))


def test_the_families_are_the_papers_in_its_order() -> None:
    assert list(FAMILIES) == ["psychopathy", "powerseeking", "axbench"]
    assert sk.task_family("paper/axbench/night") == sk.task_family("axbench/ocean") == "axbench"
    tasks = ["psychopathy", "axbench/ocean", "axbench/night"]
    assert sk.first_tasks(tasks) == {"axbench": "axbench/ocean", "psychopathy": "psychopathy"}
    for call in (sk.task_family, sk.load_pairs):
        with pytest.raises(
            (TypeError, ValueError), match="a task is named by a text|unknown task None; there are"
        ):
            call(None)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"a Profile is wanted, as get_profile\('smoke'\) gives it, not 'smoke'"
    ):
        sk.compute_cells("smoke")
