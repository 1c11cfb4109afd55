"""What an algorithm's program promises, tried on a fake engine: five clients at once are each alone, bit for bit.

It needs no data and takes milliseconds, so `raysim debug` runs it on a user's algorithm, and the tests on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from raysim.algorithms import Algorithm, ClientVector
from raysim.arrays import Int64
from raysim.config.client import ClientConfig
from raysim.data import DataInfo
from raysim.training import (
    Block,
    BlockInputs,
    BlockResult,
    Clients,
    Engine,
    ParameterLayout,
    RoundSetting,
    Shard,
    Shards,
    Trainer,
    row_optimizer,
)
from raysim.training.trial import random_batch

STEPS = np.array([10, 6, 6, 2, 0])
"""Batches of the five clients: two train equally long, and one takes no step."""
_CLIENTS, _SAMPLES = np.array([3, 14, 15, 92, 65]), np.array([50, 40, 40, 20, 0])


class ContractError(AssertionError):
    """The program does what it must not do; says what."""


class FakeEngine(Engine):
    """Gradients that are a function of the row and of the batch's samples alone; buffers move with every gradient."""

    name = "fake"

    def __init__(self, layout: ParameterLayout, info: DataInfo, rows: int) -> None:
        self.info, self.rows = info, torch.zeros(rows, layout.size)
        self.grad = torch.zeros(rows, layout.trainable)
        self._used = used_columns(layout)

    def load(self, block: Block) -> None:
        samples = block.plan.index.sum(axis=2) + block.plan.count
        self._batches = torch.from_numpy(samples % 17).float()

    def gradients(self, step: int, k: int) -> Tensor:
        rows, trainable = self.rows[:k], self.grad.shape[1]
        batch = self._batches[step, :k, None]
        self.grad[:k] = (rows[:, :trainable] * 0.5 - batch * 0.125) * self._used[:trainable]
        rows[:, trainable:] += 0.25 * self._used[trainable:]
        return rows[:, 0].abs() + batch[:, 0]


def check_program(algorithm: Algorithm, client: ClientConfig, info: DataInfo) -> None:
    """Run an algorithm's `local` on five clients at once and on each alone.

    Raises:
        ContractError: a client's bits depend on others, or the program keeps, changes or sends what it must not.
        Exception: whatever the algorithm raises.
    """
    work, before = algorithm.work(client), {name: repr(value) for name, value in vars(algorithm).items()}
    for number in range(1, work.rounds + 1):
        setting = RoundSetting(seed=0, round=number, lr=0.1, optimizer=client.optimizer)
        together = _Round(algorithm, client, info, range(len(STEPS)), setting)
        together.check()
        for one in range(len(STEPS)):
            alone = _Round(algorithm, client, info, [one], setting)
            for what, whole, mine in together.beside(alone, one):
                if not torch.equal(whole, mine):
                    raise ContractError(
                        f"{what} of a client is not the same alone as among five; treat rows alike and apart, and "
                        "within a pass take what there is of each client from the step"
                    )
    changed = [name for name, value in vars(algorithm).items() if repr(value) != before.get(name)]
    if changed:
        raise ContractError(f"local keeps something in self.{changed[0]}; what lasts is server state or client state")


