"""Intervals and exact tests, against scipy and counts by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, permutation_test, ttest_ind

from splitkit.studies.decisions import intervals
from splitkit.studies.decisions.intervals import Estimate, clusters, difference, excess, holm, median, share


def each(n: int) -> pd.Series:
    return pd.Series(range(n))


@pytest.mark.parametrize(("k", "n"), [(0, 7), (5, 12), (39, 39)])
def test_independent_cells_have_wilsons_interval(k: int, n: int) -> None:
    found = share(pd.Series([True] * k + [False] * (n - k)), each(n))
    known = binomtest(k, n).proportion_ci(method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((k / n, known.low, known.high))
    assert found.units == n


def test_cells_that_agree_within_concepts_count_as_their_concepts() -> None:
    passed = pd.Series([True] * 20 + [False] * 20)
    concept = pd.Series(np.repeat(range(4), 10))
    found = share(passed, concept)
    assert (found.low, found.high) == pytest.approx(intervals.wilson(0.5, 4.0))
    mixed = share(passed, pd.Series(np.tile(range(4), 10)))
    assert (mixed.low, mixed.high) == pytest.approx(intervals.wilson(0.5, 40.0))
    assert found.units == mixed.units == 4


def test_strata_have_the_same_weight() -> None:
    passed, family = pd.Series([True] * 30 + [False] * 10), pd.Series(["a"] * 30 + ["b"] * 10)
    assert share(passed, each(40), family).value == 0.5
    assert share(passed, each(40)).value == 0.75


def test_newcombes_interval_of_his_table() -> None:
    # 56/70 less 48/80, method 10 in Newcombe (1998), Table II (a): 0.0524 to 0.3339
    sides = (share(pd.Series([True] * k + [False] * (n - k)), each(n)) for k, n in ((56, 70), (48, 80)))
    found = excess(*sides)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_three_runs_against_three_have_a_p_of_a_tenth() -> None:
    # 20 arrangements; the two extreme ones are 1/20 each
    _, p = difference(np.array([4.0, 5, 6]), np.array([1.0, 2, 3]), paired=False)
    assert p == pytest.approx(2 / 20)
    _, p = difference(np.array([4.0, 5, 6, 7, 8]), np.arange(-2.0, 3), paired=False)
    assert p == pytest.approx(2 / 252)
    # six concepts, all better: 2 of 64 sign patterns
    _, p = difference(np.arange(1.0, 7), np.zeros(6), paired=True)
    assert p == pytest.approx(2 / 64)


def test_runs_are_tested_as_scipy_does() -> None:
    random = np.random.default_rng(3)
    ours, theirs = random.normal(1, 1, 5), random.normal(0, 1, 6)
    found, p = difference(ours, theirs, paired=False)
    known = permutation_test(
        (ours, theirs), lambda x, y, axis: x.mean(axis) - y.mean(axis), vectorized=True, n_resamples=1000
    )
    welch = ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    assert p == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))


def test_many_runs_are_a_sample_of_the_arrangements(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.normal(0.8, 1, 7), random.normal(0, 1, 7)
    _, exact = difference(ours, theirs, paired=False)
    monkeypatch.setattr(intervals, "ARRANGEMENTS", 3000)
    _, sampled = difference(ours, theirs, paired=False)
    assert sampled == pytest.approx(exact, abs=0.02)
    assert sampled != exact


def test_a_closed_form_is_one_number_and_no_sample() -> None:
    found, p = difference(np.array([2.0, 3, 4, 5, 6]), np.array([1.0]), paired=False)
    assert (found.value, found.units, p) == (3.0, 5, pytest.approx(2 / 32))


def test_holm_by_hand() -> None:
    assert holm([0.01, math.nan, 0.04, 0.03]) == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_no_rows_have_no_interval() -> None:
    none = share(pd.Series(dtype=bool), pd.Series(dtype=int))
    assert none.units == 0
    assert math.isnan(none.value)
    assert math.isnan(median(pd.Series(dtype=float), pd.Series(dtype=object)).low)


def test_a_median_draws_clusters() -> None:
    values, cluster = pd.Series([0.0] * 5 + [1.0] * 5 + [2.0] * 5), pd.Series([0] * 5 + [1] * 5 + [2] * 5)
    assert median(values, cluster) == Estimate(1.0, 0.0, 2.0, 3)


def test_concepts_are_clusters_from_three_on() -> None:
    cells = pd.DataFrame({"form": "lora", "objective": "sft", "seed": [0, 1, 2]})
    two = cells.assign(task=["axbench/a", "axbench/a", "axbench/b"])
    assert clusters(two).nunique() == 3
    three = cells.assign(task=["axbench/a", "axbench/b", "axbench/c"])
    assert clusters(pd.concat([three, three], ignore_index=True)).nunique() == 3
