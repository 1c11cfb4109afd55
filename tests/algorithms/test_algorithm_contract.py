"""What every algorithm promises, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raysim.aggregation import RunningSum, mean
from raysim.algorithms import ALGORITHMS, Algorithm, build_algorithm
from raysim.config import Experiment
from raysim.config.algorithm_base import DataFacts
from raysim.training import ClientContext, LocalWork, ParameterLayout, RoundSetting

MODULE = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
LAYOUT = ParameterLayout(MODULE)
CPU = torch.device("cpu")
FACTS = DataFacts(100, 10, "cross_entropy", samples=lambda: 500, largest=lambda: 50)
OWN_STEPS = [name for name, kind in ALGORITHMS.items() if kind.local_step is not Algorithm.local_step]
PADDING = torch.ones(LAYOUT.size, dtype=torch.bool)
for segment in LAYOUT.segments:
    PADDING[segment.start : segment.start + segment.size] = False


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    """Every algorithm by its name, with server momentum so that there is a state to keep."""
    wanted = {"server_lr": 0.5, "server_momentum": 0.9}
    known = type(Experiment.parse({"algorithm": request.param}).algorithm).model_fields
    values = {"name": request.param, **{key: value for key, value in wanted.items() if key in known}}
    return build_algorithm(Experiment.parse({"algorithm": values}).algorithm.fitted(FACTS), LAYOUT)


def draw(*shape: int, seed: int) -> torch.Tensor:
    """Random values with the padding of a layout, or of several of them in a row, zero."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.masked_fill_(PADDING.repeat(-(-shape[-1] // LAYOUT.size))[: shape[-1]], 0.0)


def block(algorithm: Algorithm, order: Sequence[int]) -> tuple[torch.Tensor, ClientContext]:
    """Final rows and context of some of five clients, in this order."""
    chosen = list(order)
    clients = np.array([3, 14, 15, 92, 65])[chosen]
    samples, steps = np.array([50, 40, 40, 20, 10])[chosen], np.array([5, 4, 4, 2, 1])[chosen]
    rows, grad = draw(5, LAYOUT.size, seed=1)[chosen], draw(5, LAYOUT.trainable, seed=2)[chosen]
    setting = RoundSetting(seed=0, round=4, lr=0.1)
    loss = torch.tensor([0.5, 2.0, 1.0, 30.0, 1e-6], dtype=torch.float64)[chosen]
    broadcast = draw(LAYOUT.size, seed=0)
    kept = algorithm.client_state()
    state = {one.name: draw(5, one.size, seed=5 + i)[chosen] for i, one in enumerate(kept)}
    first = algorithm.init(broadcast.numpy())
    server = {name: draw(len(first[name]), seed=4) for name in algorithm.broadcast_state}
    anchor = draw(5, LAYOUT.trainable, seed=9)[chosen]
    losses = torch.rand((5, 2), generator=torch.Generator().manual_seed(11), dtype=torch.float64)[chosen]
    reference = draw(5, LAYOUT.trainable, seed=10)[chosen]
    numbers = (clients, samples, steps)
    scratch = {name: draw(5, LAYOUT.size, seed=20 + i)[chosen] for i, name in enumerate(algorithm.scratch)}
    return rows, ClientContext(
        setting, broadcast, LAYOUT.trainable, *numbers, grad, loss, server, state, anchor, reference, losses,
        scratch=scratch,
    )  # fmt: skip


def model_and_state(algorithm: Algorithm) -> tuple[Any, dict[str, Any]]:
    model = draw(LAYOUT.size, seed=0).numpy()
    return model, algorithm.init(model)


def averaged(algorithm: Algorithm, seed: int = 3) -> dict[str, Any]:
    return {field.name: draw(field.size, seed=seed).double().numpy() for field in algorithm.fields()}


def test_it_says_where_it_was_published_and_what_it_does(algorithm: Algorithm) -> None:
    assert algorithm.paper
    assert type(algorithm).__doc__


