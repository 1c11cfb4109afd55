"""The driver's view of a trained round: who was in it, and what that came to. Small facts only, never a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from raysim.arrays import Bools, Int32
from raysim.errors import RunError
from raysim.rounds.faults import NO_WORKER
from raysim.rounds.ranges import Evaluated
from raysim.rounds.results import Applied, RoundFacts, StepFacts, Trained
from raysim.rounds.rows import CLIENT_SCHEMA, PARTS, RoundRow
from raysim.rounds.task import RoundTask

_WEIGHT, _DOWN = (CLIENT_SCHEMA.get_field_index(name) for name in ("weight", "wire_down"))


@dataclass(frozen=True, slots=True)
class CohortFacts:
    """Facts of a round's clients, by their position in the cohort.

    Attributes:
        clients: a row for each client (`CLIENT_SCHEMA`), `weight` normalised to sum to 1.
        took_part: which of them were not dropped.
        contributed: positions of those.
    """

    clients: pa.RecordBatch
    took_part: Bools
    contributed: Int32


def cohort_facts(task: RoundTask, trained: Trained, *, empty: bool = False, wire_down: int = 0) -> CohortFacts:
    """Put the leases' facts together.

    Args:
        empty: whether a step may be left without clients: the server takes it all the same, or keeps the model.
        wire_down: bytes of what a federation would send to a client, beside what leases report.

    Raises:
        RunError: every client was dropped; names the first.
    """
    if not trained.reports and empty:
        return CohortFacts(empty_batch(), np.empty(0, dtype=np.bool_), np.empty(0, dtype=np.int32))
    positions = np.concatenate([report.positions for report in trained.reports])
    clients = _one_batch([report.facts for report in trained.reports])
    if (positions[1:] < positions[:-1]).any():  # those of a single lease are in order
        order = np.argsort(positions, kind="stable")
        clients, positions = clients.take(pa.array(order)), positions[order]
    took_part = _took_part(clients)
    contributed = positions[took_part]
    if not len(contributed) and not empty:
        reason = clients["dropped"][0].as_py()
        remedy = "lower client.optimizer.lr, set client.clip_norm, or scale features and targets"
        if clients["worker"].to_numpy().max() == NO_WORKER:
            remedy = "see log.jsonl, and execution.faults"
        raise RunError(
            f"round {task.round}: every client was dropped; the first, {task.clients[0]}, because {reason}; {remedy}"
        )
    weights = clients["weight"].to_numpy()
    total = math.fsum(weights.tolist())
    share = pa.array(weights / total if total else weights)
    clients = clients.set_column(_WEIGHT, CLIENT_SCHEMA.field(_WEIGHT), share)
    if wire_down:
        sent = pa.array(clients["wire_down"].to_numpy() + wire_down)
        clients = clients.set_column(_DOWN, CLIENT_SCHEMA.field(_DOWN), sent)
    return CohortFacts(clients, took_part, contributed)


def _took_part(clients: pa.RecordBatch) -> Bools:
    """Which clients were not dropped, `[n]`."""
    dropped = clients["dropped"]
    if dropped.null_count == len(dropped):
        return np.ones(len(dropped), dtype=np.bool_)
    found: Bools = dropped.is_null().to_numpy(zero_copy_only=False)
    return found


def _one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    found = pa.Table.from_batches(batches).combine_chunks().to_batches()  # `concat_batches` is new in pyarrow 19
    return found[0] if found else batches[0]


@dataclass(frozen=True, slots=True)
class PackedFacts:
    """Facts of rounds as they travel: a batch of all their clients is packed in a tenth of the time of one for each.

    Attributes:
        rows, evaluated: of each round.
        clients: those of the first round, then those of the second, …
    """

    rows: tuple[RoundRow, ...]
    clients: pa.RecordBatch
    evaluated: tuple[tuple[Evaluated, ...], ...]

    @classmethod
    def of(cls, facts: Sequence[RoundFacts]) -> PackedFacts:
        """Pack the facts of one round or more."""
        clients = _one_batch([one.clients for one in facts])
        return cls(tuple(one.row for one in facts), clients, tuple(one.evaluated for one in facts))

    def unpacked(self) -> list[RoundFacts]:
        """The facts of each round."""
        ends = np.cumsum([row.cohort for row in self.rows]).tolist()
        spans = zip(self.rows, ends, self.evaluated, strict=True)
        return [RoundFacts(row, self.clients.slice(end - row.cohort, row.cohort), found) for row, end, found in spans]


def empty_batch() -> pa.RecordBatch:
    """The clients of an empty cohort."""
    return pa.RecordBatch.from_pylist([], schema=CLIENT_SCHEMA)


def empty_row(task: RoundTask) -> RoundRow:
    """What is recorded of a round without clients."""
    return RoundRow(task.round, 0, 0, 0, 0, 0, 0, 0, 0, task.lr)


def train_loss(clients: pa.RecordBatch) -> float:
    """The clients' mean training losses, averaged with their weights; NaN where no client has one."""
    weights, losses = clients["weight"].to_numpy(), clients["loss"].to_numpy(zero_copy_only=False)
    counted = (weights > 0) & np.isfinite(losses)
    weights, losses = weights[counted], losses[counted]
    total = math.fsum(weights.tolist())
    return math.fsum((weights * losses).tolist()) / total if total else math.nan


def after_step(row: RoundRow, clients: pa.RecordBatch, step: StepFacts) -> tuple[RoundRow, pa.RecordBatch]:
    """The round's row and its clients, with what the server's step recorded and the weights that it gave them."""
    if not step.metrics and step.weights is None and not step.wire_up and not step.wire_down:
        return row, clients
    metrics = {**row.metrics, **step.metrics}
    if step.weights is not None:
        weights = np.zeros(len(clients))
        weights[_took_part(clients)] = step.weights
        clients = clients.set_column(_WEIGHT, CLIENT_SCHEMA.field(_WEIGHT), pa.array(weights))
        loss = train_loss(clients)
        metrics |= {} if math.isnan(loss) else {"train/loss": loss}
    up, down = row.wire_up + step.wire_up, row.wire_down + step.wire_down
    return replace(row, metrics=metrics, wire_up=up, wire_down=down), clients


def round_row(task: RoundTask, facts: CohortFacts, trained: Trained, applied: Applied, model_bytes: int) -> RoundRow:
    """What is recorded of a round, before it is evaluated; `model_bytes` is the length of what travels to a worker."""
    took_part = facts.took_part
    names = ("broadcast", "train", *PARTS)
    spent = {name: sum(report.seconds[name] for report in trained.reports) / trained.workers for name in names}
    loss = train_loss(facts.clients)
    return RoundRow(
        round=task.round,
        cohort=len(task.clients),
        trained=int(np.count_nonzero(took_part)),
        dropped=int(np.count_nonzero(~took_part)),
        clamped=sum(report.clamped for report in trained.reports),
        samples=int(facts.clients["samples"].to_numpy()[took_part].sum()),
        steps=int(facts.clients["steps"].to_numpy()[took_part].sum()),
        transport_up=sum(report.transport_up for report in trained.reports),
        transport_down=trained.broadcasts * model_bytes,
        tokens=sum(report.tokens for report in trained.reports),
        wire_up=int(facts.clients["wire_up"].to_numpy().sum()),
        wire_down=int(facts.clients["wire_down"].to_numpy().sum()),
        lr=task.lr,
        seconds={
            **spent,
            "wait": max(0.0, trained.wall - spent["broadcast"] - spent["train"]),
            "reduce": applied.reduce,
            "apply": applied.apply,
        },
        metrics={} if math.isnan(loss) else {"train/loss": loss},
    )
