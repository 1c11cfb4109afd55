"""Clips whose bound is not one fixed number: by layers, and to a quantile that is estimated with noise."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
from chains import LAYOUT, chain, rows, sent, step

from raysim.errors import ConfigError

BOUNDS = {"0.*": 1.5, "*": 0.5}


def by_hand(values: np.ndarray, bounds: dict[str, float]) -> np.ndarray:
    """Each group of a row scaled to its bound, in float64."""
    found, left = values.astype(np.float64), list(LAYOUT.segments)
    for pattern, bound in bounds.items():
        group = [one for one in left if fnmatchcase(one.name, pattern)]
        left = [one for one in left if one not in group]
        columns = np.concatenate([np.arange(one.start, one.start + one.size) for one in group])
        found[columns] *= min(1.0, bound / np.linalg.norm(found[columns]))
    return found


def test_each_group_of_layers_is_clipped_to_its_own_bound() -> None:
    before = rows(4) * torch.tensor([[0.01], [0.3], [1], [10]])
    layers = chain({"name": "layer_clip", "bounds": BOUNDS})
    after = sent(layers, before.clone())
    for row, expected in zip(after["update"].double().numpy(), before.numpy(), strict=True):
        np.testing.assert_allclose(row, by_hand(expected, BOUNDS), rtol=1e-5)
        assert np.linalg.norm(row) <= np.sqrt(1.5**2 + 0.5**2)
    assert after["layer_clip.share"].flatten().tolist() == [0, 1, 1, 1]
    bound = layers.stages[0].bound(None, {})
    assert bound is not None
    assert bound.norm == pytest.approx(np.sqrt(1.5**2 + 0.5**2))


def test_one_bound_is_shared_equally_by_all_layers() -> None:
    before = rows(3, scale=5.0)
    after = sent(chain({"name": "layer_clip", "max_norm": 2.0}), before.clone())["update"]
    each = {segment.name: 1.0 for segment in LAYOUT.segments}  # 2 / √4
    for row, expected in zip(after.numpy(), before.numpy(), strict=True):
        np.testing.assert_allclose(row, by_hand(expected, each), rtol=1e-5)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("layer_clip", r"layer_clip: expected max_norm, for all layers alike, or bounds"),
        ({"name": "layer_clip", "max_norm": 1.0, "bounds": {"*": 1.0}}, "layer_clip: expected max_norm"),
        ({"name": "layer_clip", "bounds": {"0.*": 1.0}}, r"layer_clip: bounds: '1.weight' matches no pattern"),
        ({"name": "layer_clip", "bounds": {"*": 1.0, "2.*": 1.0}}, r"bounds: '2.\*' matches no parameter"),
    ],
)
def test_patterns_that_do_not_fit_the_model_are_refused(stage: object, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"aggregation.stages\[0\]: {said}" if "layer" in said else said):
        chain(stage)


def test_the_adaptive_bound_goes_to_the_quantile_of_the_norms() -> None:
    """Against a plain loop of algorithm 1 with the same noise, and against the true quantile."""
    adaptive = chain({"name": "adaptive_clip", "initial_norm": 1.0, "quantile": 0.3, "fraction_noise": 0.05})
    state = adaptive.init(np.zeros(LAYOUT.size, np.float32))
    updates, bound, bounds = rows(40), 1.0, []
    norms = np.linalg.norm(updates.double().numpy(), axis=1)
    for round_number in range(1, 121):
        server = {name: np.float32(vector) for name, vector in adaptive.broadcast(state).items()}
        after = sent(adaptive, updates.clone(), server=server)
        assert (np.linalg.norm(after["update"].double().numpy(), axis=1) <= server["stages.adaptive_clip.bound"]).all()
        mean = {name: one.double().numpy().mean(0) for name, one in after.items() if name != "stages.arrived"}
        _, state, metrics = step(adaptive, mean, state, round_number, cohort=40)
        noise = metrics["stages/adaptive_clip/below"] - np.mean(norms <= np.float32(bound))
        assert abs(noise) < 5 * 0.05
        bounds.append(metrics["stages/adaptive_clip/bound"])
        assert bounds[-1] == pytest.approx(bound, rel=1e-6)
        bound *= np.exp(-0.2 * (metrics["stages/adaptive_clip/below"] - 0.3))
    assert abs(np.mean(norms <= np.mean(bounds[-60:])) - 0.3) <= 0.1


def test_the_share_of_short_records_is_of_the_expected_cohort_and_carries_the_stated_noise() -> None:
    adaptive = chain({"name": "adaptive_clip", "initial_norm": 1.0, "fraction_noise": 0.1})
    state = adaptive.init(np.zeros(LAYOUT.size, np.float32))
    mean = {"update": np.zeros(LAYOUT.size), "adaptive_clip.below": np.array([0.5])}
    found = [step(adaptive, mean, state, number)[2]["stages/adaptive_clip/below"] for number in range(1, 1001)]
    assert abs(np.mean(found) - 1.0) < 4 * 0.1 / np.sqrt(1000)
    assert abs(np.std(found) - 0.1) < 4 * 0.1 / np.sqrt(2000)
    empty = step(adaptive, {name: 0 * values for name, values in mean.items()}, state)[2]
    assert empty["stages/adaptive_clip/below"] == pytest.approx(found[0] - 0.5)
