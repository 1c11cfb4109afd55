"""How a failed lease is handled: retried, split, retried without the client at fault, or fatal.

A lease is trained again to the same integers, whole or in pieces, so only `drop` changes a model: it is then the model
of the round without that client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysim.arrays import Int64
from raysim.config.faults import FaultKind, Policy
from raysim.errors import ClientError, DataError, RaysimError, UserCodeError
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.rows import PARTS, client_batch
from raysim.user_code import out_of_memory, told

NAMED_CLIENTS = 5
"""Clients that a fault names; of more, only the number is told."""


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why a call to an actor failed.

    Attributes:
        reason: one line, the same wherever the same thing happens.
        error: what a run that ends of it raises, or what that is caused by.
        client: at fault, where that is known.
        gone: whether the actor is dead, or is not to be trusted any more.
    """

    kind: FaultKind
    reason: str
    error: Exception
    client: int | None = None
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong, and what was done about it.

    Attributes:
        round: 0 where it is none's.
        who: `actor 3`, `the aggregator`, …
        then: how the work is handled.
        attempt: how often this work had been given out before.
        clients: in its hands, the first few.
        count: of all its clients.
    """

    kind: FaultKind
    who: str
    reason: str
    then: str
    round: int
    attempt: int = 0
    clients: tuple[int, ...] = ()
    count: int = 0

    @property
    def text(self) -> str:
        """One line for people."""
        named = ", ".join(map(str, self.clients)) + (", …" if self.count > len(self.clients) else "")
        hands = f" with client{'s' if self.count > 1 else ''} {named}" if self.count else ""
        again = f", attempt {self.attempt + 1}" if self.attempt else ""
        where = f"round {self.round}: " if self.round else ""
        return f"{where}{self.who}{hands}{again}: {self.reason}; {self.then}"

    def fields(self) -> dict[str, object]:
        """The same for the log."""
        return {
            "kind": self.kind,
            "who": self.who,
            "reason": self.reason,
            "then": self.then,
            "round": self.round,
            "attempt": self.attempt,
            "clients": list(self.clients),
            "count": self.count,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a lease is handled: `again` is given out, the clients of `dropped` leave the round, or the run `ends`."""

    again: tuple[Lease, ...] = ()
    dropped: Lease | None = None
    ends: bool = False

    @property
    def text(self) -> str:
        """What is done, as a phrase."""
        if self.ends:
            return "the run ends"
        parts = []
        if self.dropped is not None:
            parts.append(f"client {self.dropped.clients[0]} leaves the round")
        if self.again:
            parts.append(f"given out again in {len(self.again)} pieces" if len(self.again) > 1 else "given out again")
        return ", ".join(parts)


def judge(lease: Lease, failure: CallFailure, policy: Policy, max_retries: int, *, hopeless: bool = False) -> Verdict:
    """How a failed lease is handled.

    Under `retry` it is given out again as it is once, in about as many pieces as each of them has clients the second
    time, and the last time one client at a time: so that who is to blame is known when the run ends of it. Under `drop`
    a client that is known to be to blame leaves at once, and of several each is tried by itself.

    Args:
        hopeless: the same would happen everywhere.
    """
    if policy == "fail":
        return Verdict(ends=True)
    failures, count = lease.attempt + 1, len(lease.clients)
    if policy == "drop":
        guilty = lease.clients == failure.client if count > 1 else np.ones(1, dtype=np.bool_)
        rest = part(lease, ~guilty)
        if guilty.any():
            return Verdict(again=(rest,) if len(rest.clients) else (), dropped=part(lease, guilty))
        return Verdict(again=cut(lease, count))
    if hopeless or failures > max_retries:
        return Verdict(ends=True)
    if failures == 1 or failure.client is not None:
        return Verdict(again=(replace(lease, attempt=failures),))
    return Verdict(again=cut(lease, count if failures == max_retries else math.ceil(math.sqrt(count))))


def cut(lease: Lease, pieces: int) -> tuple[Lease, ...]:
    """The lease in `pieces` pieces, under a new attempt."""
    return tuple(part(lease, chosen) for chosen in np.array_split(np.arange(len(lease.clients)), pieces))


def part(lease: Lease, chosen: Any) -> Lease:
    """These clients of the lease, chosen as NumPy indexes `[n]`, under a new attempt."""
    return replace(lease.only(chosen), attempt=lease.attempt + 1)


def left_out(lease: Lease, samples: Callable[[Int64], Int64], reason: str) -> list[LeaseReport]:
    """The facts about clients that leave the round untrained, for each step that would have taken in some.

    Args:
        samples: training samples of clients, `[n]`.
    """
    parts = ((into, lease.going(into)) for into in lease.steps_into)
    return [_left_out(part, into, samples(part.clients), reason) for into, part in parts]


def _left_out(lease: Lease, into: int, samples: Int64, reason: str) -> LeaseReport:
    count = len(lease.clients)
    facts = client_batch(
        round=into,
        client=lease.clients,
        samples=samples,
        steps=np.zeros(count),
        weight=np.zeros(count),
        loss=np.full(count, np.nan),
        seconds=np.zeros(count),
        worker=np.full(count, NO_WORKER),
        dropped=[reason] * count,
    )
    seconds = dict.fromkeys(("broadcast", "train", *PARTS), 0.0)
    return LeaseReport(facts, lease.positions, 0, seconds, 0, into=into)


NO_WORKER = -1
"""`worker` of a client that was not trained."""


def elsewhere(up: Collection[int], failed: Collection[int], node_of: Callable[[int], str]) -> frozenset[int]:
    """Workers that a piece had better go to, of those that are up: on other nodes than where it failed, else others."""
    nodes = {node_of(worker) for worker in failed}
    return (
        frozenset(worker for worker in up if node_of(worker) not in nodes)
        or frozenset(up) - frozenset(failed)
        or frozenset(up)
    )


def to_blame(error: RaysimError) -> FaultKind:
    """Kind of an error that a worker raised."""
    if error.memory:
        return "memory"
    return "data" if isinstance(error, DataError) else "error"


def client_error(clients: Int64, round_number: int, error: BaseException) -> ClientError:
    """The error of these clients' own code, to be raised from its cause; of several, no one is known to be to blame."""
    alone = len(clients) == 1
    who = f"client {clients[0]}" if alone else f"clients {clients[0]}, {clients[1]}, … together"
    reason = str(error) if isinstance(error, UserCodeError) else told(error)
    return ClientError(
        f"{who}, round {round_number}: {reason}",
        client=int(clients[0]) if alone else None,
        round=round_number,
        reason=reason,
        memory=error.memory if isinstance(error, UserCodeError) else out_of_memory(error),
    )


def reason_of(error: RaysimError) -> str:
    """What the error is, whichever client it came from."""
    return error.reason if isinstance(error, ClientError) else str(error)
