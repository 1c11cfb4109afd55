"""Cutting an evaluation into fixed ranges, and putting the pieces together again.

The ranges depend on the data and the configuration alone, never on who evaluates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from raysim.config import Experiment
from raysim.data import Federation
from raysim.data.federation import ServerPart
from raysim.execution.work import Evaluated, EvaluationRange, HoldoutRange, ServerRange
from raysim.training import ExactSums, Metric, merge_exact, values_of

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

DISTRIBUTION = ("mean", "worst10", "best10", "std")
"""How a metric is summarised over the clients: worst and best are means of a tenth of the clients."""

UNTUNED = "untuned_"
"""In front of them where models are fine-tuned, of the models as they were before."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is evaluated in which round.

    Attributes:
        rounds: the last of them is always evaluated.
        server: ranges of the server's sets, due every `server_every` rounds; 0 is never.
        holdouts: ranges of the clients' holdouts, due every `clients_every` rounds.
        names: of all metrics that may come out.
    """

    rounds: int
    server: tuple[EvaluationRange, ...]
    server_every: int
    holdouts: tuple[EvaluationRange, ...]
    clients_every: int
    names: tuple[str, ...]

    @classmethod
    def of(cls, experiment: Experiment, federation: Federation, metrics: Sequence[Metric]) -> EvaluationPlan:
        """The plan that the configuration describes."""
        evaluation = experiment.evaluation
        every = evaluation.every
        clients_every = every if evaluation.clients_every is None else evaluation.clients_every
        parts: tuple[ServerPart, ...] = evaluation.sets if every else ()
        server = {part: server_ranges(federation, part, evaluation.batch_size) for part in parts}
        wanted = clients_every > 0 and experiment.data.holdout > 0
        holdouts = holdout_ranges(federation, evaluation.batch_size) if wanted else []
        measured = [part for part, ranges in server.items() if ranges]
        tuned = evaluation.fine_tune is not None
        names = metric_names(metrics, measured, clients=bool(holdouts), tuned=tuned)
        together = tuple(one for ranges in server.values() for one in ranges)
        return cls(experiment.rounds, together, every, tuple(holdouts), clients_every, tuple(names))

    def due(self, round_number: int) -> tuple[EvaluationRange, ...]:
        """What to evaluate after this round."""
        ranges: tuple[EvaluationRange, ...] = ()
        for every, planned in ((self.server_every, self.server), (self.clients_every, self.holdouts)):
            if every and (round_number % every == 0 or round_number == self.rounds):
                ranges += planned
        return ranges


def server_ranges(federation: Federation, part: ServerPart, batch_size: int) -> list[ServerRange]:
    """Ranges of one batch each; none where there is no such set."""
    samples = federation.server(part)
    count = 0 if samples is None else len(samples)
    return [ServerRange(part, start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def holdout_ranges(federation: Federation, batch_size: int) -> list[HoldoutRange]:
    """All clients with a holdout, in ranges of about a batch of samples."""
    sizes = federation.sizes("holdout")
    clients = np.flatnonzero(sizes > 0)
    if not len(clients):
        return []
    piece = (np.cumsum(sizes[clients]) - 1) // batch_size
    return [HoldoutRange(part) for part in np.split(clients, np.flatnonzero(np.diff(piece)) + 1)]


def clients_of(ranges: Iterable[EvaluationRange]) -> Int64:
    """All clients whose holdouts are in these ranges."""
    holdouts = [part.clients for part in ranges if isinstance(part, HoldoutRange)]
    return np.concatenate(holdouts) if holdouts else np.empty(0, dtype=np.int64)


def spread(ranges: Sequence[EvaluationRange], workers: int) -> list[list[EvaluationRange]]:
    """Consecutive ranges for each worker; at most one list a worker, none of them empty."""
    bounds = np.linspace(0, len(ranges), min(workers, len(ranges)) + 1).astype(int)
    return [list(ranges[a:b]) for a, b in pairwise(bounds.tolist()) if b > a]


def metric_names(metrics: Sequence[Metric], parts: Sequence[str], *, clients: bool, tuned: bool = False) -> list[str]:
    """Names of all that `summarise` may return."""
    names = [f"{part}/{metric.name}" for part in parts for metric in metrics]
    if clients:
        before = [f"{UNTUNED}{what}" for what in DISTRIBUTION] if tuned else []
        names += [f"clients/{metric.name}/{what}" for metric in metrics for what in (*DISTRIBUTION, *before)]
    return names


def summarise(results: Iterable[Evaluated], metrics: Sequence[Metric]) -> dict[str, float]:
    """Metrics by name: `test/accuracy`, `validation/loss`, `clients/accuracy/worst10`, ….

    Clients where a metric is NaN do not count in its summaries.
    """
    server: dict[str, list[ExactSums]] = {}
    holdouts: list[Float64] = []
    untuned: list[Float64] = []
    for result in results:
        if isinstance(result.sums, tuple):
            server.setdefault(result.part, []).append(result.sums)
        else:
            holdouts.append(result.sums)
        if result.untuned is not None:
            untuned.append(result.untuned)
    values: dict[str, float] = {}
    for part in sorted(server):
        sums = merge_exact(server[part])
        values |= {f"{part}/{name}": value for name, value in values_of(metrics, sums).items()}
    if holdouts:
        values |= _over_clients(np.concatenate(holdouts), metrics)
    if untuned:
        values |= _over_clients(np.concatenate(untuned), metrics, UNTUNED)
    return values


def _over_clients(rows: Float64, metrics: Sequence[Metric], before: str = "") -> dict[str, float]:
    """Summaries over the clients of per-client sums `[clients, Σ width]`."""
    values: dict[str, float] = {}
    ends = np.cumsum([metric.width for metric in metrics]).tolist()
    for metric, end in zip(metrics, ends, strict=True):
        by_client = np.fromiter((metric.value(row) for row in rows[:, end - metric.width : end]), float, len(rows))
        ordered = np.sort(by_client)  # so the order of arrival changes no bit
        ordered = ordered[~np.isnan(ordered)]
        if not len(ordered):
            continue
        tenth = max(1, round(len(ordered) / 10))
        low, high = float(ordered[:tenth].mean()), float(ordered[-tenth:].mean())
        worst, best = (low, high) if metric.higher_is_better else (high, low)
        summary = (float(ordered.mean()), worst, best, float(ordered.std()))
        values |= {f"clients/{metric.name}/{before}{what}": v for what, v in zip(DISTRIBUTION, summary, strict=True)}
    return values
