"""Pairs: what a list of them must be."""

import pytest

from splitkit.steering.pairs import Pair, require_pairs

GOOD = Pair("Who?", "Me.", "You.")


def test_good_pairs_are_kept_as_they_are() -> None:
    assert require_pairs((GOOD, GOOD)) == [GOOD, GOOD]


def test_an_empty_list_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        require_pairs([])


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (Pair("", "Me.", "You."), "row 1: the question"),
        (Pair(None, "Me.", "You."), "row 1: the question"),  # type: ignore[arg-type]
        (Pair("Who?", "  ", "You."), "row 1: the positive answer"),
        (Pair("Who?", "Me.", ""), "row 1: the negative answer"),
    ],
)
def test_a_missing_text_names_its_row(pair: Pair, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_pairs([GOOD, pair])


def test_wrong_types_name_their_row() -> None:
    with pytest.raises(TypeError, match="row 0 is a tuple"):
        require_pairs([("Who?", "Me.", "You.")])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="row 0: the question is a int"):
        require_pairs([Pair(3, "Me.", "You.")])  # type: ignore[arg-type]


USER = {"role": "user", "content": "Who?"}


@pytest.mark.parametrize(
    ("question", "error", "message"),
    [
        (USER, TypeError, "row 0: the question is one message, not a conversation: put it into a list"),
        ([{"role": "user"}], TypeError, r"has \['role'\] as message 0, which is"),
        ([USER | {"name": "me"}], TypeError, r"has \['content', 'name', 'role'\] as message 0"),
        (["Who?"], TypeError, "has str as message 0"),
        (
            [USER, {"role": "user", "content": [{"type": "text"}]}],
            TypeError,
            "message 1 whose role and content",
        ),
        ([USER, {"role": "assistant", "content": "Me"}], ValueError, "ends with the assistant's message"),
        ([USER | {"content": " "}], ValueError, "the question is missing or empty"),
        ([], ValueError, "the question is missing or empty"),
    ],
)
def test_conversations_that_are_none_name_their_row(question, error, message: str) -> None:
    with pytest.raises(error, match=message):
        require_pairs([Pair(question, "Me.", "You.")])


def test_a_conversation_is_a_pair_s_question() -> None:
    pair = Pair([{"role": "system", "content": ""}, USER], "Me.", "You.")
    assert require_pairs([pair]) == [pair] and len({pair, pair, GOOD}) == 2


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (GOOD, r"one Pair; pass a list of pairs, \[pair\]"),
        (None, "a NoneType, not a list of Pair"),
        ("Who? Me. You.", "a str, not a list of Pair"),
        ({"question": "Who?"}, "a dict, not a list of Pair"),
        (iter([GOOD]), "a list_iterator, not a list of Pair"),
    ],
)
def test_what_is_no_list_of_pairs_says_what_to_pass(pairs: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        require_pairs(pairs)  # type: ignore[arg-type]


def test_two_equal_answers_are_named_by_their_row() -> None:
    with pytest.raises(ValueError, match="row 1: both answers are the same, 'yes'"):
        require_pairs([Pair("q", "yes", "no"), Pair("q", "yes", "yes")])
