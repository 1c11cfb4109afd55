"""What a run tells Ray's metrics, and through them Prometheus and Grafana: sums by run and node, never by client."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Literal

import numpy as np

from raysim.rounds.results import RoundFacts
from raysim.rounds.rows import PHASES, RoundRow

COUNTERS = {
    "raysim_rounds": "Finished rounds.",
    "raysim_clients_trained": "Clients whose update is in the model, by the node that trained them.",
    "raysim_clients_dropped": "Clients left out of their round.",
    "raysim_transport_up_bytes": "Bytes of updates from workers towards the server.",
    "raysim_transport_down_bytes": "Bytes of models from the server to workers.",
    "raysim_calls_lost": "Calls to actors that failed.",
    "raysim_calls_hung": "Calls to actors that were given up at their deadline.",
    "raysim_retries": "Pieces of work that were retried.",
    "raysim_phase_seconds": "Seconds of each phase of the rounds.",
}
"""Ray exports them with `ray_` in front and `_total` behind."""

GAUGES = {
    "raysim_round": "The last finished round.",
    "raysim_clients_per_second": "Clients trained a second since the values before, by node.",
    "raysim_pieces_waiting": "Leases and evaluations that wait for an actor.",
    "raysim_calls_out": "Calls that actors work on.",
}
"""Ray exports them with `ray_` in front."""

TAGS = ("run", "node")
PHASE = "phase"
"""A third tag, of `raysim_phase_seconds`."""

INTERVAL = 1.0
"""Seconds between two messages to Ray: in between, a round costs some additions."""

_ID = 16
"""Characters of a node's id, as `raysim plan` shows it."""

_OF_ROWS: tuple[tuple[str, Callable[[RoundRow], int]], ...] = (
    ("raysim_clients_dropped", lambda row: row.dropped),
    ("raysim_transport_up_bytes", lambda row: row.transport_up),
    ("raysim_transport_down_bytes", lambda row: row.transport_down),
    ("raysim_calls_lost", lambda row: row.lost),
    ("raysim_calls_hung", lambda row: row.hung),
    ("raysim_retries", lambda row: row.retries),
)


class RunMetrics:
    """Counters and gauges of one run.

    Attributes:
        run: the run's name; may be set before the first round.
    """

    def __init__(self, run: str, home: str, node_of: Callable[[int], str]) -> None:
        """Nothing is told before there is something to tell.

        Args:
            run: see above.
            home: the driver's node, of everything that has no other.
            node_of: the node of a worker.
        """
        from ray.util import metrics

        self.run, self._home, self._node_of = run, home, node_of
        self._counters = {
            name: metrics.Counter(name, text, (*TAGS, PHASE) if name == "raysim_phase_seconds" else TAGS)
            for name, text in COUNTERS.items()
        }
        self._gauges = {name: metrics.Gauge(name, text, TAGS) for name, text in GAUGES.items()}
        self._counts: dict[str, float] = defaultdict(float)
        self._seconds: dict[str, float] = defaultdict(float)
        self._trained: dict[str, int] = defaultdict(int)
        self._nodes: set[str] = set()
        self._round = self._waiting = self._out = 0
        self._told = time.monotonic()

    def saw(self, facts: RoundFacts) -> None:
        """A round is finished."""
        row = facts.row
        self._round = row.round
        self._counts["raysim_rounds"] += 1
        for name, value in _OF_ROWS:
            self._counts[name] += value(row)
        for phase in PHASES:
            if phase in row.seconds:
                self._seconds[phase] += row.seconds[phase]
        workers = facts.clients["worker"].to_numpy()
        if row.dropped:
            workers = workers[facts.clients["dropped"].is_null().to_numpy(zero_copy_only=False)]
        for worker, clients in enumerate(np.bincount(workers)):
            if clients:
                self._trained[self._node_of(worker)] += int(clients)
        self._tell_in_time()

    def queued(self, waiting: int, out: int) -> None:
        """Report the pieces of work that wait for an actor, and those that are out."""
        self._waiting, self._out = waiting, out
        self._tell_in_time()

    def close(self) -> None:
        """The run is over: tell the rest, and that nothing goes on."""
        self._waiting = self._out = 0
        self._tell()
        for node in self._nodes:
            self._set("raysim_clients_per_second", 0.0, node)

    def _tell_in_time(self) -> None:
        if time.monotonic() - self._told >= INTERVAL:
            self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        seconds, self._told = now - self._told, now
        for name, value in self._counts.items():
            self._count(name, value, self._tags(self._home))
        for phase, value in self._seconds.items():
            self._count("raysim_phase_seconds", value, {**self._tags(self._home), PHASE: phase})
        self._nodes |= self._trained.keys()
        for node in self._nodes:
            self._count("raysim_clients_trained", self._trained[node], self._tags(node))
            self._set("raysim_clients_per_second", self._trained[node] / max(seconds, 1e-9), node)
        for name, value in (
            ("raysim_round", self._round),
            ("raysim_pieces_waiting", self._waiting),
            ("raysim_calls_out", self._out),
        ):
            self._set(name, value, self._home)
        for counts in (self._counts, self._seconds, self._trained):
            counts.clear()

    def _tags(self, node: str) -> dict[str, str]:
        return {"run": self.run, "node": node[:_ID]}

    def _count(self, name: str, value: float, tags: dict[str, str]) -> None:
        if value > 0:  # Ray refuses to count nothing
            self._counters[name].inc(value, tags=tags)

    def _set(self, name: str, value: float, node: str) -> None:
        self._gauges[name].set(value, tags=self._tags(node))


def run_metrics(
    wanted: bool | Literal["auto"], owned: bool, run: str, home: str, node_of: Callable[[int], str]
) -> RunMetrics | None:
    """The metrics of a run, where they are wanted; `auto` wants them on a cluster, not on a Ray of our own.

    Args:
        wanted: `execution.metrics`.
        owned: whether the run started its Ray itself.
    """
    on = not owned if wanted == "auto" else wanted
    return RunMetrics(run, home, node_of) if on else None
