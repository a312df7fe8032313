"""Examples: rows of the paper's data files with all their texts; the others are left out, with a reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from splitkit.datasets.readers import Row, read_csv, read_jsonl, read_parquet, text, whole_number

YES_NO = {"Yes", "No"}
NO_CONCEPT = -1
"""The concept_id of AxBench's rows that belong to no concept."""


@dataclass(frozen=True)
class Example:
    """A question and its answers, and where they are from. AxBench has no negative: a model's is to come."""

    file: str
    row: int
    question: str
    positive: str
    negative: str | None = None


@dataclass(frozen=True)
class Dropped:
    """A row that is left out, and why."""

    file: str
    row: int
    reason: str


@dataclass(frozen=True)
class Concept:
    """A concept of AxBench; `genre` is what its instructions are about (text, code or math)."""

    id: int
    text: str
    genre: str


Kept = tuple[list[Example], list[Dropped]]


def psychopathy(content: bytes, name: str) -> Kept:
    """Statements to agree with or not; the positive answer is the one that a psychopath would give.

    The file's answers " Yes" and " No" lose their leading blank: it is there to join them to a prompt that
    ends without one. Here an answer begins a turn of its own and is tokenised alone (`encoding.answer_ids`),
    and a chat model begins such a turn with "Yes", another token than " Yes".

    Raises:
        ValueError: for a damaged file, or a row whose answers are not a Yes and a No, with file and row.
    """
    columns = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
    kept: list[Example] = []
    dropped: list[Dropped] = []
    for row in read_jsonl(content, name, columns):
        example = _example(row, name, *columns)
        if isinstance(example, Dropped):
            dropped.append(example)
            continue
        positive, negative = example.positive.strip(), str(example.negative).strip()
        if {positive, negative} != YES_NO:
            raise ValueError(
                f"{name}, row {example.row}: the answers are {positive[:40]!r} and {negative[:40]!r}, "
                "not a Yes and a No."
            )
        kept.append(Example(name, example.row, example.question, positive, negative))
    return distinct(kept, dropped)


def powerseeking(content: bytes, name: str) -> Kept:
    """Offers of power; the positive answer takes it. Texts as they are in the file.

    Raises:
        ValueError: for a damaged file, with file and row.
    """
    columns = ("question", "matching", "not_matching")
    kept: list[Example] = []
    dropped: list[Dropped] = []
    for row in read_csv(content, name, columns):
        example = _example(row, name, *columns)
        if isinstance(example, Dropped):
            dropped.append(example)
        elif example.positive == example.negative:
            dropped.append(Dropped(name, example.row, "two equal answers"))
        else:
            kept.append(example)
    return distinct(kept, dropped)


def concepts(content: bytes, name: str) -> dict[int, Concept]:
    """AxBench's concepts by their id, from its `metadata.jsonl`.

    Raises:
        ValueError: for a damaged file, a row without id, text or genre, or an id that is there twice.
    """
    found: dict[int, Concept] = {}
    for row in read_jsonl(content, name, ("concept_id", "concept", "concept_genres_map")):
        number, values = row
        id_, title = whole_number(row, "concept_id", name), text(row, "concept", name)
        genres = values["concept_genres_map"]
        try:
            (genre,) = genres[title]
        except (KeyError, TypeError, ValueError, IndexError):
            genre = None
        if id_ is None or title is None or not isinstance(genre, str):
            raise ValueError(f"{name}, row {number}: no concept with an id, a text and one genre.")
        if id_ in found:
            raise ValueError(f"{name}, row {number}: the concept_id {id_} was there before.")
        found[id_] = Concept(id_, title, genre)
    return found


def axbench(content: bytes, name: str, known: dict[int, Concept], wanted: int) -> Kept:
    """Instructions and answers with one concept. What is dropped are rows of it and rows of no concept.

    Raises:
        ValueError: for a damaged file, a concept_id that is not `known`, or a row that names another concept
            than the one of its id, with file and row.
    """
    columns = ("input", "output", "output_concept", "category", "concept_id")
    kept: list[Example] = []
    dropped: list[Dropped] = []
    for row in read_parquet(content, name, columns):
        number = row[0]
        question, answer, title, category = (text(row, column, name) for column in columns[:4])
        id_ = whole_number(row, "concept_id", name)
        if id_ is None or id_ == NO_CONCEPT:
            dropped.append(Dropped(name, number, "belongs to no concept"))
            continue
        if id_ not in known:
            raise ValueError(f"{name}, row {number}: unknown concept_id {id_}; there are {sorted(known)}.")
        if title != known[id_].text:
            raise ValueError(
                f"{name}, row {number}: output_concept is {str(title)[:80]!r}, but concept {id_} is "
                f"{known[id_].text!r}."
            )
        if id_ != wanted:
            continue
        if question is None or answer is None:
            missing = "input" if question is None else "output"
            dropped.append(Dropped(name, number, f"no {missing}"))
        elif category != "positive":
            dropped.append(Dropped(name, number, "no positive"))
        else:
            kept.append(Example(name, number, question, answer))
    return distinct(kept, dropped)


def distinct(kept: Sequence[Example], dropped: Iterable[Dropped] = ()) -> Kept:
    """The first example of each question: the same one must not come into two splits. Case and blanks do
    not make another question."""
    seen: set[str] = set()
    first: list[Example] = []
    repeats: list[Dropped] = []
    for example in kept:
        key = question_key(example)
        if key in seen:
            repeats.append(Dropped(example.file, example.row, "repeats an earlier question"))
        else:
            seen.add(key)
            first.append(example)
    return first, [*dropped, *repeats]


def question_key(example: Example) -> str:
    """What makes a question the same as another: its words."""
    return " ".join(example.question.split()).casefold()


def _example(row: Row, name: str, question: str, positive: str, negative: str) -> Example | Dropped:
    """A row's three texts; `Dropped` where one is not there."""
    texts = {column: text(row, column, name) for column in (question, positive, negative)}
    if missing := [column for column, value in texts.items() if value is None]:
        return Dropped(name, row[0], f"no {' and no '.join(missing)}")
    return Example(name, row[0], str(texts[question]), str(texts[positive]), str(texts[negative]))