def test_it_knows_how_much_a_client_does(algorithm: Algorithm) -> None:
    client = Experiment().client
    assert isinstance(algorithm.work(client), LocalWork)
    assert algorithm.local_optimizer(client) in (None, client.optimizer)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_what_is_sent_is_what_the_fields_say(algorithm: Algorithm, k: int) -> None:
    sent = algorithm.send(*block(algorithm, range(k)))
    fields = algorithm.fields()
    assert [field.name for field in fields] == list(sent)
    assert len({field.name for field in fields}) == len(fields)
    for field in fields:
        assert sent[field.name].shape == (k, field.size)
        assert sent[field.name].dtype == torch.float32
        assert torch.isfinite(sent[field.name]).all()


def test_rows_are_treated_apart(algorithm: Algorithm) -> None:
    turned = [3, 0, 4, 2, 1]
    sent, again = algorithm.send(*block(algorithm, range(5))), algorithm.send(*block(algorithm, turned))
    alone = algorithm.send(*block(algorithm, [2]))
    for name, values in sent.items():
        assert torch.equal(values[turned], again[name])
        assert torch.equal(values[2], alone[name][0])


def test_what_clients_keep_is_changed_row_by_row_and_sent_as_a_copy(algorithm: Algorithm) -> None:
    def kept(order: Sequence[int]) -> dict[str, torch.Tensor]:
        rows, context = block(algorithm, order)
        algorithm.start(rows, context)
        sent = algorithm.send(rows, context)
        after = {name: values.clone() for name, values in context.state.items()}
        for values in sent.values():
            values.fill_(7.0)
        assert all(torch.equal(values, after[name]) for name, values in context.state.items())
        return after

    turned = [3, 0, 4, 2, 1]
    whole, again, alone = kept(range(5)), kept(turned), kept([2])
    for name, values in whole.items():
        assert torch.isfinite(values).all()
        assert torch.equal(values[turned], again[name])
        assert torch.equal(values[2], alone[name][0])


def test_gradients_are_corrected_row_by_row_and_nothing_else_is_changed(algorithm: Algorithm) -> None:
    def corrected(order: Sequence[int]) -> torch.Tensor:
        rows, context = block(algorithm, order)
        before = (rows.clone(), context.broadcast.clone())
        shared = {name: vector.clone() for name, vector in context.server.items()}
        algorithm.correct(context.grad, rows[:, : LAYOUT.trainable], context)
        assert all(torch.equal(context.server[name], vector) for name, vector in shared.items())
        assert torch.equal(rows, before[0])
        assert torch.equal(context.broadcast, before[1])
        return context.grad

    turned = [3, 0, 4, 2, 1]
    assert torch.equal(corrected(range(5))[turned], corrected(turned))
    assert torch.equal(corrected(range(5))[2:3], corrected([2]))


@pytest.mark.parametrize("algorithm", OWN_STEPS, indirect=True)
@pytest.mark.parametrize("step", [0, 1, 4])
def test_steps_of_its_own_are_taken_row_by_row_and_leave_the_padding_zero(algorithm: Algorithm, step: int) -> None:
    def stepped(order: Sequence[int]) -> list[torch.Tensor]:
        rows, context = block(algorithm, order)
        algorithm.local_step(context.grad, rows, replace(context, step=step))
        return [rows, *context.scratch.values(), *context.state.values()]

    turned = [3, 0, 4, 2, 1]
    for whole, again, alone in zip(stepped(range(5)), stepped(turned), stepped([2]), strict=True):
        assert torch.equal(whole[turned], again)
        assert torch.equal(whole[2:3], alone)
        if whole.shape[1] == LAYOUT.size:
            assert not whole[:, PADDING].any()


def test_sending_leaves_all_but_the_rows_alone_and_hands_over_no_view_of_it(algorithm: Algorithm) -> None:
    rows, context = block(algorithm, range(3))
    given = (context.broadcast, context.grad, *context.server.values())
    before = [tensor.clone() for tensor in given]
    for values in algorithm.send(rows, context).values():
        values.fill_(7.0)
    assert all(torch.equal(tensor, kept) for tensor, kept in zip(given, before, strict=True))


