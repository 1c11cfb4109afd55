"""What Ray's errors mean, and the book of what went wrong in which round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from raysim.cluster.runtime import import_ray
from raysim.config.faults import FaultKind, Policy
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError, RaysimError, RunError
from raysim.rounds.faults import CallFailure, Fault, reason_of, to_blame
from raysim.rounds.rows import RoundRow
from raysim.user_code import failure, passes, told


class FaultBook:
    """Policies, and the faults of every unfinished round. Faults before `on_fault` are kept for its callback."""

    def __init__(self, execution: ExecutionConfig) -> None:
        self._policies, self.max_retries = execution.faults, execution.max_retries
        self._tell: Callable[[Fault], None] | None = None
        self._untold: list[Fault] = []
        self._counts: dict[int, Counter[str]] = {}

    def on_fault(self, callback: Callable[[Fault], None]) -> None:
        """Call `callback` for every fault, including those before this call."""
        self._tell = callback
        for fault in self._untold:
            callback(fault)
        self._untold.clear()

    def policy(self, kind: FaultKind) -> Policy:
        """The configured policy for a kind of fault."""
        policy: Policy = getattr(self._policies, kind)
        return policy

    def add(self, fault: Fault, *, again: int = 0) -> None:
        """Something went wrong; `again` pieces of work were given out in its place."""
        counts = self._counts.setdefault(fault.round, Counter())
        counts["hung" if fault.kind == "hung" else "lost"] += 1
        counts["retries"] += again
        self.say(fault)

    def say(self, fault: Fault) -> None:
        """Report a fault that does not count as a lost call."""
        if self._tell is None:
            self._untold.append(fault)
        else:
            self._tell(fault)

    def counted(self, row: RoundRow) -> RoundRow:
        """The row of a finished round, with what went wrong in it."""
        counts = self._counts.pop(row.round, None)
        if counts is None:
            return row
        return replace(row, lost=counts["lost"], hung=counts["hung"], retries=counts["retries"])


def failure_of(ray: Any, error: Exception) -> CallFailure:
    """What an error of a call to an actor means.

    A `RayTaskError` comes from an actor that lives: what it wraps may still be the death of another one, on which its
    arguments depended.

    Raises:
        Exception: the error itself, where it is neither Ray's nor an actor's.
    """
    kinds = ray.exceptions
    if isinstance(error, kinds.RayTaskError):
        return _raised(kinds, error)
    if isinstance(error, kinds.OutOfMemoryError):
        return CallFailure("memory", "the actor was killed for lack of memory", error, gone=True)
    if isinstance(error, kinds.ObjectStoreFullError | kinds.OutOfDiskError):
        return CallFailure("memory", "the object store is full", error)
    if isinstance(error, kinds.ObjectLostError):
        return CallFailure("died", "the result was lost with its node", error)
    if isinstance(error, kinds.RayActorError | kinds.ActorUnschedulableError | kinds.WorkerCrashedError):
        return CallFailure("died", "the actor died", error, gone=True)
    raise error


def _raised(kinds: Any, error: Any) -> CallFailure:
    cause = error.cause
    if isinstance(cause, RaysimError):
        own = as_raised(error)
        return CallFailure(to_blame(own), reason_of(own), own, own.client)
    if isinstance(cause, kinds.ObjectStoreFullError | kinds.OutOfDiskError):
        return CallFailure("memory", "the object store is full", error)
    if isinstance(cause, MemoryError | kinds.OutOfMemoryError):
        return CallFailure("memory", f"memory ran out ({type(cause).__name__})", error)
    if isinstance(cause, kinds.RayError):
        return CallFailure("died", "something that it needs was lost", error)
    unforeseen = RunError(f"an actor failed: {told(cause)}")
    unforeseen.users, unforeseen.__cause__ = True, error
    return CallFailure("error", told(cause), unforeseen)


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def unwrapped(ray: Any) -> Iterator[None]:
    """Raise raysim's own errors from an actor as they were raised there."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaysimError):
            own = as_raised(error)
            raise own from own.__cause__
        raise


def as_raised(error: Any) -> RaysimError:
    """raysim's own error of a `RayTaskError`, caused by what caused it in the actor, where that could travel.

    The traceback of the actor is text of Ray's error, which stands behind it.
    """
    own: RaysimError = error.cause
    if own.__cause__ is None:
        own.__cause__ = error
    elif own.__cause__ is not error and own.__cause__.__cause__ is None:
        own.__cause__.__cause__ = error
    return own


@contextmanager
def building(who: str) -> Iterator[None]:
    """Report in one line the actor that cannot start work, whatever the error; errors of raysim's own and Ray's pass.

    Raises:
        PlacementError: names the actor and its node.
    """
    ray = import_ray()
    try:
        yield
    except ray.exceptions.RayError:
        raise
    except BaseException as error:
        if passes(error):
            raise
        node = ray.get_runtime_context().get_node_id()[:8]
        raise failure(f"{who} on node {node} cannot start work", error, PlacementError) from error
