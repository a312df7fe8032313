"""Known geometry: a noisy plane, whose distances can be written down, and closed forms from scipy."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, mahalanobis

from splitkit.studies.manifold.estimators import (
    ESTIMATORS,
    RIDGE,
    K,
    fit_manifold,
    fit_subspace,
    neighbour_distance,
)

HIDDEN, NOISE = 12, 0.01


@pytest.fixture
def plane() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Natural and held-out points of a noisy plane through (5, 5, ...), and the plane's axes (2, hidden)."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((HIDDEN, HIDDEN)))[0][:2]
    points = (
        rng.standard_normal((3000, 2)) * [3.0, 1.0] @ axes + 5 + NOISE * rng.standard_normal((3000, HIDDEN))
    )
    return points[:2000], points[2000:], axes


def test_the_subspace_of_a_plane_is_the_plane(plane: tuple[np.ndarray, ...]) -> None:
    natural, _, axes = plane
    found = fit_subspace(natural)
    assert found.basis.shape == (2, HIDDEN)
    np.testing.assert_allclose(np.abs(found.basis @ axes.T), np.eye(2), atol=0.05)
    np.testing.assert_allclose(np.sqrt(found.variance), [3.0, 1.0], rtol=0.05)


def test_the_distance_off_the_plane_is_recovered(plane: tuple[np.ndarray, ...]) -> None:
    natural, held_out, _ = plane
    manifold = fit_manifold(natural, held_out)
    basis = manifold.subspace.basis
    across = np.linalg.svd(basis)[2][-1]
    lifted = natural.mean(axis=0) + np.outer([0.5, 1.0, 2.0], across)
    outside = manifold.subspace.distances(lifted)["outside"]
    np.testing.assert_allclose(outside, [0.5, 1.0, 2.0], atol=1e-9)
    moved = manifold.distances(lifted)
    assert np.allclose(moved["within"], moved["within"][0])
    for name in ("outside", "subspace", "neighbours"):
        assert (moved[name] > 1).all() and (np.diff(moved[name]) > 0).all(), name


def test_moving_within_the_plane_is_no_move_off_it(plane: tuple[np.ndarray, ...]) -> None:
    natural, held_out, _ = plane
    manifold = fit_manifold(natural, held_out)
    long_axis = manifold.subspace.basis[0]
    moved = manifold.distances(natural.mean(axis=0) + np.outer([0.0, 30.0], long_axis))
    assert moved["outside"][1] == pytest.approx(moved["outside"][0], abs=1e-6)
    assert moved["within"][1] > 5 * moved["within"][0] + 5


def test_held_out_activations_are_at_distance_one(plane: tuple[np.ndarray, ...]) -> None:
    natural, held_out, _ = plane
    found = fit_manifold(natural, held_out).distances(held_out.reshape(10, 100, HIDDEN))
    assert set(found) == set(ESTIMATORS)
    for name, values in found.items():
        assert values.shape == (10, 100)
        assert values.mean() == pytest.approx(1.0), name


def test_the_subspace_distance_is_a_mahalanobis_distance() -> None:
    # where the directions outside have one variance, the distance is Mahalanobis's with the whole covariance
    rng = np.random.default_rng(1)
    natural = rng.standard_normal((500, 4)) * [5.0, 4.0, 3.0, 0.5]
    found = fit_subspace(natural)
    covariance = np.cov(natural, rowvar=False)
    ridge = RIDGE * np.trace(covariance) / 4 * np.eye(4)
    assert len(found.basis) == 3
    for point in rng.standard_normal((5, 4)) * 10:
        expected = mahalanobis(point, natural.mean(axis=0), np.linalg.inv(covariance + ridge))
        assert found.distances(point)["subspace"] == pytest.approx(expected)


def test_neighbours_agree_with_scipy() -> None:
    rng = np.random.default_rng(2)
    reference, x = rng.standard_normal((200, 6)) + 100, rng.standard_normal((3, 7, 6)) + 100
    expected = np.sort(cdist(x.reshape(-1, 6), reference), axis=1)[:, :K].mean(axis=1).reshape(3, 7)
    np.testing.assert_allclose(neighbour_distance(x, reference), expected, rtol=1e-9)
    narrow = neighbour_distance(x.astype(np.float32), reference.astype(np.float32))
    np.testing.assert_allclose(narrow, expected, rtol=1e-3)


def test_bad_input_is_named() -> None:
    rng = np.random.default_rng(3)
    natural = rng.standard_normal((20, 4))
    with pytest.raises(ValueError, match="5 nat"):
        fit_manifold(natural[:5], natural)
    with pytest.raises(ValueError, match="1 activations have NaN"):
        fit_manifold(np.where(np.arange(20)[:, None] == 3, np.nan, natural), natural)
    with pytest.raises(ValueError, match="all natural activations are the same"):
        fit_subspace(np.ones((20, 4)))
    with pytest.raises(ValueError, match="3 hidden units, on a manifold of 4"):
        fit_manifold(natural, natural).distances(np.zeros((2, 3)))
