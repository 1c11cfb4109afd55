"""What clients and the server tell each other around a round's sum, besides the records themselves.

A rule whose records are masked has a protocol. Before a round is trained the server begins it, and every lease carries
what clients must know of one another; after it, the server asks once more for what opens the sum. Executors carry the
messages and do not know what is in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from raysim.arrays import Array, Int32, Int64


@dataclass(frozen=True, slots=True)
class Question:
    """A message from the server to some clients of a round, each of which answers in bytes.

    Attributes:
        stage: of the protocol.
        positions, clients: of those who are asked, `[q]`.
        cohort: of the round, ids `[m]`.
        common: what all of them are told.
        own: what each of them is told, `[q]`, or nothing.
    """

    round: int
    stage: str
    positions: Int64
    clients: Int64
    cohort: Int64
    common: Any = None
    own: tuple[Any, ...] = ()

    def only(self, part: slice) -> Question:
        """The question to some of its clients."""
        return replace(self, positions=self.positions[part], clients=self.clients[part], own=self.own[part])


Ask = Callable[[Question], list[bytes]]
"""Puts a question; an answer of each client, in their order. Doing it again gives the same answers."""


@dataclass(frozen=True, slots=True)
class Peers:
    """What clients of a round know of one another before they send their records.

    Attributes:
        clients: of the cohort, `[m]`.
        gone: by position, why a client that stopped answering is left out.
        keys: public keys by position, `[m, bytes]`; None where there are none.
        lost: by position, why the record of a client that answered so far does not arrive.
        public: keys that all of them have.
    """

    clients: Int64
    gone: Mapping[int, str] = field(default_factory=dict)
    keys: Array | None = None
    lost: Mapping[int, str] = field(default_factory=dict)
    public: tuple[bytes, ...] = ()

    def present(self) -> Int64:
        """Positions of those that answered so far."""
        return np.setdiff1d(np.arange(len(self.clients)), np.fromiter(self.gone, np.int64, len(self.gone)))


@dataclass(frozen=True, slots=True)
class Begun:
    """A round's protocol before it is trained.

    Attributes:
        peers: what leases carry.
        mail: what the server keeps for later.
        up, down: bytes sent to the server, and by it.
    """

    peers: Peers
    mail: Any = None
    up: int = 0
    down: int = 0


@dataclass(frozen=True, slots=True)
class SumOpening:
    """What opens a round's sum.

    Attributes:
        peers: as the leases had them.
        shares: of the secret of each client that is needed, by its position: points and values.
        secret: keys of a key holder.
        up, down: bytes of all messages of the round but the records, sent to the server, and by it.
        metrics: what is recorded of them, names of `Rule.metrics`.
    """

    peers: Peers
    shares: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    up: int = 0
    down: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    secret: tuple[bytes, ...] = ()


class RoundProtocol(ABC):
    """Both sides of a protocol. The server's side is called where rounds are drawn, the clients' in workers.

    Contract: answers are pure functions of the seed and the question, so that a question that is put again, to a worker
    that was started again, has the same answers.
    """

    holds_keys: ClassVar[bool] = False
    """Whether sums are opened by another party than the server, who holds the keys (`SumOpening.secret`)."""

    @abstractmethod
    def begin(self, seed: int, round_number: int, clients: Int64, ask: Ask) -> Begun:
        """What comes before a cohort `[m]` trains.

        Raises:
            RunError: too few clients answer.
        """

    @abstractmethod
    def end(self, seed: int, round_number: int, begun: Begun, contributed: Int32, ask: Ask) -> SumOpening:
        """What opens the sum of the clients at these positions.

        Raises:
            RunError: too few clients answer.
        """

    @abstractmethod
    def answer(self, seed: int, question: Question) -> list[bytes]:
        """The clients' answers.

        Raises:
            RunError: a client refuses.
        """
