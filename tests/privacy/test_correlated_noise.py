"""Noise that is correlated over rounds: against the matrices themselves, in any cut, and for which samplers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chains import LAYOUT, chain, step
from federations import digits

from raysim import Simulation
from raysim.config import Experiment
from raysim.config.stages import BltStageConfig
from raysim.errors import ConfigError
from raysim.keyed import Purpose
from raysim.privacy.correlated import with_matrices
from raysim.privacy.drawing import normal
from raysim.privacy.factorisation import blt_coefficients, square_root
from raysim.selection.cohort import draw_cohort

ROUNDS, SCALE, DECAY = 13, (0.2, 0.3), (0.9, 0.4)
CLIP = {"name": "clip", "max_norm": 0.5}
STAGES: dict[str, dict[str, Any]] = {
    "tree": {"name": "tree", "noise_multiplier": 2.0},
    "tree again": {"name": "tree", "noise_multiplier": 2.0, "restart": 5},
    "bsr": {"name": "bsr", "noise_multiplier": 2.0, "bands": 4},
    "blt": {"name": "blt", "noise_multiplier": 2.0, "output_scale": SCALE, "buf_decay": DECAY},
}
VALUES = np.r_[0:35]


def toeplitz(coefficients: Any) -> np.ndarray:
    column = np.zeros(ROUNDS)
    column[: len(coefficients)] = coefficients[:ROUNDS]
    return np.array([[column[i - j] if i >= j else 0.0 for j in range(ROUNDS)] for i in range(ROUNDS)])


MATRICES = {
    "bsr": toeplitz(square_root(4)),
    "blt": toeplitz(blt_coefficients(np.array(SCALE), np.array(DECAY), ROUNDS)),
}


def noise_of_rounds(name: str, columns: tuple[slice, ...] = (slice(0, LAYOUT.size),)) -> np.ndarray:
    """The noise on the update in each round `[ROUNDS, P]`, in units of its deviation, in a step cut into ranges."""
    noisy = chain(CLIP, STAGES[name])
    state, found = noisy.init(np.zeros(LAYOUT.size, np.float32)), []
    for number in range(1, ROUNDS + 1):
        parts, after = [], []
        for cut in columns:
            mean = {"update": np.zeros(cut.stop - cut.start), "clip.share": np.zeros(1)}
            own = {key: vector[cut] for key, vector in state.items()}
            one, kept, metrics = step(noisy, mean, own, number, columns=cut)
            parts.append(one["update"])
            after.append(kept)
        state = {key: np.concatenate([one[key] for one in after]) for key in after[0]}
        found.append(np.concatenate(parts) / metrics[f"stages/{noisy.stages[1].label}/deviation"])
    return np.stack(found)


@pytest.mark.parametrize("name", MATRICES)
def test_the_noise_of_all_rounds_is_the_inverse_of_the_matrix_times_independent_noise(name: str) -> None:
    drawn = [normal("keyed", 0, Purpose.NOISE, (0, number), slice(0, LAYOUT.size)) for number in range(1, ROUNDS + 1)]
    expected = np.linalg.solve(MATRICES[name], np.stack(drawn)[:, VALUES])
    np.testing.assert_allclose(noise_of_rounds(name)[:, VALUES], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("restart", [None, 5])
def test_the_noise_of_a_sum_of_rounds_is_that_of_the_nodes_that_make_it_up(restart: int | None) -> None:
    sums = np.cumsum(noise_of_rounds("tree" if restart is None else "tree again"), axis=0)
    before = np.zeros(LAYOUT.size)
    for number in range(1, ROUNDS + 1):
        tree, inside = (0, number) if restart is None else ((number - 1) // restart, (number - 1) % restart + 1)
        if inside == 1 and number > 1:
            before = sums[number - 2]
        nodes, end = np.zeros(LAYOUT.size), inside
        while end:
            level = (end & -end).bit_length() - 1
            nodes += normal("keyed", 0, Purpose.NOISE, (0, tree, level, end >> level), slice(0, LAYOUT.size))
            end -= end & -end
        np.testing.assert_allclose((sums[number - 1] - before)[VALUES], nodes[VALUES], atol=1e-12)


@pytest.mark.parametrize("name", STAGES)
def test_ranges_of_columns_give_the_noise_of_one_call(name: str) -> None:
    cuts = (slice(0, 40), slice(40, 41), slice(41, LAYOUT.size))
    assert np.array_equal(noise_of_rounds(name, cuts), noise_of_rounds(name))


def round_robin(tmp_path: Path, name: str, *more: str) -> Experiment:
    stages = f"aggregation.stages=[{{name: clip, max_norm: 0.3}}, {STAGES[name]}]".replace("(", "[").replace(")", "]")
    return digits(tmp_path, "selection=round_robin", "cohort=2", "aggregation.weights=uniform", stages, *more)


@pytest.mark.parametrize(("population", "cohort"), [(6, 2), (7, 3), (10, 3), (11, 5), (5, 4)])
def test_a_round_robin_keeps_the_separation_that_the_accountant_counts_on(population: int, cohort: int) -> None:
    experiment = Experiment.parse({"selection": "round_robin", "cohort": cohort, "data": {"source": "digits"}})
    rounds = 60
    came: dict[int, list[int]] = {client: [] for client in range(population)}
    for number in range(1, rounds + 1):
        for client in draw_cohort(experiment, population, number).tolist():
            came[client].append(number)
    assert min(np.diff(one).min() for one in came.values()) == population // cohort
    assert max(len(one) for one in came.values()) == -(-rounds * cohort // population)


@pytest.mark.parametrize("selection", ["poisson", "uniform", "clustered"])
def test_samplers_without_a_separation_are_refused(tmp_path: Path, selection: str) -> None:
    with pytest.raises(ConfigError, match=rf"stages\[1\]: bsr: selection {selection} lets a client come back"):
        Simulation(round_robin(tmp_path, "bsr", f"selection={selection}"))


def test_a_bound_that_changes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stages\[1\]: blt needs a bound that is the same in every round"):
        chain("adaptive_clip", STAGES["blt"])


def test_the_matrix_of_least_error_is_found_for_the_run_and_recorded(tmp_path: Path) -> None:
    blt = "aggregation.stages=[{name: clip, max_norm: 0.3}, {name: blt, noise_multiplier: 1.0, buffers: 2}]"
    experiment = round_robin(tmp_path, "bsr", blt, "rounds=40")
    found = with_matrices(experiment, 60, 4).aggregation.stages[1]
    assert isinstance(found, BltStageConfig)
    assert found.output_scale is not None
    assert found.buf_decay is not None
    assert len(found.output_scale) == len(found.buf_decay) <= 2
    with pytest.raises(ConfigError, match=r"aggregation.stages\[1\]: blt: correlated noise gains nothing"):
        Simulation(round_robin(tmp_path, "bsr", blt, "rounds=40", "cohort=6"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"output_scale": [0.1]}, "as many output_scale as buf_decay"),
        ({"output_scale": [0.7, 0.7], "buf_decay": [0.5, 0.1]}, "of sum at most 1"),
        ({"output_scale": [0.7], "buf_decay": [1.5]}, r"buf_decay in \[0, 1\]"),
    ],
)
def test_parameters_that_are_no_such_matrix_are_refused(more: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"aggregation.stages\[1\]: blt: expected .*{said}"):
        chain(CLIP, {"name": "blt", "noise_multiplier": 1.0, **more})
