"""Gaussian noise on the sum: its scale, its keys, its denominator, and what it is refused with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chains import LAYOUT, chain, step
from federations import digits, final_sha256
from torch import nn

from raysim import Simulation
from raysim.aggregation import MeanContext
from raysim.errors import ConfigError
from raysim.keyed import Purpose
from raysim.privacy.drawing import BLOCK, normal
from raysim.training import ParameterLayout

CLIP = {"name": "clip", "max_norm": 0.5}
NOISE = {"name": "gaussian", "noise_multiplier": 2.0}
FEDAVG = ["aggregation.weights=uniform", "selection=poisson"]
ZERO = {"update": np.zeros(LAYOUT.size), "clip.share": np.zeros(1)}


def stages(*given: str) -> str:
    return f"aggregation.stages=[{', '.join(given)}]"


def test_noise_on_the_mean_has_the_stated_deviation_and_none_is_in_the_padding() -> None:
    noisy = chain(CLIP, NOISE)
    drawn = np.stack([step(noisy, ZERO, {}, number)[0]["update"] for number in range(1, 401)])
    padding = np.ones(LAYOUT.size, dtype=bool)
    for segment in LAYOUT.segments:
        padding[segment.start : segment.start + segment.size] = False
    assert padding.any()
    assert not drawn[:, padding].any()
    values, expected = drawn[:, ~padding], 2.0 * 0.5 / 10
    assert abs(values.std() - expected) < 4 * expected / np.sqrt(2 * values.size)
    assert abs(values.mean()) < 4 * expected / np.sqrt(values.size)
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 4 / np.sqrt(values.size), "by rounds"
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 4 / np.sqrt(values.size), (
        "by columns"
    )
    assert step(noisy, ZERO, {})[2]["stages/gaussian/deviation"] == pytest.approx(expected)


def test_the_sum_is_divided_by_the_expected_cohort() -> None:
    noisy = chain(CLIP, {**NOISE, "noise_multiplier": 1e-9})
    mean = {**ZERO, "update": np.full(LAYOUT.size, 0.1)}
    found = step(noisy, mean, {}, cohort=10)[0]["update"]
    np.testing.assert_allclose(found[:35], 0.1, rtol=1e-6)
    arrived = {"stages.arrived": np.array([7.0])}
    context = MeanContext(0, 1, (), slice(0, LAYOUT.size), 7, 10, 10.0)
    np.testing.assert_allclose(noisy.server({**mean, **arrived}, {}, context)[0]["update"][:35], 0.07, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 1000, BLOCK - 1, BLOCK, 3 * BLOCK])
def test_any_cut_into_ranges_gives_the_same_noise(width: int) -> None:
    key = (5, 3)
    whole = normal("keyed", 1, Purpose.NOISE, key, slice(0, 2 * BLOCK + 100))
    begin = 2 * BLOCK - 50 if width == 1 else 0
    cuts = [slice(at, min(at + width, len(whole))) for at in range(begin, len(whole), width)]
    parts = [normal("keyed", 1, Purpose.NOISE, key, cut) for cut in cuts]
    assert np.array_equal(np.concatenate(parts), whole[begin:])
    assert not np.array_equal(whole[:100], normal("keyed", 1, Purpose.NOISE, (5, 4), slice(0, 100)))


def test_a_step_in_ranges_gives_the_noise_of_one_call() -> None:
    layout = ParameterLayout(nn.Linear(70, 9))
    noisy = chain(CLIP, NOISE, layout=layout)
    mean = {"update": np.linspace(-1, 1, layout.size), "clip.share": np.zeros(1)}
    whole = step(noisy, mean, {}, columns=slice(0, layout.size))[0]["update"]
    parts = []
    for start in range(0, layout.size, 33):
        columns = slice(start, min(start + 33, layout.size))
        part = {**mean, "update": mean["update"][columns]}
        parts.append(step(noisy, part, {}, columns=columns)[0]["update"])
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_system_generator_draws_other_noise_of_the_same_scale_each_time() -> None:
    noisy = chain(CLIP, {**NOISE, "generator": "system"})
    drawn = np.stack([step(noisy, ZERO, {})[0]["update"][:35] for _ in range(400)])
    assert len(np.unique(drawn)) == drawn.size
    assert abs(drawn.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * drawn.size)
    assert noisy.inexact == {"gaussian": "drawn from the system's randomness, so that no run can be repeated"}


def test_noise_is_split_between_the_update_and_the_share_below_an_adaptive_bound() -> None:
    adaptive = {"name": "adaptive_clip", "initial_norm": 0.5}
    noisy = chain(adaptive, {**NOISE, "noise_multiplier": 1.0})
    state = noisy.init(np.zeros(LAYOUT.size, np.float32))
    mean = {"update": np.zeros(LAYOUT.size), "adaptive_clip.below": np.zeros(1)}
    deviation = step(noisy, mean, state, cohort=20)[2]["stages/gaussian/deviation"]
    assert deviation == pytest.approx((1 - 1 / (2 * 20 / 20) ** 2) ** -0.5 * 0.5 / 20)  # σ_b = m / 20


def test_poisson_rounds_divide_by_the_expected_cohort_and_empty_ones_move_the_model(tmp_path: Path) -> None:
    """Round by round against the same round without noise, whose mean is over the realised cohort."""
    quiet = stages("{name: clip, max_norm: 1e6}", "{name: gaussian, noise_multiplier: 1e-12}")
    run = [*FEDAVG, "cohort=2", "rounds=1"]
    for seed in (0, 1, 2):
        with Simulation(digits(tmp_path, *run, f"seed={seed}")) as plain:
            before = {name: one.clone() for name, one in plain.model().state_dict().items()}
            (committed,) = plain
            mean = plain.model().state_dict()
        with Simulation(digits(tmp_path, *run, f"seed={seed}", quiet)) as simulation:
            simulation.run()
            found = simulation.model().state_dict()
        for name, first in before.items():
            expected = first + (mean[name] - first) * committed.row.cohort / 2
            np.testing.assert_allclose(found[name].numpy(), expected.numpy(), atol=1e-5)


def test_system_noise_is_flagged_and_two_runs_differ(tmp_path: Path) -> None:
    noise = stages("{name: clip, max_norm: 0.3}", "{name: gaussian, noise_multiplier: 1.0, generator: system}")
    run = [*FEDAVG, "rounds=1", noise]
    assert final_sha256(digits(tmp_path, *run)) != final_sha256(digits(tmp_path, *run))
    with Simulation(digits(tmp_path, *run), directory=tmp_path / "flagged") as simulation:
        simulation.run()
    recorded = (tmp_path / "flagged" / "environment.json").read_text()
    assert '"stages.gaussian": "drawn from the system' in recorded
    assert '"numpy"' in recorded.partition('"bits"')[2]
    assert "noise is drawn from the system" in (tmp_path / "flagged" / "log.jsonl").read_text()


GAUSSIAN = "{name: gaussian, noise_multiplier: 1.0}"
PRIVATE = [*FEDAVG, stages("{name: clip, max_norm: 0.3}", GAUSSIAN)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([stages(GAUSSIAN)], r"stages\[0\]: gaussian needs records of bounded norm"),
        ([stages(GAUSSIAN, "{name: clip, max_norm: 1.0}")], r"stages\[0\]: gaussian needs records of bounded norm"),
        (
            [stages("{name: clip, max_norm: 1.0}", GAUSSIAN, "adaptive_clip")],
            r"stages\[2\]: adaptive_clip stands inside of the noise, .* put it before gaussian",
        ),
        ([stages("{name: clip, max_norm: 1.0}", GAUSSIAN, GAUSSIAN)], r"stages\[2\]: gaussian2: gaussian adds noise"),
        ([stages("{name: adaptive_clip, fraction_noise: 0.01}", GAUSSIAN)], r"stages\[1\]: gaussian: .* is used up"),
        ([stages("{name: adaptive_clip, fraction_noise: 0}", GAUSSIAN)], r"stages\[1\]: gaussian: .* is used up"),
        (["aggregation.weights=samples"], r"stages\[1\]: gaussian needs clients whose weight is at most 1"),
        (["aggregation.weights=loss"], r"stages\[1\]: gaussian needs clients whose weight is at most 1"),
        (["aggregation.weights={name: law, loss: 1}"], r"stages\[1\]: gaussian needs clients whose weight"),
        (
            ["aggregation.weights=learned", "data.validation=0.1"],
            r"gaussian works on the road modular or sum",
        ),
        (["algorithm=fednova"], r"gaussian: fednova sends 'length', a number that would be false"),
        (["algorithm=fedexp"], r"gaussian: fedexp sends 'square', a number"),
        (["algorithm=qfedavg"], r"gaussian: qfedavg sends 'scale', a number"),
        (["algorithm=term"], r"gaussian: term sends 'scale', a number"),
        (["algorithm=afl"], r"gaussian: afl sends 'scale', a number"),
        (["algorithm=ifca"], r"gaussian: ifca sends 'present', a number"),
        (["algorithm=feddyn"], r"gaussian: feddyn sends 'share', which is neither clipped nor noised"),
        (["algorithm=scaffold"], r"gaussian: scaffold sends 'share', which is neither clipped nor noised"),
        (["algorithm=centralised"], r"gaussian: centralised training has one client"),
        (["selection=oort"], r"selection: oort selects by the clients' losses"),
        (["selection=power_of_choice"], r"selection: power_of_choice selects by the clients' losses"),
        (["stop={metric: train/loss, target: 0.1}"], r"stop: train/loss is measured on private data of the clients"),
        (["stop={metric: clients/accuracy/mean, patience: 2}"], r"stop: clients/accuracy/mean is measured on private"),
        (["training.class_weights=inverse"], r"gaussian: training.class_weights counts the labels of all clients"),
        (["training.logits=adjusted"], r"gaussian: training.logits: adjusted counts the labels of all clients"),
        (["client.optimizer.state=keep", "client.optimizer.momentum=0.5"], r"set client.optimizer.state to reset"),
        (
            [stages("{name: 'prototype_stages:TopK'}", "{name: clip, max_norm: 1.0}", GAUSSIAN)],
            r"stages\[2\]: gaussian needs records of this round alone: .* error feedback",
        ),
    ],
)
def test_what_noise_cannot_protect_is_refused_in_one_line(tmp_path: Path, more: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Simulation(digits(tmp_path, *PRIVATE, *more), directory=tmp_path / "run").close()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_running_statistics_are_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    with pytest.raises(ConfigError, match=r"stages\[1\]: gaussian: the model has running statistics .* group"):
        Simulation(digits(tmp_path, *PRIVATE), model=module)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd", "fedprox", "fedadam", "fedrep", "ditto", "mimelite"])
def test_algorithms_whose_records_are_bounded_are_taken(tmp_path: Path, algorithm: str) -> None:
    layers = ["algorithm.local_layers=['output.*']"] if algorithm == "fedrep" else []
    noisy = digits(tmp_path, *PRIVATE, f"algorithm={algorithm}", *layers, "rounds=1")
    with Simulation(noisy) as simulation:
        (committed,) = simulation
    assert committed.metrics["stages/gaussian/deviation"] == pytest.approx(0.3 / 4)
