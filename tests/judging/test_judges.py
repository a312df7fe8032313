"""Judges: the table of scores, its reasons, and each case asked once."""

import pytest

from splitkit.judging.judges import judged, tabulate
from splitkit.judging.rubrics import Case, Score, missing


def test_the_table_and_its_warning_tell_the_reasons_apart() -> None:
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
    said = "4 of 9 scores are missing: 2 unparsable, 1 out of scale, 1 no reply"
    with pytest.warns(UserWarning, match=said):
        table = tabulate(rows)
    assert table["harmonic"].tolist()[0] == 1.5
    assert table["harmonic"].isna().tolist() == [False, True, True]
    assert table[["concept", "instruction", "fluency"]].notna().sum().tolist() == [1, 2, 2]
    assert table["reason"].tolist() == [
        "",
        "concept: unparsable (wrong id); fluency: out of scale (7, not 0-2)",
        "concept: unparsable; instruction: no reply (status 500)",
    ]


def test_the_same_case_is_asked_once_and_an_empty_one_never() -> None:
    seen: list[Case] = []

    def ask(cases: list[Case]) -> dict[Case, Score]:
        seen.extend(cases)
        return {case: Score(1.0) for case in cases}

    said, empty = (Case("fluency", (("answer", text),)) for text in ("Hm.", ""))
    table = judged([{"fluency": said}, {"fluency": empty}, {"fluency": said}], ask)
    assert seen == [said]
    assert table["fluency"].tolist() == [1, 0, 1]
