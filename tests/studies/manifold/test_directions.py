import numpy as np
import pytest
import torch
from scipy.stats import beta
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.pairs import Pair
from splitkit.steering.sweeps import sweep
from splitkit.studies.manifold.directions import (
    angle,
    cosine,
    gradients,
    probe,
    probe_accuracy,
    random_directions,
)
from tests.conftest import LAYER


def test_gradients_are_the_slopes_of_a_sweep_at_zero(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, pairs: list[Pair]
) -> None:
    found = gradients(model, tokenizer, pairs, LAYER)
    v = torch.randn(32, generator=torch.Generator().manual_seed(3))
    iv = Intervention("vector", "sft", LAYER, {"vector": v}, model_digest(model))
    step = 1e-2
    table = sweep(model, tokenizer, iv, pairs, [-step, step]).groupby("m")[["preference", "utility"]].mean()
    for name, g in found.items():
        slope = (table[name].iloc[1] - table[name].iloc[0]) / (2 * step)
        assert g @ v.numpy() == pytest.approx(slope, rel=0.02, abs=2e-3), name


def test_the_probe_finds_what_tells_two_kinds_apart() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([1.0, 10.0, 0.1])
    natural, broken = (rng.standard_normal((2000, 3)) * spread + s * np.array([0, 2.0, 0.2]) for s in (1, -1))
    w, threshold = probe(natural, broken)
    # the third coordinate is two standard deviations apart on each side, the second a fifth of one
    assert abs(w[2]) > 5 * abs(w[1])
    assert probe_accuracy(w, threshold, natural, broken) > 0.85
    assert probe_accuracy(w, threshold, broken, natural) < 0.15
    assert probe_accuracy(w, threshold, natural, natural) == pytest.approx(0.5)


def test_angles_with_known_answers() -> None:
    assert cosine(np.eye(2), np.array([3.0, 4.0])) == pytest.approx([0.6, 0.8])
    rng = np.random.default_rng(0)
    hidden = 64
    flat = rng.standard_normal((500, hidden)) * np.r_[10.0, np.full(hidden - 1, 0.1)]
    first, second = np.eye(hidden)[:2]
    random = random_directions(flat)
    same, across = angle(first, first, random), angle(second, first, random)
    assert (same["cosine"], same["degrees"]) == pytest.approx((1.0, 0.0))
    assert (across["cosine"], across["degrees"]) == pytest.approx((0.0, 90.0))
    assert across["isotropic_share"] == 1.0 and same["isotropic_share"] == 0.0
    # cos^2 of an isotropic direction is Beta(1/2, (n - 1)/2)
    expected = np.sqrt(beta(0.5, (hidden - 1) / 2).ppf(0.95))
    assert same["isotropic_95"] == pytest.approx(expected, rel=0.05)
    # natural activations vary along the first axis, so random natural directions lie there
    assert same["natural_95"] > 0.99
    with pytest.raises(ValueError, match="length 0"):
        angle(first, 0 * first, random)
