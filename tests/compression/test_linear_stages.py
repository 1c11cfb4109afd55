"""Stages whose messages add up: random columns, rotations, count sketches; and the model as a message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from chains import LAYOUT, chain, rows, sent, step

from raysim.aggregation import MeanContext, SendContext
from raysim.compression.rotate import transform
from raysim.compression.sketch import Sketch, Table
from raysim.compression.sparse import largest
from raysim.errors import ConfigError

RANDK = {"name": "randk", "fraction": 0.25, "dense_below": 0}
ROTATE = {"name": "rotate", "block": 16, "dense_below": 0}
SKETCH = {"name": "sketch", "rows": 3, "width": 12, "fraction": 0.1, "dense_below": 0}
VALUES = 58


def used(layout: Any = LAYOUT) -> Any:
    return np.concatenate([np.arange(one.start, one.start + one.size) for one in layout.segments])


def mean_of(aggregation: Any, updates: torch.Tensor, round_number: int = 1, state: Any = None) -> Any:
    """The equal mean of the records after the server's step, with the state."""
    count = len(updates)
    context = SendContext(0, round_number, np.arange(count), np.ones(count, np.int64))
    found, _ = aggregation.client({"update": updates.clone()}, context)
    mean = {name: values.double().mean(0).numpy() for name, values in found.items()}
    after, state, _ = step(
        aggregation, mean, aggregation.init(np.zeros(LAYOUT.size, np.float32)) if state is None else state, round_number
    )
    return after["update"], state


def test_random_columns_are_those_of_the_round_and_right_on_average() -> None:
    aggregation, updates = chain(RANDK), rows(2)
    expected = updates.double().mean(0).numpy()
    assert sent(aggregation, updates.clone())["update"].shape == (2, 14)
    total = np.zeros(LAYOUT.size)
    for number in range(1, 301):
        found, _ = mean_of(aggregation, updates, number)
        taken = np.flatnonzero(found)
        assert len(taken) == 14
        assert found[taken] == pytest.approx(expected[taken] * VALUES / 14)
        total += found / 300
    assert np.abs(total - expected).max() < 4 * np.abs(expected).max() * np.sqrt(3 / 300)
    as_they_are, _ = mean_of(chain({**RANDK, "unbiased": False}), updates)
    taken = np.flatnonzero(as_they_are)
    assert as_they_are[taken] == pytest.approx(expected[taken])


def test_layers_that_are_left_out_go_whole_through_linear_stages() -> None:
    updates = rows(2)
    expected = updates.double().mean(0).numpy()
    for stage in (RANDK, ROTATE, {**SKETCH, "width": 5}):
        found, _ = mean_of(chain({**stage, "include": ["0.weight"]}), updates)
        first = LAYOUT.segments[0].size
        assert np.array_equal(found[first:], expected[first:])


@pytest.mark.parametrize("block", [2, 16, 64])
def test_the_transform_is_hadamards(block: int) -> None:
    matrix = np.ones((1, 1))
    while len(matrix) < block:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    x = np.random.default_rng(0).standard_normal((block, 5))
    found = x.copy()
    transform(found)
    assert found == pytest.approx(matrix @ x)


def test_a_rotation_keeps_norms_evens_out_values_and_turns_back() -> None:
    aggregation, updates = chain(ROTATE), torch.zeros(2, LAYOUT.size)
    updates[0, 0], updates[1] = 3.0, rows(1)[0]
    rotated = sent(aggregation, updates.clone())["update"]
    assert rotated.shape == (2, 64)
    assert rotated.norm(dim=1) == pytest.approx(updates.norm(dim=1).numpy(), rel=1e-6)
    assert rotated[0].abs().max() == pytest.approx(3 / 4)
    for number in (1, 2):
        found, _ = mean_of(aggregation, updates, number)
        assert found == pytest.approx(updates.double().mean(0).numpy(), abs=1e-6)


def test_narrow_values_are_nearer_after_a_rotation() -> None:
    updates = torch.zeros(1, LAYOUT.size)
    updates[0, :35] = torch.linspace(-1, 1, 35) ** 9
    error = {}
    for name, stages in {"plain": [], "rotated": [ROTATE]}.items():
        found, _ = mean_of(chain(*stages, {"name": "compress", "codec": "int4", "dense_below": 0}), updates)
        error[name] = np.linalg.norm(found - updates[0].double().numpy())
    assert error["rotated"] < error["plain"]


def test_clips_masks_and_noise_go_with_random_columns_and_rotations() -> None:
    clip, noise = {"name": "clip", "max_norm": 1.0}, {"name": "gaussian", "noise_multiplier": 0.1}
    for stage in (RANDK, ROTATE):
        aggregation = chain(clip, stage, noise)
        assert (sent(aggregation, rows(2, scale=9.0))["update"].norm(dim=1) < 1.0001).all()
        assert chain(stage, protection="secagg").rule.road == "modular"
        assert chain(clip, {"name": "downlink", "codec": "int8", "dense_below": 0}, noise).sends_model
    with pytest.raises(ConfigError, match="gaussian needs records of bounded norm where they are folded"):
        chain(clip, SKETCH, noise)
    assert chain(SKETCH, clip, noise).stages[0].label == "sketch"
    with pytest.raises(ConfigError, match=r"local_laplace needs records of bounded sum of magnitudes"):
        chain({**clip, "order": 1}, ROTATE, {"name": "local_laplace", "noise_multiplier": 0.1})


