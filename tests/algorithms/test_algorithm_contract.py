"""What every algorithm promises, whichever it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from adapted_modules import RULES, adapted
from torch import nn

from raysim.aggregation import Field
from raysim.algorithms import ALGORITHMS, Algorithm, ClientVector, FedAvg, build_algorithm
from raysim.config import Experiment
from raysim.config.algorithm_base import DataFacts
from raysim.config.client import ClientConfig, SgdConfig
from raysim.data import DataInfo
from raysim.execution.clients.contract import ContractError, check_program, used_columns
from raysim.execution.clients.local_training import heard
from raysim.training import (
    Clients,
    EngineChoice,
    Heard,
    LocalWork,
    ParameterLayout,
    RoundSetting,
    Shard,
    Shards,
    Some,
    Trainer,
    build_engine,
    row_optimizer,
)
from raysim.training.losses import cross_entropy

MODULE = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
LAYOUT = ParameterLayout(MODULE)
FACTS = DataFacts(100, 10, "cross_entropy", samples=lambda: 500, largest=lambda: 50)
LINEAR = ParameterLayout(nn.Linear(5, 2))
ADAPTED = ParameterLayout(adapted())
CLIENT = Experiment.parse({"client": {"batch_size": 5}}).client
INFO = DataInfo("classification", (5,), "real", classes=2)
SETTING = RoundSetting(seed=0, round=4, lr=0.1)


MIXED = {"fedit": {"measure_gap": True, "ranks": [3, 1]}, "rolora": {"ranks": [1, 3]}, "hlora": {"ranks": [1, 2, 3]}}


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    """Every algorithm by its name, with server momentum so that there is a state to keep."""
    wanted = {"server_lr": 0.5, "server_momentum": 0.9, "seeds": 64, **MIXED.get(request.param, {})}
    known = type(Experiment.parse({"algorithm": request.param}).algorithm).model_fields
    values = {"name": request.param, **{key: value for key, value in wanted.items() if key in known}}
    layout = LINEAR if request.param == "cocoa" else ADAPTED if request.param in RULES else LAYOUT
    config = Experiment.parse({"algorithm": values}).algorithm
    return build_algorithm(config.fitted(replace(FACTS, cohort=100) if config.apart else FACTS), layout)


def draw(algorithm: Algorithm, size: int, seed: int) -> torch.Tensor:
    """Random values with the padding of the layout, or of several of them in a row, zero."""
    used = used_columns(algorithm.layout)
    values = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    return values * used.repeat(-(-size // len(used)))[:size]


def model_and_state(algorithm: Algorithm) -> tuple[Any, dict[str, Any]]:
    model = draw(algorithm, algorithm.layout.size, seed=0).numpy()
    return model, algorithm.init(model)


def averaged(algorithm: Algorithm, seed: int = 3) -> dict[str, Any]:
    return with_rows(
        algorithm, {field.name: draw(algorithm, field.size, seed=seed).double().numpy() for field in algorithm.fields()}
    )


def with_rows(algorithm: Algorithm, means: dict[str, Any]) -> dict[str, Any]:
    """The means, and of fields that are kept or by parts the one client's, and all parts', that they are of."""
    kept = {f"{field.name}.rows": means[field.name].astype(np.float32) for field in algorithm.fields() if field.kept}
    parts = {
        f"{field.name}.parts": np.tile(means[field.name], field.parts) for field in algorithm.fields() if field.parts
    }
    count = max(field.parts for field in algorithm.fields())
    weights = {"rows.weights": np.ones(1)} if kept else {"parts.weights": np.full(count, 1 / count)} if parts else {}
    return means | kept | parts | weights


def test_it_says_where_it_was_published_and_what_it_does(algorithm: Algorithm) -> None:
    assert algorithm.paper
    assert type(algorithm).__doc__


def test_it_knows_how_much_a_client_does(algorithm: Algorithm) -> None:
    client = Experiment().client
    assert isinstance(algorithm.work(client), LocalWork)
    assert algorithm.local_optimizer(client) in (None, client.optimizer)


def test_five_clients_at_once_are_each_of_them_alone(algorithm: Algorithm) -> None:
    check_program(algorithm, CLIENT, INFO)


@pytest.mark.parametrize("values", ["clip_norm=0.5", "optimizer={name: sgd, lr: 0.1, momentum: 0.9}"])
def test_they_are_with_clipping_and_momentum_as_well(algorithm: Algorithm, values: str) -> None:
    check_program(algorithm, Experiment().updated([f"client.{values}"]).client, INFO)


def test_a_dry_run_tells_what_an_engine_must_be_able_to_do() -> None:
    def found(name: str) -> Heard:
        return heard(
            Experiment(), build_algorithm(Experiment.parse({"algorithm": name}).algorithm.fitted(FACTS), LINEAR)
        )

    assert found("fedavg") == Heard([None])
    assert found("fedprox").corrections != [None]
    assert len(found("ditto").corrections) == 2
    assert found("apfl") == Heard([], plain=True, alternates=True)
    assert found("mime") == Heard([], plain=True, alternates=True, full_gradient=True)
    assert found("mimelite").full_gradient
    assert found("cocoa").solves


class Careless(Algorithm):
    """FedAvg but for a mistake."""

    paper = "-"


class Leaky(Careless):
    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        self.seen = c.k
        return super().local(c)


class Mixing(Careless):
    def correct(self, grad: torch.Tensor, weights: torch.Tensor, b: Some) -> None:
        grad.sub_(grad.mean(0))


class Whole(Careless):
    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        for b in c.batches():
            b.move(b.gradients().add_(c.weights))
        return self.send(c)


class Peeking(Careless):
    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        for _ in c.batches():
            c.full_gradient()
        return self.send(c)


class Nested(Careless):
    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        for _ in c.batches():
            c.descend()
        return self.send(c)


class Greedy(Careless):
    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        for b in c.batches():
            b.move(b.gradients().add_(b.gradients()))
        return self.send(c)


class Undeclared(Careless):
    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        c.new_rows("before")
        return super().local(c)


class Unfinished(Careless):
    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        self.batches = c.batches()
        next(self.batches, None)
        return {}


class Shared(Careless):
    def fields(self) -> tuple[Field, ...]:
        return (Field("update", LAYOUT.trainable),)

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("own", LAYOUT.trainable),)

    def send(self, c: Clients) -> Mapping[str, torch.Tensor]:
        return {"update": c.state["own"]}


class Overwriting(Careless):
    def send(self, c: Clients) -> Mapping[str, torch.Tensor]:
        c.broadcast.zero_()
        return {"update": c.rows}


class Named(Careless):
    def send(self, c: Clients) -> Mapping[str, torch.Tensor]:
        return {"delta": c.update()}


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (Leaky, r"local keeps something in self\.seen"),
        (Mixing, "'update' of a client is not the same alone as among five"),
        (Whole, r"within a pass: take b\.weights of the step"),
        (Peeking, "within a pass: full_gradient is for before or after it"),
        (Nested, "within a pass: another pass is for before or after it"),
        (Greedy, "a batch has 1 gradient in the algorithm's work"),
        (Undeclared, "the algorithm declares matrices = 0; declare 1 in its class"),
        (Unfinished, "local ends within a pass"),
        (Shared, "what local sends is a view of own"),
        (Overwriting, "local changes the broadcast model"),
        (Named, r"local sends \['delta'\]; expected \['update'\]"),
    ],
)
def test_a_program_that_breaks_its_contract_is_told_what_it_does(kind: type[Algorithm], line: str) -> None:
    with pytest.raises((ContractError, RuntimeError, ValueError), match=line):
        check_program(kind(Experiment().algorithm, LAYOUT), CLIENT, INFO)


class TwoGradients(Careless):
    """Steps along the mean of two gradients of a batch, the first of which must last while the second is computed."""

    def __init__(self, *given: Any, copies: bool) -> None:
        super().__init__(*given)
        self.copies = copies

    def work(self, client: ClientConfig) -> LocalWork:
        return replace(super().work(client), repeats=2)

    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        for b in c.batches():
            one = b.gradients()
            one = one.clone() if self.copies else one
            other = b.gradients(at=b.rows * 0.5)
            b.move((one + other) / 2)
        return self.send(c)


@pytest.mark.parametrize("engine", ["sequential", "rows"])
def test_a_gradient_lasts_while_the_next_one_is_computed(engine: str) -> None:
    module = nn.Sequential(nn.Linear(5, 3), nn.Sigmoid(), nn.Linear(3, 2))
    layout, shard = ParameterLayout(module), Shard(torch.randn(9, 5), torch.arange(9) % 2, None)
    shards = Shards(shard, np.zeros(1, np.int64), np.array([9]))
    found, work = [], LocalWork(4, repeats=2)
    for copies in (True, False):
        made = build_engine(EngineChoice(engine), copy.deepcopy(module), layout, cross_entropy, INFO, work)
        program = TwoGradients(Experiment().algorithm, layout, copies=copies).local
        trainer = Trainer(made, row_optimizer(Experiment().client.optimizer), work, None, program)
        found.append(trainer.train(SETTING, layout.pack(module), np.array([1]), shards).sent["update"].clone())
    assert found[0].any()
    assert torch.equal(*found)


class ByHand(Careless):
    """FedProx in a loop of its own."""

    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        for b in c.batches():
            grad = b.gradients()
            grad.add_(b.weights - b.broadcast[: b.trainable], alpha=0.5)
            b.move(grad)
        return self.send(c)


class InOneCall(Careless):
    """FedProx."""

    def correct(self, grad: torch.Tensor, weights: torch.Tensor, b: Some) -> None:
        grad.add_(weights - b.broadcast[: b.trainable], alpha=0.5)


class StepByStep(InOneCall):
    """FedProx in steps."""

    def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
        for b in c.batches():
            b.step(self.correct)
        return self.send(c)


def test_a_pass_in_one_call_is_its_steps_and_their_parts_to_the_bit() -> None:
    sizes = np.array([13, 9, 5])
    shard = Shard(torch.randn(27, 5), torch.arange(27) % 2, None)
    shards, module = Shards(shard, np.cumsum(sizes) - sizes, sizes), nn.Linear(5, 2)
    layout, work, found = ParameterLayout(module), LocalWork(4, 2), []
    engine = build_engine(EngineChoice("rows", 3), copy.deepcopy(module), layout, cross_entropy, INFO, work)
    for kind in (InOneCall, StepByStep, ByHand):
        program = kind(Experiment().algorithm, layout).local
        trainer = Trainer(engine, row_optimizer(SgdConfig(momentum=0.9)), work, 0.7, program)
        result = trainer.train(SETTING, layout.pack(module), np.arange(3), shards)
        found.append((result.sent["update"].clone(), result.loss))
    for update, loss in found[1:]:
        assert torch.equal(update, found[0][0])
        np.testing.assert_array_equal(loss, found[0][1])


def test_the_loss_that_a_pass_was_left_with_is_that_of_its_steps() -> None:
    class Two(Careless):
        def local(self, c: Clients) -> Mapping[str, torch.Tensor]:
            for b in c.batches():
                b.step()
                if b.number == 1:
                    break
            return self.send(c)

    shard = Shard(torch.randn(20, 5), torch.arange(20) % 2, None)
    shards, module = Shards(shard, np.zeros(1, np.int64), np.array([20])), nn.Linear(5, 2)
    layout, losses = ParameterLayout(module), []
    for kind, steps in ((Two, None), (FedAvg, 2)):
        work, program = LocalWork(4, steps=steps), kind(Experiment().algorithm, layout).local
        engine = build_engine(EngineChoice("sequential"), copy.deepcopy(module), layout, cross_entropy, INFO, work)
        trainer = Trainer(engine, row_optimizer(SgdConfig()), work, None, program)
        losses.append(trainer.train(SETTING, layout.pack(module), np.array([1]), shards).loss)
    assert losses[0] == losses[1]


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


def test_a_mean_of_zeros_moves_nothing_in_the_first_round(algorithm: Algorithm) -> None:
    model, state = model_and_state(algorithm)
    nothing = with_rows(algorithm, {field.name: np.zeros(field.size) for field in algorithm.fields()})
    np.testing.assert_array_equal(algorithm.apply(model, state, nothing)[0], model)


def test_an_algorithm_has_few_class_variables_and_methods_to_override() -> None:
    names = [name for name in vars(Algorithm) if not name.startswith("_")]
    variables = [name for name in names if name != "correct" and not callable(vars(Algorithm)[name])]
    assert len([name for name in variables if not isinstance(vars(Algorithm)[name], property)]) <= 5, "and `paper`"
    assert len(names) - len(variables) + 1 <= 14