def test_the_padding_of_an_update_is_zero(algorithm: Algorithm) -> None:
    sent = algorithm.send(*block(algorithm, range(3)))
    for field in algorithm.fields():
        if field.size == LAYOUT.size:
            assert not sent[field.name][:, PADDING].any()


def test_applying_is_pure(algorithm: Algorithm) -> None:
    model, state = model_and_state(algorithm)
    update = averaged(algorithm)
    for array in (model, *state.values(), *update.values()):
        array.flags.writeable = False

    one, after = algorithm.apply(model, state, update)
    two, again = algorithm.apply(model, state, update)
    assert (one.dtype, one.shape) == (np.float32, model.shape)
    np.testing.assert_array_equal(one, two)
    assert after.keys() == again.keys() == state.keys()
    for name in state:
        np.testing.assert_array_equal(after[name], again[name])
        assert after[name].dtype == np.float64
        assert not np.shares_memory(after[name], state[name])
    assert not np.shares_memory(one, model)


def test_nothing_is_kept_on_the_algorithm(algorithm: Algorithm) -> None:
    before = {name: repr(value) for name, value in vars(algorithm).items()}
    model, state = model_and_state(algorithm)
    for _ in range(2):
        rows, context = block(algorithm, range(3))
        algorithm.correct(context.grad, rows[:, : LAYOUT.trainable], context)
        algorithm.send(rows, context)
        model, state = algorithm.apply(model, state, averaged(algorithm))
    assert {name: repr(value) for name, value in vars(algorithm).items()} == before


def test_the_state_is_what_a_resume_can_store(algorithm: Algorithm) -> None:
    model, state = model_and_state(algorithm)
    assert all(isinstance(value, np.ndarray) and value.dtype == np.float64 for value in state.values())
    _, again = model_and_state(algorithm)
    assert state.keys() == again.keys()
    straight = algorithm.apply(*algorithm.apply(model, state, averaged(algorithm)), averaged(algorithm, seed=4))
    stored, kept = algorithm.apply(model, state, averaged(algorithm))
    reloaded = {name: np.frombuffer(value.tobytes()) for name, value in kept.items()}
    resumed = algorithm.apply(stored, reloaded, averaged(algorithm, seed=4))
    np.testing.assert_array_equal(straight[0], resumed[0])


def test_one_client_of_weight_one_is_the_mean(algorithm: Algorithm) -> None:
    sent = algorithm.send(*block(algorithm, [2]))
    running = RunningSum(4, algorithm.fields(), CPU)
    assert running.fold(np.array([0], dtype=np.int32), np.array([1.0]), sent) == [None]
    found = mean(running.seal(), algorithm.fields())
    for name, values in sent.items():
        np.testing.assert_allclose(found[name], values[0].double().numpy(), rtol=0, atol=2.0**-52)
    model, state = model_and_state(algorithm)
    direct = {name: values[0].double().numpy() for name, values in sent.items()}
    np.testing.assert_allclose(
        algorithm.apply(model, state, found)[0], algorithm.apply(model, state, direct)[0], rtol=1e-7
    )


def test_a_mean_of_zeros_moves_nothing_in_the_first_round(algorithm: Algorithm) -> None:
    model, state = model_and_state(algorithm)
    nothing = {field.name: np.zeros(field.size) for field in algorithm.fields()}
    np.testing.assert_array_equal(algorithm.apply(model, state, nothing)[0], model)


def test_an_algorithm_sees_gradients_where_a_hook_of_its_own_is_shown_them() -> None:
    class Corrected(Algorithm):
        def correct(self, grad: torch.Tensor, rows: torch.Tensor, context: ClientContext) -> None:
            grad.neg_()

    class Sent(Algorithm):
        def send(self, rows: torch.Tensor, context: ClientContext) -> dict[str, torch.Tensor]:
            return {"update": context.grad}

    class OnTheServer(Algorithm):
        columnwise = False

    config = Experiment().algorithm
    assert Corrected(config, LAYOUT).sees_gradients
    assert Sent(config, LAYOUT).sees_gradients
    assert not OnTheServer(config, LAYOUT).sees_gradients