def test_a_table_is_linear_and_its_medians_are_near() -> None:
    generator = np.random.default_rng(0)
    table = Table(1000, 7, 300, seed=0, number=0)
    x, y = generator.standard_normal((2, 1000))
    assert table.of(x) + 2 * table.of(y) == pytest.approx(table.of(x + 2 * y))
    few = np.zeros(1000)
    few[[3, 400, 999]] = [5.0, -7.0, 11.0]
    assert table.estimates(table.of(few)) == pytest.approx(few)
    error = table.estimates(table.of(x)) - x
    # Charikar et al. 2002, lemma 3: about the norm over the root of the width.
    assert np.sqrt(np.square(error).mean()) < np.linalg.norm(x) / np.sqrt(300)
    estimates = np.mean([t.estimates(t.of(x)) for t in (Table(1000, 1, 300, seed, 0) for seed in range(400))], axis=0)
    assert np.abs(estimates - x).max() < 5 * np.linalg.norm(x) / np.sqrt(300 * 400)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_server_of_a_sketch_is_the_loop_of_fetchsgd(momentum: float) -> None:
    aggregation, state = chain({**SKETCH, "momentum": momentum}), None
    (stage,) = aggregation.stages
    assert isinstance(stage, Sketch)
    table = stage.replaced["update"].table(0)
    velocity, error = np.zeros(36), np.zeros(36)
    for number in (1, 2, 3):
        updates = rows(2, seed=number)
        mean = table.of(updates.double().mean(0).numpy()[used()])
        velocity = momentum * velocity + mean
        error = error + velocity
        estimates = table.estimates(error)
        delta = np.zeros(VALUES)
        kept = largest(estimates, 6)
        delta[kept] = estimates[kept]
        error -= table.of(delta)
        found, state = mean_of(aggregation, updates, number, state)
        assert found[used()] == pytest.approx(delta, abs=1e-5)
    assert state["stages.sketch.update.error"] == pytest.approx(error, abs=1e-5)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ({**RANDK, "fraction": 0.001}, "randk: fraction 0.001 of 58 values is nothing; raise it"),
        ({**SKETCH, "width": 30}, "sketch: a table of 3 x 30 values is no smaller than the 58 values of 'update'"),
        (
            {**SKETCH, "fraction": 0.3},
            "sketch: fraction 0.3 of 58 values is more than a row of 12 values can tell apart",
        ),
        ({**SKETCH, "fraction": 0.001}, "sketch: fraction 0.001 of 58 values is a top-k of nothing"),
        ({"name": "sketch"}, "sketch: no layer is left to compress"),
        ({"name": "rotate"}, "rotate: no layer is left to compress"),
        ({"name": "downlink", "codec": "int8"}, "downlink: no layer is left to compress"),
    ],
    ids=str,
)
def test_stages_that_send_nothing_or_save_nothing_are_refused(stage: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"aggregation.stages\[0\]: {reason}"):
        chain(stage)


def test_the_model_is_sent_as_its_change_and_its_error_is_sent_later() -> None:
    aggregation = chain({"name": "downlink", "codec": {"name": "topk", "fraction": 0.1}, "dense_below": 0})
    assert aggregation.sends_model
    model = rows(1)[0].numpy()
    state: Any = aggregation.init(model)
    had, error, total = model[used()].astype(np.float64), np.zeros(VALUES), 0.0
    sent_model = model
    for number in range(1, 5):
        change = rows(1, seed=number)[0].numpy()
        sent_model, state = aggregation.model(sent_model, sent_model + change, state, context(number))
        whole = error + change[used()]
        kept = np.argsort(-np.abs(whole), kind="stable")[:6]
        had[kept] += whole[kept]
        error = whole.copy()
        error[kept] = 0
        assert sent_model[used()] == pytest.approx(had, abs=1e-6)
        assert state["stages.downlink.error"] == pytest.approx(error, abs=1e-6)
        assert state["stages.downlink.sent"][1] > total
        total = state["stages.downlink.sent"][1]


def context(number: int) -> Any:
    return MeanContext(0, number, (), slice(0, LAYOUT.size), 1, 1)


def test_a_client_is_sent_what_it_missed_or_the_whole_model() -> None:
    aggregation = chain({"name": "downlink", "codec": {"name": "topk", "fraction": 0.1}, "dense_below": 0})
    state = {"stages.downlink.had": torch.zeros(3, 3)}
    whole = 4 * VALUES

    def down(total: list[float], number: int) -> Any:
        server = {"stages.downlink.sent": torch.tensor(total)}
        given = SendContext(0, number, np.arange(3), np.ones(3, np.int64), state=state, server=server)
        return aggregation.client({"update": rows(3)}, given)[1]

    assert down([0, 40], 1).down.tolist() == [whole] * 3
    assert down([0, 90], 2).down.tolist() == [50] * 3
    state["stages.downlink.had"][1] = 0
    found = down([1, 20], 3)
    assert found.down.tolist() == [whole] * 3, "all that was missed is longer than the model"
    assert found.up.tolist() == [whole] * 3
    state["stages.downlink.had"][2] = torch.tensor([0.0, 2**20 - 30, 1])
    assert down([1, 20], 4).down.tolist() == [0, 0, 50]
