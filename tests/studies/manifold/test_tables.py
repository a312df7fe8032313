from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from splitkit.runs import answers
from splitkit.runs.profiles import PROFILES, Cell, strength_grid
from splitkit.steering.interventions import Intervention
from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import sweep
from splitkit.studies.manifold import reference
from splitkit.studies.manifold import tables as manifold_tables
from splitkit.studies.manifold.estimators import ESTIMATORS
from tests.conftest import LAYER, random_intervention, tiny_model, tiny_tokenizer

PROFILE = replace(PROFILES["smoke"], models=("tiny",), layers={"tiny": LAYER}, grid=strength_grid(8.0, 9))


@dataclass(frozen=True)
class Result:
    """A finished cell that was never written."""

    cell: Cell
    iv: Intervention
    table: pd.DataFrame

    @property
    def unit(self) -> float:
        return 0.5

    def intervention(self) -> Intervention:
        return self.iv

    def sweep(self, split: str) -> pd.DataFrame:
        assert split == "test"
        return self.table


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    model, tokenizer = tiny_model("gemma2"), tiny_tokenizer()
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    pairs = [Pair(f"{word}?", f"yes {word}.", f"no {word} at all.") for word in words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "load", lambda profile, name: (model, tokenizer))
        patch.setattr(answers, "pairs", lambda profile, task, split, *loaded: pairs)
        patch.setattr(
            reference,
            "_dialogues",
            lambda split, count: [(p.question, f"{split} {p.negative}") for p in pairs],
        )
        results = []
        for form, objective in PROFILE.combinations:
            iv = random_intervention(model, form)
            table = sweep(model, tokenizer, iv, pairs, [0.5 * r for r in PROFILE.grid])
            results.append(Result(Cell("tiny", "psychopathy", form, objective), iv, table))
        return manifold_tables.measure(results, PROFILE, reference.nature("tiny", PROFILE))


def test_every_other_strength_with_zero_and_both_ends() -> None:
    for n in (5, 7, 9, 13, 41):
        grid = strength_grid(8.0, n)
        chosen = [grid[i] for i in manifold_tables.strengths(grid)]
        assert 0.0 in chosen and grid[0] in chosen and grid[-1] in chosen
        assert chosen == [-m for m in reversed(chosen)]
        assert len(chosen) <= n // 2 + 3


def test_distances_of_cells_and_controls(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["manifold_distance"]
    kinds = set(zip(table["form"], table["objective"], strict=True))
    assert kinds == {*PROFILE.combinations, ("vector", "random"), ("vector", "natural")}
    assert (
        len(table)
        == (3 + 2 * reference.N_CONTROLS["psychopathy"]) * len(manifold_tables.strengths(PROFILE.grid)) * 2
    )
    assert np.isfinite(table[[*ESTIMATORS, "moved", "preference"]]).all(axis=None)
    still = table[table["m_relative"] == 0]
    assert (still["moved"] == 0).all()
    # the same pairs, whoever steers them, are as far out when nobody does
    assert still.groupby("site")[list(ESTIMATORS)].std().max().max() < 1e-6
    vector = table[(table["site"] == "layer") & (table["objective"] == "random") & (table["seed"] == 0)]
    assert vector["neighbours"].iloc[0] > vector["neighbours"].iloc[len(vector) // 2]


def test_the_move_of_a_vector_is_its_strength(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["manifold_distance"].query("site == 'layer' and form == 'vector'")
    ends = table[table["m_relative"].abs() == 8.0].groupby(["objective", "seed"])["moved"]
    assert ends.count().eq(2).all() and ends.std().max() < 1e-5


def test_projections_of_a_vector_are_straight_lines(tables: dict[str, pd.DataFrame]) -> None:
    table = tables["manifold_projection"].query("objective == 'split' and form == 'vector'")
    for axis in ("preference_axis", "utility_axis"):
        assert abs(np.corrcoef(table["m_relative"], table[axis])[0, 1]) == pytest.approx(1.0)


def test_the_cloud_is_one_cell_at_three_strengths(tables: dict[str, pd.DataFrame]) -> None:
    cloud = tables["manifold_cloud"]
    assert set(zip(cloud["form"], cloud["objective"], strict=True)) == {("vector", "split")}
    counts = cloud["m_relative"].value_counts()
    assert len(counts) == 3 and counts.nunique() == 1 and 0.0 in counts.index


def test_each_cell_has_three_angles(tables: dict[str, pd.DataFrame]) -> None:
    angles = tables["utility_angle"]
    assert len(angles) == 9 and set(angles["direction"]) == {"preference", "utility", "probe"}
    assert angles["cosine"].abs().le(1).all()
    assert angles["probe_accuracy"].notna().sum() == 3
