"""The server's step range by range is the step over all columns at once, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from adapted_modules import RULES, adapted
from torch import nn

from raysim.aggregation import ColumnSums, Field, MeanContext, PartialSum, RunningSum, combine, mean
from raysim.algorithms import ALGORITHMS, Algorithm, build_algorithm
from raysim.config import Experiment
from raysim.config.algorithm_base import DataFacts
from raysim.errors import RunError
from raysim.execution.server.columns import ServerStep
from raysim.training import ParameterLayout

LAYOUT = ParameterLayout(nn.Sequential(nn.Linear(9, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)))  # T < P
ADAPTED = ParameterLayout(adapted())
CONTEXT = MeanContext(0, 2, (), slice(0, LAYOUT.size), 3, 3)
WEIGHTS = [0.5, 0.2, 0.1]
FACTS = DataFacts(100, 10, "cross_entropy", samples=lambda: 500, largest=lambda: 50)


def build(values: Mapping[str, Any], layout: ParameterLayout) -> Algorithm:
    return build_algorithm(Experiment.parse({"algorithm": values}).algorithm.fitted(FACTS), layout)


def draw(size: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(size)


def scale(name: str) -> float:
    """FedKSeed's walk along all of its directions has a bound."""
    return 0.01 if name == "scalars" else 1.0


def sums_of(fields: tuple[Field, ...]) -> list[PartialSum]:
    sums = []
    for client, weight in enumerate(WEIGHTS):
        running = RunningSum(2, fields, torch.device("cpu"))
        sent = {f.name: torch.from_numpy(draw(f.size, client) * scale(f.name)).float()[None] for f in fields}
        running.fold(np.array([client], dtype=np.int32), np.array([weight]), sent)
        total = running.seal()
        for vector in total.totals.values():
            vector.flags.writeable = False  # as the object store hands them out
        sums.append(total)
    return sums


def start(algorithm: Algorithm) -> tuple[Any, dict[str, Any]]:
    model = draw(algorithm.layout.size, 7).astype(np.float32)
    state = {name: np.abs(draw(len(vector), 8)) * scale(name) for name, vector in algorithm.init(model).items()}
    for vector in (model, *state.values()):
        vector.flags.writeable = False
    return model, state


BY_CLIENT = ("d_psgd", "push_sum", "hierfavg")
"""What the server is given of them is no mean: it comes by client or by edge, and always whole."""


@pytest.mark.parametrize("columns", [1, 7, 32, LAYOUT.trainable, LAYOUT.size - 1, LAYOUT.size, 10_000])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in BY_CLIENT])
def test_ranges_of_any_width_give_the_bits_of_one_call(name: str, momentum: float, columns: int) -> None:
    known = type(Experiment.parse({"algorithm": name}).algorithm).model_fields
    wanted = {"server_lr": 0.3, "server_momentum": momentum}
    values = {"name": name, **{key: value for key, value in wanted.items() if key in known}}
    step = ServerStep(partial(build, values), ADAPTED if name in RULES else LAYOUT, columns)
    model, state = start(step.algorithm)
    sums = sums_of(step.algorithm.fields())
    whole = step.algorithm.apply(model, state, mean(combine(sums), step.algorithm.fields()))
    for _ in range(2):  # again, in memory that was used before
        next_state, next_model, _ = step(ColumnSums(sums), step.algorithm.fields(), state, model, CONTEXT)
        np.testing.assert_array_equal(next_model, whole[0])
        assert next_model.dtype == np.float32
        assert next_state.keys() == whole[1].keys()
        for key in next_state:
            np.testing.assert_array_equal(next_state[key], whole[1][key])


