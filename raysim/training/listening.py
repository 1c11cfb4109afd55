"""A dry run of an algorithm's program on two made-up clients: what it calls, before an engine is built for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Int64
from raysim.training.batches import Batch, BatchPlan, LocalWork, Shard, Shards
from raysim.training.clients import Clients
from raysim.training.engine import Block, Engine
from raysim.training.inputs import BlockInputs, Correction, Rates, RoundSetting, Some
from raysim.training.layout import ParameterLayout
from raysim.training.optimizers import RowOptimizer
from raysim.training.step import Means
from raysim.training.trainer import Program
from raysim.user_code import passes

_SAMPLES = np.array([2, 1])
_BATCHES = 4
_SMALL = 1 << 22
"""Values of a model up to which zeros cost less than what torch loads for tensors without values (2 s)."""


@dataclass(slots=True)
class Heard:
    """What a program calls. A branch that the dry run does not take is missing, which costs speed alone.

    Attributes:
        corrections: those that it takes steps with, None for steps without one.
        plain: whether it takes gradients by themselves.
        alternates: whether, in a pass, it takes them from `gradients` or `peek`.
        full_gradient: whether it takes those of whole shards.
        solves: whether it takes whole shards in place of local steps.
        passes: how often, in a round, it goes through its local steps.
        unprotected: what it looks at that noisy gradients do not protect (`Engine.refuse_unprotected`).
    """

    corrections: list[Correction | None] = field(default_factory=list)
    plain: bool = False
    alternates: bool = False
    full_gradient: bool = False
    solves: bool = False
    passes: int = field(default=0, compare=False)
    unprotected: list[str] = field(default_factory=list, compare=False)


def listen(
    program: Program, layout: ParameterLayout, work: LocalWork, optimizer: RowOptimizer | None,
    inputs: Callable[[torch.device], BlockInputs], matrices: int,
) -> Heard:  # fmt: skip
    """Run a program on zeros, or, for a large model, on tensors without values; its errors are not raised here.

    Args:
        inputs: state and server vectors for two clients, on this device.
    """
    heard = Heard()
    for name in ("cpu",) if layout.size <= _SMALL else ("meta", "cpu"):
        device = torch.device(name)
        try:
            for number in range(1, work.rounds + 1):
                _run(program, layout, work, optimizer, inputs(device), matrices, heard, number, device)
        except _Enough:
            break
        except BaseException as error:  # training names the client and the round
            if isinstance(error, KeyboardInterrupt) and passes(error):
                raise
        else:
            break
    return heard


def _run(
    program: Program, layout: ParameterLayout, work: LocalWork, optimizer: RowOptimizer | None, inputs: BlockInputs,
    matrices: int, heard: Heard, number: int, device: torch.device,
) -> None:  # fmt: skip
    clients = np.arange(len(_SAMPLES))
    nothing = torch.zeros(int(_SAMPLES.sum()), device=device)
    steps = np.minimum(work.count(_SAMPLES), _BATCHES * work.repeats) * (number % work.rounds == 0)
    shards = Shards(Shard(nothing, nothing, None), np.zeros_like(_SAMPLES), _SAMPLES)
    plan = BatchPlan(np.zeros((int(steps[0]), 2, 1), np.int64), np.ones((int(steps[0]), 2), np.int64), steps)
    means = Means(_Listening(layout, device, heard), optimizer, work, None, matrices)
    broadcast = torch.zeros(layout.size, device=device)
    c = _HeardClients(
        heard, means, RoundSetting(0, number, 0.1), broadcast, clients, Block(shards, plan, clients), inputs
    )
    program(c)


class _Enough(BaseException):
    """The program goes on with samples, of which there are none."""


class _HeardClients(Clients):
    """Clients without samples."""

    def __init__(self, heard: Heard, means: Means, *given: Any) -> None:
        super().__init__(means, *given)
        self._heard, self._passes = heard, 0

    @contextmanager
    def _pass(self, peers: Sequence[Tensor]) -> Iterator[None]:
        self._passes += 1
        self._heard.passes = max(self._heard.passes, self._passes)
        with super()._pass(peers):
            yield

    def full_gradient(self) -> Tensor:
        self._means.engine.refuse_unprotected("gradients of whole shards")
        self._heard.full_gradient = self._heard.plain = True
        return torch.zeros_like(self.weights)

    def losses(self, models: Sequence[Tensor] | Tensor) -> Tensor:
        self._means.engine.refuse_unprotected("losses of models on the clients' samples")
        return self.rows.new_ones((self.k, len(models)), dtype=torch.float64)

    def whole_shards(self) -> Iterator[tuple[Batch, Int64]]:
        self._heard.solves = True
        self._means.engine.refuse_unprotected("whole shards")
        raise _Enough


class _Listening(Engine):
    """Computes nothing: gradients are zero, and steps leave the rows where they are."""

    name = "listening"

    def __init__(self, layout: ParameterLayout, device: torch.device, heard: Heard) -> None:
        self.rows = torch.zeros((len(_SAMPLES), layout.size), device=device)
        self.grad = torch.zeros((len(_SAMPLES), layout.trainable), device=device)
        self._heard = heard

    def load(self, block: Block) -> None:
        return

    def gradients(self, step: int, k: int) -> Tensor:
        self._heard.plain = True
        return self.grad.new_zeros(k)

    def alternate(self) -> None:
        self._heard.alternates = True

    def take(self, b: Some, steps: range, losses: Tensor, lr: Rates, correct: Correction | None) -> bool:
        if correct not in self._heard.corrections:
            self._heard.corrections.append(correct)
        return True

    def refuse_unprotected(self, what: str) -> None:
        self._heard.unprotected.append(what)
