"""The natural activation manifold, estimated in two ways, and the distance of activations to it.

Both are calibrated: held-out natural activations are at distance 1 on average, so that a distance counts how
many times as far out an activation is as those of the model when nobody steers it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ESTIMATORS = ("within", "outside", "subspace", "neighbours")
KEPT = 0.95
"""Share of the natural variance that the principal subspace keeps."""
RIDGE = 1e-3
"""Addition to every variance, as a share of the mean variance: no direction counts without limit."""
K, REFERENCE = 8, 4096
"""Nearest neighbours, and the most natural activations that they are searched among."""


@dataclass(frozen=True)
class Subspace:
    """The principal subspace of natural activations, with the variances within it and outside."""

    mean: Float[np.ndarray, " hidden"]
    basis: Float[np.ndarray, "component hidden"]
    variance: Float[np.ndarray, " component"]
    rest: float
    """Mean variance of the directions outside."""

    def distances(self, x: Float[np.ndarray, "*batch hidden"]) -> dict[str, Float[np.ndarray, "*batch"]]:
        """Distances "within", sqrt(sum_i z_i^2 / var_i), "outside", |r|, and of both, "subspace".

        z_i is the coordinate of x - mean along component i, r the remainder; "subspace" is sqrt(within^2 +
        |r|^2 / rest), Mahalanobis's distance where `rest` is the variance outside. None is calibrated.
        """
        centred = np.asarray(x, dtype=float) - self.mean
        z = centred @ self.basis.T
        within = (z**2 / self.variance).sum(axis=-1)
        # by the difference of squares a residual near 0 would be lost to rounding
        outside = ((centred - z @ self.basis) ** 2).sum(axis=-1)
        return {
            "within": np.sqrt(within),
            "outside": np.sqrt(outside),
            "subspace": np.sqrt(within + outside / self.rest),
        }


@dataclass(frozen=True)
class Manifold:
    """The estimates of one natural manifold, and by each the mean distance of held-out activations."""

    subspace: Subspace
    reference: Float[np.ndarray, "token hidden"]
    scale: dict[str, float]

    def distances(self, x: Float[np.ndarray, "*batch hidden"]) -> dict[str, Float[np.ndarray, "*batch"]]:
        """Distance of every activation by each of `ESTIMATORS`, in units of held-out natural activations.

        ValueError for NaN or infinite values, or another number of hidden units.
        """
        _check(x, hidden=len(self.subspace.mean))
        return {name: raw / self.scale[name] for name, raw in self._raw(x).items()}

    def _raw(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return {**self.subspace.distances(x), "neighbours": neighbour_distance(x, self.reference)}


def fit_manifold(
    natural: Float[np.ndarray, "token hidden"], held_out: Float[np.ndarray, "token hidden"]
) -> Manifold:
    """Estimate the manifold from `natural`, and its unit of distance from `held_out` activations.

    ValueError for NaN or infinite values, fewer than `K` activations, or held-out ones of another width.
    """
    natural = np.asarray(natural)
    _check(natural)
    _check(held_out, hidden=natural.shape[-1])
    if len(natural) < K:
        raise ValueError(f"{len(natural)} natural activations have no {K} nearest neighbours among them.")
    some = np.linspace(0, len(natural) - 1, min(len(natural), REFERENCE)).round().astype(int)
    found = Manifold(fit_subspace(natural), natural[some], {})
    scale = {name: float(values.mean()) for name, values in found._raw(held_out).items()}
    return Manifold(found.subspace, found.reference, scale)


def fit_subspace(natural: Float[np.ndarray, "token hidden"]) -> Subspace:
    """The fewest principal components that keep `KEPT` of the variance; at least one direction is outside."""
    exact = np.asarray(natural, dtype=float)
    mean = exact.mean(axis=0)
    variance, directions = np.linalg.eigh(np.cov(exact - mean, rowvar=False))
    variance, directions = variance[::-1].clip(min=0), directions[:, ::-1]
    ridge = RIDGE * variance.mean()
    if ridge == 0:
        raise ValueError("all natural activations are the same: they span no manifold.")
    shares = np.cumsum(variance) / variance.sum()
    count = min(int(np.searchsorted(shares, KEPT)) + 1, len(variance) - 1)
    rest = float(variance[count:].mean() + ridge)
    return Subspace(mean, directions[:, :count].T, variance[:count] + ridge, rest)


def neighbour_distance(
    x: Float[np.ndarray, "*batch hidden"], reference: Float[np.ndarray, "token hidden"]
) -> Float[np.ndarray, "*batch"]:
    """Mean Euclidean distance of each activation to its `K` nearest reference activations."""
    import torch

    # centred, so that |x|^2 + |y|^2 - 2 x.y cancels as little as it can
    centre = reference.mean(axis=0)
    rows, known = (torch.from_numpy(np.asarray(part) - centre) for part in (x, reference))
    nearest = torch.cdist(rows, known).topk(K, largest=False, sorted=False).values
    return nearest.double().mean(dim=-1).numpy()


def _check(x: np.ndarray, hidden: int | None = None) -> None:
    if hidden is not None and x.shape[-1] != hidden:
        raise ValueError(f"activations of {x.shape[-1]} hidden units, on a manifold of {hidden}.")
    if bad := int((~np.isfinite(x)).any(axis=-1).sum()):
        raise ValueError(f"{bad} activations have NaN or infinite values: they are nowhere.")
