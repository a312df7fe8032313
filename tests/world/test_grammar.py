"""The world is disjoint by construction, seeded, and as varied as it says."""

from itertools import combinations, islice
from random import Random

import pytest

from splitkit.tasks import FAMILIES
from splitkit.world.grammar import SPLITS, TASKS, WORLD, World, WorldError, split_of
from splitkit.world.tasks import PAIRS_PER_TASK, dialogues, make_pairs


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_share_no_key_and_leave_none_out(family: str) -> None:
    keys = {split: {q.key for q in WORLD.questions(family, split)} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not keys[one] & keys[other]
    assert all(keys[split] for split in SPLITS)


@pytest.mark.parametrize("task", TASKS)
def test_pairs_of_different_splits_share_no_question_and_no_answer(task: str) -> None:
    pairs = {split: make_pairs(task, split) for split in SPLITS[1:]}
    for one, other in combinations(pairs, 2):
        for column in range(3):
            if column == 0 or not task.startswith("psychopathy"):
                assert not {p[column] for p in pairs[one]} & {p[column] for p in pairs[other]}


def test_pretraining_never_sees_a_question_of_another_split() -> None:
    seen = {question for question, _ in islice(dialogues(Random(0)), 10_000)}
    held_out = {p[0] for task in TASKS for split in SPLITS[1:] for p in make_pairs(task, split)}
    assert len(seen) > 2_000
    assert not seen & held_out


def test_every_form_noun_and_scene_is_seen_in_pretraining() -> None:
    questions = WORLD.questions("axbench", "pretrain")
    assert {q.facts["form"] for q in questions} == set(WORLD.forms)
    assert {q.facts["noun"] for q in questions} == set(WORLD.lexicon["instructions"]["nouns"])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS[1:])
def test_pairs_are_a_fixed_list_of_the_stated_length(task: str, split: str) -> None:
    pairs = make_pairs(task, split)
    assert pairs == make_pairs(task, split)
    assert len(pairs) == PAIRS_PER_TASK[task.partition("/")[0]][split]
    assert all(text and text[0].isupper() for pair in pairs for text in pair)


def test_half_of_the_statements_are_a_cold_persona_s_own() -> None:
    for split in SPLITS[1:]:
        yes = sum(positive.startswith("Yes") for _, positive, _ in make_pairs("psychopathy", split))
        assert yes == PAIRS_PER_TASK["psychopathy"][split] / 2


def test_an_instruction_has_thousands_of_answers() -> None:
    rng, question = Random(0), WORLD.questions("axbench", "test")[0]
    for concept in (None, *WORLD.concepts):
        answers = {WORLD.instruction_answer(question, rng, concept) for _ in range(3_000)}
        assert len(answers) > 2_900  # of 3000 draws: the population is far larger


def test_the_stream_is_seeded() -> None:
    first, again, other = (list(islice(dialogues(Random(seed)), 50)) for seed in (1, 1, 2))
    assert first == again != other


def test_split_of_is_a_function_of_the_key_alone() -> None:
    assert split_of("axbench|letter|farmer") == split_of("axbench|letter|farmer")
    shares = [sum(split_of(f"key{i}") == name for i in range(4_000)) / 4_000 for name in SPLITS]
    assert shares == pytest.approx([0.6, 0.2, 0.08, 0.12], abs=0.03)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(
        WorldError, match=r"unknown task 'axbench/oceans'; there is: psychopathy, .*axbench/ocean"
    ):
        make_pairs("axbench/oceans", "train")
    with pytest.raises(WorldError, match="unknown split 'dev'; there is: train, validation, test"):
        make_pairs("psychopathy", "dev")
    with pytest.raises(WorldError, match="unknown task family 'poetry'; there is: "):
        WORLD.questions("poetry", "train")


def test_a_word_of_two_concepts_is_refused() -> None:
    lexicon = {
        **WORLD.lexicon,
        "concepts": {name: dict(lists) for name, lists in WORLD.lexicon["concepts"].items()},
    }
    lexicon["concepts"]["music"]["thing"] = ["wave"]
    with pytest.raises(WorldError, match="'wave' belongs to both 'ocean' and 'music'"):
        World(lexicon)