def test_the_step_is_a_plain_loop_over_elements() -> None:
    step = ServerStep(partial(build, {"name": "fedavg", "server_lr": 0.3}), LAYOUT, 16)
    model, state = start(step.algorithm)
    sums = sums_of(step.algorithm.fields())
    weight = sum(part.weight for part in sums) / 2.0**52
    _, found, _ = step(ColumnSums(sums), step.algorithm.fields(), state, model, CONTEXT)
    for i in range(LAYOUT.size):
        total = sum(int(part.totals["update"][i]) for part in sums)
        average = float(total) / 2.0**52 / weight
        lr = 0.3 if i < LAYOUT.trainable else 1.0
        assert found[i] == np.float32(float(model[i]) + lr * average)


def test_results_that_somebody_holds_are_not_written_again() -> None:
    step = ServerStep(partial(build, {"name": "fedavg", "server_momentum": 0.5}), LAYOUT, 16)
    model, state = start(step.algorithm)
    sums = ColumnSums(sums_of(step.algorithm.fields()))
    rounds: list[tuple[Any, Any]] = [(state, model)]
    copies = []
    for _ in range(4):
        rounds.append(step(sums, step.algorithm.fields(), *rounds[-1], CONTEXT)[:2])
        copies.append((rounds[-1][0]["momentum"].copy(), rounds[-1][1].copy()))
    for (held_state, held_model), (kept_state, kept_model) in zip(rounds[1:], copies, strict=True):
        np.testing.assert_array_equal(held_state["momentum"], kept_state)
        np.testing.assert_array_equal(held_model, kept_model)


class Clipped(Algorithm):
    """Clips the mean by its norm, which no range knows, and sends a number besides."""

    paper = "none"
    columnwise = False

    def fields(self) -> tuple[Field, ...]:
        return (Field("update", self.layout.size), Field("tau", 1))

    def init(self, model: Any) -> dict[str, Any]:
        return {"rounds": np.zeros(1)}

    def apply(self, model: Any, state: Any, mean: Any) -> Any:
        norm = float(np.linalg.norm(mean["update"]))
        moved = model + mean["tau"] * mean["update"] / max(1.0, norm)
        return moved.astype(np.float32), {"rounds": state["rounds"] + 1}


class Scaled(Clipped):
    """The same without the norm: columns apart, but for a number that comes whole."""

    columnwise = True

    def apply(self, model: Any, state: Any, mean: Any) -> Any:
        return (model + mean["tau"] * mean["update"]).astype(np.float32), {"rounds": state["rounds"] + 1}


class Growing(Scaled):
    """Returns a state that it was not given."""

    def apply(self, model: Any, state: Any, mean: Any) -> Any:
        return model, {"new": mean["update"]}


@pytest.mark.parametrize("kind", [Clipped, Scaled])
def test_numbers_beside_the_vectors_come_whole_and_norms_see_the_whole_vector(kind: type[Algorithm]) -> None:
    config = Experiment.parse({}).algorithm
    step = ServerStep(partial(kind, config), LAYOUT, 16)
    model, state = start(step.algorithm)
    fields = step.algorithm.fields()
    sums = sums_of(fields)
    expected, after = step.algorithm.apply(model, state, mean(combine(sums), fields))
    next_state, found, _ = step(ColumnSums(sums), step.algorithm.fields(), state, model, CONTEXT)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(next_state["rounds"], after["rounds"])


def test_a_state_that_does_not_fit_its_range_says_what_to_do() -> None:
    step = ServerStep(partial(Growing, Experiment.parse({}).algorithm), LAYOUT, 16)
    model, state = start(step.algorithm)
    with pytest.raises(RunError, match=r"'new'.*columnwise = False"):
        step(ColumnSums(sums_of(step.algorithm.fields())), step.algorithm.fields(), state, model, CONTEXT)


def test_a_part_of_a_layout_has_its_sizes_and_no_segments() -> None:
    for first in range(0, LAYOUT.size, 16):
        part = LAYOUT.part(first, first + 16)
        assert part.size == 16
        assert part.trainable == sum(first <= column < first + 16 for column in range(LAYOUT.trainable))
    with pytest.raises(AttributeError, match=r"no segments: .* columnwise = False"):
        _ = LAYOUT.part(0, 16).segments
