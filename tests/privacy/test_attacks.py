"""Attacks on gradients and on models: they work without protection, and noise stops them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysim.privacy.attacks import (
    advantage_bound,
    auc_interval,
    counted_labels,
    epsilon_lower_bound,
    inputs_of_linear,
    invert,
    likelihood_ratios,
    matched,
    membership,
)
from raysim.training.losses import cross_entropy


@cache
def digits() -> tuple[Tensor, Tensor]:
    from raysim import Experiment
    from raysim.data import prepare

    samples = prepare(Experiment().data, 0).open().shard(0)
    return torch.from_numpy(np.array(samples.x[:8])).float() / 255, torch.from_numpy(np.array(samples.y[:8]))


def network(hidden: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Linear(64, hidden), nn.Sigmoid(), nn.Linear(hidden, 10)] if hidden else [nn.Linear(64, 10)]
        return nn.Sequential(nn.Flatten(), *layers)


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))


def test_the_input_of_a_linear_layer_follows_from_its_gradient() -> None:
    x, y = digits()
    for i in range(4):
        candidates = inputs_of_linear(*gradient(network(), x[i : i + 1], y[i : i + 1]))
        torch.testing.assert_close(candidates, x[i].flatten().expand(10, -1), atol=1e-4, rtol=0)
    weight, bias = gradient(network(16), x[:1], y[:1])[:2]
    torch.testing.assert_close(inputs_of_linear(weight, bias)[0], x[0].flatten(), atol=1e-3, rtol=0)


def test_labels_of_a_batch_are_counted_from_the_gradient_of_the_bias() -> None:
    x, y = digits()
    model = network(16)
    bias = gradient(model, x, y)[-1]
    found = counted_labels(bias, torch.softmax(model(torch.full((4, 1, 8, 8), 0.3)), 1).mean(0).detach(), len(y))
    assert len(found) == 8
    assert sorted(found.tolist()) == sorted(y.tolist())


@pytest.mark.parametrize(("matching", "steps"), [("cosine", 200), ("euclidean", 120)])
def test_a_gradient_gives_its_sample_away_and_noise_hides_it(matching: str, steps: int) -> None:
    x, y = digits()
    model, found = network(32), {}
    for noise in (0.0, 0.2):
        seen = [
            g + noise * torch.randn(g.shape, generator=torch.Generator().manual_seed(1))
            for g in gradient(model, x[:1], y[:1])
        ]
        result = invert(model, cross_entropy, seen, y[:1], (1, 8, 8), matching=matching, steps=steps)  # type: ignore[arg-type]
        found[noise] = float(matched(result.x, x[:1])[1][0])
    assert found[0.0] < 0.01
    assert found[0.2] > 5 * found[0.0]
    assert found[0.2] > 0.03


def test_originals_are_matched_to_the_nearest_candidates() -> None:
    x, _ = digits()
    places, errors = matched(x[[3, 1, 0, 2]] + 0.01, x[:4])
    assert places.tolist() == [2, 1, 3, 0]
    assert errors == pytest.approx(1e-4, rel=1e-3)


def test_membership_is_the_area_under_the_curve_and_its_largest_gap() -> None:
    guessing = membership(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    assert (guessing.auc, guessing.advantage) == (0.5, 0.0)
    perfect = membership(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert (perfect.auc, perfect.advantage, perfect.low) == (1.0, 1.0, 1.0)
    assert membership(np.array([0.0, 2.0]), np.array([1.0])).auc == 0.5
    generator = np.random.default_rng(0)
    normal = membership(generator.normal(1, 1, 20_000), generator.normal(0, 1, 20_000))
    assert normal.auc == pytest.approx(0.7602, abs=0.01)  # Φ(1/√2)
    assert normal.advantage == pytest.approx(0.3829, abs=0.015)  # 2 Φ(1/2) - 1
    assert normal.low == pytest.approx(0.092, abs=0.02)  # Φ(1 - Φ⁻¹(.99))


def test_likelihood_ratios_of_shadow_models_tell_more_than_scores_by_themselves() -> None:
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 3, 600)
    truth = generator.random(600) < 0.5
    inside = difficulty + 1 + generator.normal(0, 0.5, (16, 600))
    outside = difficulty + generator.normal(0, 0.5, (16, 600))
    scores = difficulty + truth + generator.normal(0, 0.5, 600)
    ratios = likelihood_ratios(scores, inside, outside)
    assert membership(scores[truth], scores[~truth]).auc < 0.7
    assert membership(ratios[truth], ratios[~truth]).auc > 0.88


def test_an_epsilon_is_refuted_by_scores_that_it_does_not_allow_and_by_no_others() -> None:
    generator = np.random.default_rng(0)
    # Randomised response of ε = 1: a score tells the truth with probability e / (1 + e).
    true = (generator.random(4000) < np.e / (1 + np.e)).astype(float)
    false = (generator.random(4000) < 1 / (1 + np.e)).astype(float)
    found = epsilon_lower_bound(true, false, delta=0.0)
    assert 0.7 < found < 1.0
    assert epsilon_lower_bound(false, false, delta=0.0) < 0.15


def test_an_epsilon_bounds_what_any_attack_can_gain() -> None:
    assert advantage_bound(0.0, 0.0) == 0.0
    assert advantage_bound(np.log(3), 0.0) == pytest.approx(0.5)
    assert advantage_bound(1e6, 1e-5) == 1.0


@pytest.mark.parametrize(("auc", "members", "others"), [(0.5, 40, 60), (0.83, 12, 9), (1.0, 8, 8), (0.1, 20, 30)])
def test_the_interval_of_an_auc_has_the_values_that_lie_within_their_own_errors(
    auc: float, members: int, others: int
) -> None:
    values = np.linspace(0, 1, 200_001)
    q1, q2, n = values / (2 - values), 2 * values**2 / (1 + values), (members + others) / 2 - 1
    variance = (values * (1 - values) + n * (q1 - values**2) + n * (q2 - values**2)) / (members * others)
    inside = values[np.abs(values - auc) <= 1.959964 * np.sqrt(variance)]
    assert auc_interval(auc, members, others) == pytest.approx((inside.min(), inside.max()), abs=2e-5)
