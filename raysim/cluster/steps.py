"""The server's step on Ray: sums reduced and applied; what dies or hangs is reported and done again."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from raysim.aggregation import SumOpening
from raysim.arrays import Int32
from raysim.cluster.deadlines import Deadlines
from raysim.cluster.faults import FaultBook, failure_of, unwrapped
from raysim.cluster.reduction import Hop, NodeSum, ReductionTree, Traffic
from raysim.cluster.references import AskedDigest
from raysim.cluster.runtime import Runtime
from raysim.errors import RunError
from raysim.rounds.faults import Fault
from raysim.rounds.results import ServerHandle, StepFacts

RESTART_SECONDS = 60.0
"""What a step may take longer than its deadline: an aggregator that died takes its time to come back."""

INLINE_BYTES = 100 * 1024
"""Objects up to this size Ray sends with a call, not through the object store."""

PROBE_SECONDS = 30.0
"""How long a sum may take to arrive, when it is asked whether it is still there."""


class StepLost(Exception):
    """A step failed because something that it needs was lost."""


@dataclass(frozen=True, slots=True)
class StepCall:
    """A step that is under way.

    Attributes:
        server: the handle that it will fill.
        facts: a reference to what is known of it.
        hops: what the reducers do before it.
        sources: the node of each object that the aggregator adds. The objects are not kept: they would stay.
        began: when it was asked for, by the clock.
    """

    round: int
    server: ServerHandle
    facts: Any
    hops: tuple[Hop, ...]
    sources: tuple[str, ...]
    began: float


class ServerSteps:
    """Steps of one aggregator. A call that dies with the aggregator or a reducer Ray itself makes again: they are pure.

    A step whose partial sums are lost with their node is lost; its caller has them trained again.
    """

    def __init__(
        self,
        runtime: Runtime,
        aggregator: Any,
        tree: ReductionTree,
        deadlines: Deadlines,
        book: FaultBook,
        columns: int,
        holder: Any = None,
        *,
        chained: bool = False,
    ) -> None:
        """Steps of an aggregator.

        Args:
            holder: an aggregator of its own that holds the keys of encrypted sums, where they are encrypted.
            chained: whether the run has a chain, for which servers are hashed.
        """
        self._chained = chained
        self._runtime, self._aggregator, self._tree, self._holder = runtime, aggregator, tree, holder
        self._deadlines, self._book, self._columns = deadlines, book, columns
        self._lives: dict[str, str] = {}

    def ask(
        self,
        round_number: int,
        expected: Int32,
        server: ServerHandle,
        sums: Collection[NodeSum],
        opening: SumOpening | None = None,
        begun: tuple[int, Any] | None = None,
    ) -> StepCall:
        """Reduce a round's sums, and have them applied to this server.

        Args:
            opening: opens them, where they are masked.
            begun: see `Server.apply`.
        """
        began = time.perf_counter()
        reduction = self._tree.reduce(list(sums))
        if self._holder is not None and opening is not None:
            total = self._aggregator.combine.remote(*(one.total for one in reduction.sums))
            opened = NodeSum(self._holder.open.remote(opening, total), self._runtime.home)
            reduction, opening = replace(reduction, sums=(opened,)), replace(opening, secret=())
        state, model, shared, facts = self._aggregator.apply.options(num_returns=4).remote(
            round_number,
            expected,
            server.state,
            server.model,
            opening,
            *(begun or (None, None)),
            *(one.total for one in reduction.sums),
        )
        sources = tuple(one.node for one in reduction.sums)
        after = ServerHandle(state, model, shared, round_number, digest=self.digest(state, model))
        return StepCall(round_number, after, facts, reduction.hops, sources, began)

    def digest(self, state: Any, model: Any) -> AskedDigest | None:
        """Have a server hashed, behind the call that it comes from and in front of the next step."""
        return AskedDigest(self._runtime, self._aggregator.digest.remote(state, model)) if self._chained else None

    def wait(self, step: StepCall) -> tuple[StepFacts, Traffic]:
        """What is known of a step, once it is taken, and what it moved.

        Raises:
            StepLost: something that it needs was lost.
            RunError: the round cannot be applied, or nothing came back in time again and again.
        """
        try:
            with unwrapped(self._runtime.ray):
                facts, life, sizes = self._get(step)
                hops = self._runtime.get([hop.facts for hop in step.hops])
        except self._runtime.ray.exceptions.RayError as error:
            if (failure := failure_of(self._runtime.ray, error)).kind != "died":
                raise failure.error from failure.error.__cause__
            raise StepLost(failure.reason) from error
        self._deadlines.saw("step", time.perf_counter() - step.began)
        lives = {"the aggregator": life}
        traffic = Traffic.into(self._runtime.home, step.sources, sizes)
        for hop, (name, received) in zip(step.hops, hops, strict=True):
            lives[f"the reducer of node {hop.node[:8]}"] = name
            traffic += Traffic.into(hop.node, hop.sources, received)
        self._compare_lives(step, lives)
        return facts, traffic

    def lost(self, sums: Collection[NodeSum]) -> list[NodeSum]:
        """Those of the sums that are gone: with their node, or wherever else they do not come from."""
        up = {node.id for node in self._runtime.nodes()}
        return [one for one in sums if one.node not in up] or [one for one in sums if not self._is_there(one)]

    def _get(self, step: StepCall) -> Any:
        """The step's facts; what hangs is killed, and Ray makes its calls again."""
        hung = 0
        while True:
            limit = self._deadlines.of("step") + RESTART_SECONDS
            try:
                return self._runtime.get(step.facts, timeout=limit)
            except self._runtime.ray.exceptions.GetTimeoutError as error:
                hung += 1
                again = self._book.policy("hung") != "fail" and hung <= self._book.max_retries
                reason, then = f"no answer within {limit:.3g} s", "started again" if again else "the run ends"
                self._book.add(Fault("hung", "the server's step", reason, then, step.round, hung - 1), again=int(again))
                if not again:
                    raise RunError(f"round {step.round}: the server's step hung {hung} times; {reason}") from error
                self._restart()

    def _restart(self) -> None:
        for actor in (self._aggregator, self._holder):
            if actor is not None:
                self._runtime.ray.kill(actor, no_restart=False)
        self._tree.restart()
        self._lives.clear()
        self._runtime.get(self._aggregator.alive.remote())

    def broadcast(self, nodes: Collection[str]) -> int:
        """Bytes of a model that go to other nodes than the driver's.

        Args:
            nodes: of each lease. A node gets one copy; a model too small for the object store goes with every lease.
        """
        away = [node for node in nodes if node != self._runtime.home]
        size = 4 * self._columns
        return size * (len(away) if size <= INLINE_BYTES else len(set(away)))

    def _compare_lives(self, step: StepCall, lives: Mapping[str, str]) -> None:
        """Say which actors died during a step, and were started again."""
        for who, name in lives.items():
            if self._lives.setdefault(who, name) != name:
                self._lives[who] = name
                reason = "it died, and was started again"
                self._book.add(Fault("died", who, reason, "its work is done again", step.round), again=1)

    def _is_there(self, one: NodeSum) -> bool:
        try:
            self._runtime.ray.get(one.total, timeout=PROBE_SECONDS)
        except self._runtime.ray.exceptions.RayError:
            return False
        return True
