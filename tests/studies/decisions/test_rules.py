"""Rules: every claim has one, grades follow its bars, and what is printed names each constant."""

import pytest

from splitkit.studies.decisions.rules import METRICS, RULES, Constant, Metric, as_markdown


def test_every_claim_has_a_rule() -> None:
    assert list(RULES) == [f"C{number}" for number in range(1, 13)]
    assert all(claim == rule.claim for claim, rule in RULES.items())


def test_bars_are_reached_or_passed() -> None:
    at, above = RULES["C2"], RULES["C5"]
    assert [at.grade(x) for x in (0.8, 0.79, 0.5, 0.49)] == ["holds", "in part", "in part", "does not hold"]
    assert [above.grade(x) for x in (0.51, 0.5, 0.26, 0.25)] == [
        "holds",
        "in part",
        "in part",
        "does not hold",
    ]
    assert at.grade(float("nan")) == "undecided"


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_a_rule_uses_each_of_its_constants_by_name(rule) -> None:
    text = as_markdown([rule.claim])
    for constant in rule.constants:
        assert constant.low < constant.value < constant.high
        assert f"| `{constant.name}` | {constant.value:g} |" in text
    assert rule.words in text
    assert rule.holds >= rule.in_part


def test_bars_inside_a_table_are_escaped() -> None:
    rows = [line for line in as_markdown().splitlines() if line.startswith("| `")]
    assert all(line.replace(r"\|", "").count("|") == 5 for line in rows)


def test_unknown_claims_and_impossible_numbers_are_named() -> None:
    with pytest.raises(KeyError, match="no claim 'C13'; there are"):
        as_markdown(["C13"])
    with pytest.raises(ValueError, match="small: 0.5 is not within 0.1 to 0.4"):
        Constant("small", 0.5, 0.1, 0.4, "")
    with pytest.raises(ValueError, match="'run' or 'concept', not 'seed'"):
        Metric("a", "b", "seed", 0.0, 1.0, 0.1, True, "")
    with pytest.raises(ValueError, match="the ends of a scale differ"):
        Metric("a", "b", "run", 1.0, 1.0, 0.1, True, "")
    assert all(metric.smallest < abs(metric.best - metric.worst) for metric in METRICS.values())