class _Round:
    """A round of some of the five clients, and what it left."""

    def __init__(
        self, algorithm: Algorithm, client: ClientConfig, info: DataInfo, order: Sequence[int], setting: RoundSetting
    ) -> None:
        chosen, layout, work = list(order), algorithm.layout, algorithm.work(client)
        steps = STEPS[chosen] * work.repeats * (setting.round % work.rounds == 0)
        self._algorithm, self._used = algorithm, used_columns(layout)
        kept = algorithm.client_state()
        self.state = {one.name: self._vectors(one, seed)[chosen] for seed, one in enumerate(kept)}
        first = algorithm.init(np.zeros(layout.size, np.float32)) if algorithm.broadcast_state else {}
        self._given = {
            name: self._draw(len(first[name]), seed=31) + torch.from_numpy(first[name]).float()
            for name in algorithm.broadcast_state
        }
        self._given["the broadcast model"] = self._draw(layout.size, seed=30)
        self._before = {name: tensor.clone() for name, tensor in self._given.items()}
        config, broadcast = algorithm.local_optimizer(client), self._given["the broadcast model"]
        optimizer = None if config is None else row_optimizer(config.model_copy(update={"state": "reset"}))
        engine = FakeEngine(layout, info, len(chosen))
        local = self._watched
        trainer = Trainer(engine, optimizer, work, client.clip_norm, local, algorithm.matrices)
        server = {name: self._given[name] for name in algorithm.broadcast_state}
        inputs = BlockInputs(steps, server, self.state, losses=lambda models: _losses(_CLIENTS[chosen], len(models)))
        self.result: BlockResult = trainer.train(
            setting, broadcast, _CLIENTS[chosen], _shards(info, _SAMPLES[chosen]), inputs
        )

    def _watched(self, c: Clients) -> Mapping[str, Tensor]:
        sent = self._algorithm.local(c)
        if "rows" not in vars(c):
            raise ContractError("local ends within a pass; go through its batches, or leave them with break")
        return sent

    def check(self) -> None:
        """What is sent is what the fields say, in memory of its own, and what is only read has not changed."""
        fields, sent = self._algorithm.fields(), self.result.sent
        if [field.name for field in fields] != list(sent):
            raise ContractError(f"local sends {list(sent)}; expected {[field.name for field in fields]}, as in fields")
        for field in fields:
            values = sent[field.name]
            if values.shape != (len(STEPS), field.size) or values.dtype != torch.float32:
                raise ContractError(
                    f"local sends {field.name!r} as {values.dtype} of shape {list(values.shape)}; expected float32 of "
                    f"shape {[len(STEPS), field.size]}"
                )
            if field.size == len(self._used) and values[:, ~self._used].any():
                raise ContractError(f"{field.name!r} is not zero in the padding of the layout")
        kept = {**self._given, **self.state}
        before = {name: tensor.clone() for name, tensor in kept.items()}
        for name, tensor in self._before.items():
            if not torch.equal(self._given[name], tensor):
                raise ContractError(f"local changes {name}, which is only read")
        copies = {name: values.clone() for name, values in sent.items()}
        for values in sent.values():
            values.fill_(7.0)
        shared = [name for name, tensor in kept.items() if not torch.equal(tensor, before[name])]
        if shared:
            raise ContractError(f"what local sends is a view of {shared[0]}; send a copy")
        self.result = replace(self.result, sent=copies)

    def beside(self, alone: _Round, one: int) -> list[tuple[str, Tensor, Tensor]]:
        """What a client has among all, and alone."""
        mine, its = self.result, alone.result
        pairs = [(f"{name!r}", values[one], its.sent[name][0]) for name, values in mine.sent.items()]
        pairs += [(f"state {name!r}", values[one], alone.state[name][0]) for name, values in self.state.items()]
        losses = torch.from_numpy(np.array([mine.loss[one], its.loss[0]])).nan_to_num(-1.0)
        return [*pairs, ("the loss", losses[0], losses[1])]

    def _vectors(self, vector: ClientVector, seed: int) -> Tensor:
        return torch.stack([self._draw(vector.size, seed=100 * seed + client) for client in _CLIENTS.tolist()])

    def _draw(self, size: int, seed: int) -> Tensor:
        """Random values, with the padding of a layout, or of several in a row, zero."""
        values = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        return values * self._used.repeat(-(-size // len(self._used)))[:size]


def used_columns(layout: ParameterLayout) -> Tensor:
    """Which columns `[P]` are no padding."""
    used = torch.zeros(layout.size, dtype=torch.bool)
    for segment in layout.segments:
        used[segment.start : segment.start + segment.size] = True
    return used


def _losses(clients: Int64, models: int) -> Tensor:
    return torch.from_numpy((clients[:, None] * (np.arange(models) + 1.0) * 0.37) % 2.0 + 0.1)


def _shards(info: DataInfo, samples: Int64) -> Shards:
    """Shards that begin with the same samples, each long enough for its client."""
    x, y = random_batch(info, int(_SAMPLES[0]))
    return Shards(Shard(x, y, None), np.zeros_like(samples), samples)
