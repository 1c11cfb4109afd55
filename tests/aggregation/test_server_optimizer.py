"""The server's step against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from raysim.aggregation import ServerSgd

TRAINABLE, SIZE = 32, 48


def draw(seed: int, size: int = SIZE) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(seed).standard_normal(size)


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.0), (0.3, 0.0), (1.0, 0.9), (0.3, 0.5)])
def test_the_server_follows_a_plain_loop(lr: float, momentum: float) -> None:
    server = ServerSgd(lr, momentum, TRAINABLE)
    model = draw(0).astype(np.float32)
    state = server.init(model)
    plain, velocity = model.copy(), [0.0] * TRAINABLE
    for round_number in range(1, 8):
        update = draw(round_number)
        model, state = server.step(model, state, update)
        for i in range(SIZE):
            if i < TRAINABLE:
                velocity[i] = momentum * velocity[i] + update[i]
                plain[i] = np.float32(float(plain[i]) + lr * velocity[i])
            else:
                plain[i] = np.float32(float(plain[i]) + update[i])
        assert model.dtype == np.float32
        np.testing.assert_array_equal(model, plain)
    assert state.keys() == ({"momentum"} if momentum else set())


def test_running_statistics_move_by_the_plain_mean_whatever_the_server_learns_with() -> None:
    server, model = ServerSgd(0.1, 0.9, TRAINABLE), np.zeros(SIZE, dtype=np.float32)
    state = server.init(model)
    for _ in range(3):
        model, state = server.step(model, state, np.ones(SIZE))
    np.testing.assert_array_equal(model[TRAINABLE:], np.full(SIZE - TRAINABLE, 3.0))
    assert (model[:TRAINABLE] != 3.0).all()


def test_federated_averaging_with_a_learning_rate_of_one_arrives_at_the_clients_mean() -> None:
    model, arrived = draw(0).astype(np.float32), draw(1).astype(np.float32)
    update = (arrived.astype(np.float64)) - model
    found, state = ServerSgd(1.0, 0.0, TRAINABLE).step(model, {}, update)
    np.testing.assert_array_equal(found, arrived)
    assert state == {}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_step_only_reads_its_arguments(momentum: float) -> None:
    server, model, update = ServerSgd(0.5, momentum, TRAINABLE), draw(0).astype(np.float32), draw(1)
    state = server.init(model)
    for array in (model, update, *state.values()):
        array.flags.writeable = False
    first, after = server.step(model, state, update)
    again, _ = server.step(model, state, update)
    np.testing.assert_array_equal(first, again)
    assert not any(np.shares_memory(first, array) for array in (model, update))
    assert not any(np.shares_memory(value, update) for value in after.values())


def test_nothing_averaged_moves_nothing_but_by_momentum() -> None:
    server, model = ServerSgd(1.0, 0.5, TRAINABLE), draw(0).astype(np.float32)
    unmoved, state = server.step(model, server.init(model), np.zeros(SIZE))
    np.testing.assert_array_equal(unmoved, model)
    assert not state["momentum"].any()
    moved, _ = server.step(model, {"momentum": np.ones(TRAINABLE)}, np.zeros(SIZE))
    np.testing.assert_allclose(moved[:TRAINABLE] - model[:TRAINABLE], 0.5, atol=1e-6)
