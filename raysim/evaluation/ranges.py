"""Cutting an evaluation into fixed ranges.

They depend on the data and the configuration alone, never on the worker that evaluates them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from raysim.arrays import Int64
from raysim.config import Experiment
from raysim.data import Federation
from raysim.data.federation import ServerPart
from raysim.evaluation.client_sets import client_sets, own_sizes
from raysim.evaluation.nodes import node_names, node_ranges
from raysim.evaluation.summaries import metric_names
from raysim.rounds.ranges import ClientRange, EvaluationRange, PromptRange, ServerRange, TrainRange
from raysim.tracking import ClientSet
from raysim.training import Metric


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is evaluated in which round.

    Attributes:
        rounds: the last of them is always evaluated.
        server: ranges of the server's sets, due every `server_every` rounds; 0 is never.
        clients: ranges of the clients' own sets, and of the models of nodes, due every `clients_every` rounds.
        prompts: that the model writes behind every `prompts_every` rounds.
        names: of all metrics that may come out.
    """

    rounds: int
    server: tuple[EvaluationRange, ...]
    server_every: int
    clients: tuple[EvaluationRange, ...]
    clients_every: int
    names: tuple[str, ...]
    prompts: tuple[PromptRange, ...] = ()
    prompts_every: int = 0

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        federation: Federation,
        metrics: Sequence[Metric],
        prompts: tuple[PromptRange, ...] = (),
        *,
        last: int | None = None,
    ) -> EvaluationPlan:
        """The plan that the configuration describes.

        Args:
            prompts: those of `evaluation.generate`.
            last: round of the run, where it is not that of the configuration.
        """
        evaluation = experiment.evaluation
        every = evaluation.every
        clients_every = every if evaluation.clients_every is None else evaluation.clients_every
        parts: tuple[ServerPart, ...] = evaluation.sets if every else ()
        server = {part: server_ranges(federation, part, evaluation.batch_size) for part in parts}
        sets = client_sets(experiment, federation) if clients_every else ()
        clients = client_ranges(federation, sets, evaluation.batch_size)
        measured = [part for part, ranges in server.items() if ranges]
        tuned = evaluation.fine_tune is not None
        local = evaluation.local_baseline is not None
        names = metric_names(metrics, measured, clients=sets, tuned=tuned, local=local)
        apart = measured if experiment.algorithm.apart and clients_every else []
        names += node_names(metrics, apart)
        together = tuple(one for ranges in server.values() for one in ranges)
        write_every = 0 if evaluation.generate is None else evaluation.generate.every
        own: tuple[EvaluationRange, ...] = (*clients, *node_ranges(federation, apart))
        return cls(last or experiment.rounds, together, every, own, clients_every, tuple(names), prompts, write_every)

    def due(self, round_number: int) -> tuple[EvaluationRange, ...]:
        """What to evaluate after this round."""
        ranges: tuple[EvaluationRange, ...] = ()
        for every, planned in ((self.server_every, self.server), (self.clients_every, self.clients)):
            if every and (round_number == self.rounds or _multiple(round_number, every)):
                ranges += planned
        last = round_number == self.rounds
        return ranges + (self.prompts if last or _multiple(round_number, self.prompts_every) else ())


def _multiple(number: int, every: int) -> bool:
    """Whether it is one of them; 0 has none."""
    return every > 0 and number % every == 0


def server_ranges(federation: Federation, part: ServerPart, batch_size: int) -> list[ServerRange]:
    """Ranges of one batch each; none where there is no such set."""
    samples = federation.server(part)
    count = 0 if samples is None else len(samples)
    return [ServerRange(part, start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def client_ranges(federation: Federation, sets: tuple[ClientSet, ...], batch_size: int) -> list[ClientRange]:
    """All clients that have one of these sets, in ranges of about a batch of samples."""
    sizes = own_sizes(federation, sets)
    clients = np.flatnonzero(sizes > 0)
    return [ClientRange(part) for part in _pieces(clients, sizes[clients], batch_size)]


def train_ranges(federation: Federation, clients: Int64, batch_size: int) -> list[TrainRange]:
    """These clients, in ranges of about a batch of training samples."""
    return [TrainRange(part) for part in _pieces(clients, federation.sizes("train", clients), batch_size)]


def _pieces(clients: Int64, sizes: Int64, batch_size: int) -> list[Int64]:
    if not len(clients):
        return []
    piece = (np.cumsum(sizes) - 1) // batch_size
    return np.split(clients, np.flatnonzero(np.diff(piece)) + 1)


def clients_of(ranges: Iterable[EvaluationRange]) -> Int64:
    """All clients that are evaluated on their own sets in these ranges."""
    clients = [part.clients for part in ranges if isinstance(part, ClientRange)]
    return np.concatenate(clients) if clients else np.empty(0, dtype=np.int64)


def gathered(ranges: Sequence[EvaluationRange], groups: Sequence[Int64]) -> list[EvaluationRange]:
    """The ranges, in which clients of a group are beside each other: cut anew, about as many at a time.

    Where clients are evaluated with models of their own, the grouping makes no difference.

    Args:
        groups: disjoint, of some of the clients; the others are one more.
    """
    clients, cut = clients_of(ranges), sum(isinstance(part, ClientRange) for part in ranges)
    found: list[EvaluationRange] = [part for part in ranges if not isinstance(part, ClientRange)]
    alone = clients[~np.isin(clients, np.concatenate([clients[:0], *groups]))]
    for group in (*groups, alone):
        if len(group):
            pieces = np.array_split(group, -(-cut * len(group) // len(clients)))
            found += [ClientRange(piece) for piece in pieces]
    return found


def spread(ranges: Sequence[EvaluationRange], workers: int) -> list[list[EvaluationRange]]:
    """Consecutive ranges for each worker; at most one list a worker, none of them empty."""
    bounds = np.linspace(0, len(ranges), min(workers, len(ranges)) + 1).astype(int)
    return [list(ranges[a:b]) for a, b in pairwise(bounds.tolist()) if b > a]
