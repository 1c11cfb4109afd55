"""What a compiled correction may look at: tensors that the code takes anew in each step, and the number of columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from raysim.training.inputs import Correction, Some


@dataclass(frozen=True, slots=True)
class VectorSizes:
    """Sizes of the vectors that a program is given, by name.

    Attributes:
        server: of those of the server's state.
        state: of those that each client keeps.
    """

    server: Mapping[str, int] = field(default_factory=dict)
    state: Mapping[str, int] = field(default_factory=dict)


class ChangesState(Exception):
    """A correction changes what it may only read where it is compiled."""


@dataclass(frozen=True, slots=True)
class Looks:
    """The vectors that a correction looks at, which compiled code takes as tensors of its own.

    Attributes:
        server: names of the server's vectors.
        state: names of what clients keep.
    """

    server: tuple[str, ...] = ()
    state: tuple[str, ...] = ()

    @classmethod
    def of(cls, correct: Correction, weights: Tensor, broadcast: Tensor, sizes: VectorSizes) -> Looks:
        """Run a correction once, to find what it looks at.

        Args:
            weights, broadcast: `[k, T]` and `[P]`, to run it on.

        Raises:
            AttributeError: it looks at something else of the step.
            ChangesState: it changes the broadcast model, or vectors of the server's or of the clients'.
            Exception: what the correction raises.
        """
        every = cls(tuple(sizes.server), tuple(sizes.state))
        given = every.example(len(weights), sizes, weights.device)
        before = [one._version for one in (broadcast, *given)]
        tried = _Tried(broadcast, weights.shape[1], *every._named(given))
        correct(torch.ones_like(weights), weights.clone(), cast(Some, tried))
        if before != [one._version for one in (broadcast, *given)]:
            raise ChangesState("its correction changes what clients keep, or what the server sent")
        return cls(
            every.server if "server" in tried.looked else (), every.state if "state" in tried.looked else ()
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.server) + len(self.state)

    def example(self, k: int, sizes: VectorSizes, device: torch.device) -> list[Tensor]:
        """Such vectors for k clients that keep the same."""
        server = [torch.linspace(-0.5, 0.5, sizes.server[name], device=device) for name in self.server]
        state = [torch.linspace(0.7, -0.3, sizes.state[name], device=device) for name in self.state]
        return [*server, *(one.expand(k, -1).clone() for one in state)]

    def vectors(self, b: Some, beside: Tensor | None) -> list[Tensor]:
        """Those of a step, as the code takes them: without gaps.

        Args:
            beside: whose rows are computed, where idle companions of the k clients are among them.
        """
        server = [b.server[name].contiguous() for name in self.server]
        state = [b.state[name] for name in self.state]
        return server + [one.contiguous() if beside is None else one[beside] for one in state]

    def seen(self, broadcast: Tensor, trainable: int, vectors: Sequence[Tensor]) -> Some:
        """What the correction is shown in compiled code, in place of the step."""
        return cast(Some, _Seen(broadcast, trainable, *self._named(vectors)))

    def _named(self, vectors: Sequence[Tensor]) -> Iterator[Mapping[str, Tensor]]:
        first = len(self.server)
        yield dict(zip(self.server, vectors[:first], strict=True))
        yield dict(zip(self.state, vectors[first:], strict=True))


class _Seen:
    """A step as compiled code has it."""

    __slots__ = ("broadcast", "server", "state", "trainable")

    def __init__(
        self, broadcast: Tensor, trainable: int, server: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> None:
        self.broadcast, self.trainable, self.server, self.state = broadcast, trainable, server, state


class _Tried:
    """A step that remembers which vectors were looked at."""

    def __init__(
        self, broadcast: Tensor, trainable: int, server: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> None:
        self.broadcast, self.trainable, self._server, self._state = broadcast, trainable, server, state
        self.looked: set[str] = set()

    @property
    def server(self) -> Mapping[str, Tensor]:
        self.looked.add("server")
        return self._server

    @property
    def state(self) -> Mapping[str, Tensor]:
        self.looked.add("state")
        return self._state
