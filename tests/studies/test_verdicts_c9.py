"""C9: a table that passes, and one for each part of the rule that does not."""

import numpy as np
import pandas as pd
import pytest

from splitkit.studies.verdicts import decide_c9


def tables(
    subspace: float = 0.9,
    neighbours: float = 0.95,
    moved: float = 0.85,
    high: float = -0.5,
    cosine: float = 0.05,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [("subspace", subspace, high), ("neighbours", neighbours, -0.6), ("moved", moved, -0.9)]
    relation = pd.DataFrame(rows, columns=["estimator", "r2_one_curve", "spearman_high"])
    # what the head reads is not what the claim is about
    ends = relation.assign(r2_one_curve=0.0, site="end")
    relation = pd.concat([relation.assign(site="layer"), ends]).assign(model="m", task="t")
    angles = pd.DataFrame({"direction": ["utility", "utility", "utility", "preference"]})
    angles = angles.assign(cosine=[cosine, -cosine, 0.9, 0.9], isotropic_95=0.17, model="m", task="t")
    return relation, angles


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "holds"),
        ({"cosine": 0.3}, "holds in part"),
        ({"moved": 0.92}, "holds in part"),
        ({"subspace": 0.7, "moved": 0.6}, "holds in part"),
        ({"subspace": 0.4}, "does not hold"),
        ({"neighbours": 0.4}, "does not hold"),
        ({"high": 0.1}, "does not hold"),
        ({"neighbours": np.nan}, "undecided"),
    ],
)
def test_c9_needs_all_its_parts(changed: dict[str, float], verdict: str) -> None:
    (found,) = decide_c9(*tables(**changed))
    assert (found.claim, found.model, found.task, found.verdict) == ("C9", "m", "t", verdict)


def test_c9_decides_by_the_weaker_estimator() -> None:
    assert decide_c9(*tables(subspace=0.81))[0].ours == pytest.approx(0.81)


def test_an_estimator_that_is_missing_decides_nothing() -> None:
    relation, angles = tables()
    assert decide_c9(relation[relation["estimator"] != "neighbours"], angles)[0].verdict == "undecided"
    assert decide_c9(relation, angles[angles["direction"] == "preference"])[0].verdict == "holds in part"


def test_a_missing_column_is_named() -> None:
    relation, angles = tables()
    with pytest.raises(ValueError, match="r2_one_curve"):
        decide_c9(relation.drop(columns="r2_one_curve"), angles)
    with pytest.raises(ValueError, match="isotropic_95"):
        decide_c9(relation, angles.drop(columns="isotropic_95"))


def test_the_concepts_of_a_family_are_judged_together_by_their_medians() -> None:
    parts = [tables(subspace=value) for value in (0.4, 0.85, 0.95)]
    names = ["axbench/ocean", "axbench/music", "axbench/fire"]
    relation, angles = (
        pd.concat([part[i].assign(task=name) for part, name in zip(parts, names, strict=True)])
        for i in (0, 1)
    )
    (found,) = decide_c9(relation, angles)
    assert (found.task, found.verdict, found.ours) == ("axbench", "holds", pytest.approx(0.85))
    missing = relation[(relation["task"] != names[0]) | (relation["estimator"] == "moved")]
    assert decide_c9(missing, angles)[0].verdict == "holds"
    undefined = relation.assign(r2_one_curve=relation["r2_one_curve"].mask(relation["task"] == names[0]))
    assert decide_c9(undefined, angles)[0].verdict == "undecided"
