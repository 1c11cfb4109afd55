"""Noise that clients add: each to its message, or all together to integers under masks."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chains import LAYOUT, chain, rows, sent
from federations import digits, final_sha256

from raysim import Simulation, keyed
from raysim.aggregation import Bound, Field, FixedPoint, IntegerContext
from raysim.errors import ConfigError
from raysim.privacy.distributed import DiscreteGaussian, DistributedNoise, Skellam

LOCAL = {
    "local_gaussian": ({"name": "clip", "max_norm": 0.5}, 1.0),
    "local_laplace": ({"name": "clip", "max_norm": 0.5, "order": 1}, sqrt(2)),  # of scale 1
}
PADDING = np.ones(LAYOUT.size, dtype=bool)
for _segment in LAYOUT.segments:
    PADDING[_segment.start : _segment.start + _segment.size] = False


@pytest.mark.parametrize("name", LOCAL)
def test_each_client_adds_noise_of_its_own_of_the_stated_scale(name: str) -> None:
    clip, deviation = LOCAL[name]
    noisy, quiet = chain(clip, {"name": name, "noise_multiplier": 3.0}), chain(clip)
    noise = (sent(noisy, rows(200))["update"] - sent(quiet, rows(200))["update"]).double().numpy()
    assert not noise[:, PADDING].any()
    values, expected = noise[:, ~PADDING], 3.0 * 0.5 * deviation
    kurtosis = 3 if name == "local_gaussian" else 6
    assert abs(values.std() - expected) < 4 * expected * sqrt((kurtosis - 1) / 4 / values.size)
    assert abs(values.mean()) < 4 * expected / sqrt(values.size)
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 4 / sqrt(values.size)
    again = sent(noisy, rows(200)[3:4])["update"]  # client 0 of another block
    other = sent(quiet, rows(200)[3:4])["update"]
    torch.testing.assert_close((again - other)[0].double().numpy(), noise[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (["local_gaussian"], "local_gaussian needs records of bounded norm"),
        ([{"name": "clip", "max_norm": 1.0}, "local_laplace"], "local_laplace needs records of bounded sum of magn"),
        (["adaptive_clip", "local_gaussian"], "local_gaussian needs a bound that is the same in every round"),
        ([{"name": "clip", "max_norm": 1.0}, "skellam"], "skellam works on the road modular"),
    ],
)
def test_chains_without_what_client_noise_needs_are_refused(stages: list[Any], said: str) -> None:
    given = [{"name": one, "noise_multiplier": 1.0} if one in (*LOCAL, "skellam") else one for one in stages]
    with pytest.raises(ConfigError, match=said):
        chain(*given)


@pytest.mark.parametrize("kind", [DiscreteGaussian, Skellam])
def test_the_shares_of_the_noise_add_up_to_the_stated_variance(kind: type[DistributedNoise]) -> None:
    """Of a cohort of 10, of whom 6 are sure: their noise together has √(z Δ)², Δ = S / γ + √d."""
    stage = kind(LAYOUT, noise_multiplier=2.0, shares=0.6)
    fields, drawn = [Field("update", LAYOUT.size, FixedPoint(6))], []
    for number in range(1, 301):
        total = {"update": np.zeros(LAYOUT.size, dtype=np.int64)}
        stage.integers(total, IntegerContext(0, number, fields, np.arange(6), 10, {}, 10.0, Bound(0.5)))
        drawn.append(total["update"])
    noise = np.stack(drawn)
    assert not noise[:, PADDING].any()
    values, expected = noise[:, ~PADDING], 2.0 * (0.5 * 2.0**6 / 10 + sqrt((~PADDING).sum()))
    assert abs(values.std() - expected) < 4 * expected / sqrt(2 * values.size)
    assert abs(values.mean()) < 4 * expected / sqrt(values.size)


def test_a_small_discrete_gaussian_has_its_probabilities() -> None:
    generator = keyed.generator(0, keyed.Purpose.INTEGER_NOISE, 1)
    drawn = DiscreteGaussian(LAYOUT, 1.0)._drawn(generator, 0.8, 200_000)
    mass = np.exp(-0.5 * (np.arange(-3, 4) / 0.8) ** 2)
    for value, expected in zip(range(-3, 4), mass / mass.sum(), strict=True):
        assert abs(np.mean(drawn == value) - expected) < 4 * sqrt(expected / len(drawn)) + 1e-5


MASKED = [
    "aggregation.weights=uniform", "cohort=4", "rounds=2",
    "aggregation.protection={name: secagg, bits: 20, clip: 4.0, threshold: 0.75}",
]  # fmt: skip


def noisy(kind: str, more: str = "") -> str:
    return f"aggregation.stages=[{{name: clip, max_norm: 0.5}}, {{name: {kind}, noise_multiplier: 0.001{more}}}]"


@pytest.mark.parametrize("kind", ["discrete_gaussian", "skellam"])
def test_masked_runs_with_shared_noise_are_near_those_without_and_repeat(tmp_path: Path, kind: str) -> None:
    with Simulation(digits(tmp_path, *MASKED, noisy(kind))) as simulation:
        simulation.run()
        found = simulation.model().state_dict()
    with Simulation(digits(tmp_path, *MASKED, "aggregation.stages=[{name: clip, max_norm: 0.5}]")) as simulation:
        simulation.run()
        plain = simulation.model().state_dict()
    for name, values in plain.items():
        difference = (found[name] - values).abs().max()
        assert 0 < difference < 2e-3, name
    experiment = digits(tmp_path, *MASKED, noisy(kind), "rounds=1")
    assert final_sha256(experiment) == final_sha256(experiment)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["aggregation.protection={name: unmasked, bits: 16, clip: 1.0}"], "protects nothing by itself"),
        (["aggregation.protection=secagg"], "is made of few bits"),
        ([noisy("skellam", ", shares: 0.9")], r"shares is 0.9, but a sum is opened with the records of 0.75"),
        (["selection=poisson"], "an empty Poisson cohort adds no noise"),
        (["algorithm=mimelite"], "clients send several vectors"),
        (["aggregation.protection={name: secagg, bits: 20, clip: 0.3}", noisy("skellam").replace("0.001", "9")],
         "raise aggregation.protection.clip"),
    ],
)  # fmt: skip
def test_what_shared_noise_cannot_protect_is_refused(tmp_path: Path, more: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=rf"aggregation.stages\[1\]: skellam: .*{said}"):
        Simulation(digits(tmp_path, *MASKED, noisy("skellam"), *more))


@pytest.mark.parametrize("stage", ["{name: adaptive_clip, fraction_noise: 0.2}", "{name: clip, max_norm: 0.5}"])
def test_noise_of_the_server_has_the_bits_of_the_plain_run_under_masks(tmp_path: Path, stage: str) -> None:
    run = [
        "aggregation.weights=uniform", "rounds=2",
        f"aggregation.stages=[{stage}, {{name: gaussian, noise_multiplier: 1.0}}]",
    ]  # fmt: skip
    plain = final_sha256(digits(tmp_path, *run))
    assert final_sha256(digits(tmp_path, *run, "aggregation.protection=secagg")) == plain
