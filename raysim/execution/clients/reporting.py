"""What a worker hands over of a trained lease: for each step that takes in some of its clients a record, and facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from raysim.aggregation import Record
from raysim.arrays import Bools, Float64, Int64
from raysim.execution.clients.folding import LeaseFold
from raysim.rounds.lease import NO_CLIENTS, Lease, LeaseReport
from raysim.rounds.rows import client_batch


@dataclass(slots=True)
class LeaseNotes:
    """What is noted of a lease's clients while they train, by their place in it, `[n]`.

    Attributes:
        samples: that each has.
        loss: mean training loss; NaN where there is none.
        seconds: that each took.
        tokens: of its batches.
        clamped: whether its weight was clamped to the stated range.
        keepers: clients with a new state, block by block.
    """

    samples: Int64
    loss: Float64
    seconds: Float64
    tokens: Int64
    clamped: Bools
    keepers: list[Int64] = field(default_factory=lambda: [NO_CLIENTS])

    @classmethod
    def of(cls, samples: Int64) -> LeaseNotes:
        """Empty notes of clients with these numbers of samples."""
        n = len(samples)
        return cls(samples, np.full(n, np.nan), np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.bool_))

    def only(self, places: Int64) -> LeaseNotes:
        """Those of clients at these places, who keep nothing."""
        numbers = self.samples[places], self.loss[places], self.seconds[places]
        return LeaseNotes(*numbers, self.tokens[places], self.clamped[places])


def handed_over(
    folds: Sequence[LeaseFold], notes: LeaseNotes, phases: Mapping[str, float], worker: int
) -> list[tuple[Record, LeaseReport]]:
    """A record and its report for each fold.

    Args:
        phases: seconds of the lease; several folds have their share in them by the seconds of their clients.
        worker: index of the worker.
    """
    found: list[tuple[Record, LeaseReport]] = []
    whole = float(notes.seconds.sum()) or 1.0
    for fold in folds:
        own, seconds = notes, phases
        if fold.places is not None:
            own = notes.only(fold.places)
            seconds = {name: spent * float(own.seconds.sum()) / whole for name, spent in phases.items()}
        found.append(_handed_over(fold.lease, fold, own, seconds, worker))
    return found


def _handed_over(
    lease: Lease, fold: LeaseFold, notes: LeaseNotes, seconds: Mapping[str, float], worker: int
) -> tuple[Record, LeaseReport]:
    record, into, order = fold.seal(), int(lease.into[0]), np.argsort(lease.positions)
    facts = client_batch(
        round=into,
        client=lease.clients[order],
        samples=notes.samples[order],
        steps=lease.steps[order],
        weight=fold.weights[order],
        loss=notes.loss[order],
        seconds=notes.seconds[order],
        worker=worker,
        wire_up=fold.wire_up[order],
        wire_down=fold.wire_down[order],
        dropped=[fold.dropped[i] for i in order.tolist()],
    )
    trained = int(notes.tokens[[why is None for why in fold.dropped]].sum())
    clamped, keepers, positions = int(notes.clamped.sum()), np.concatenate(notes.keepers), lease.positions[order]
    report = LeaseReport(facts, positions, clamped, seconds, record.nbytes, keepers, tokens=trained, into=into)
    return record, report
