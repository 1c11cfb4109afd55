"""Facts of rounds that nobody trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from raysim.rounds.results import RoundFacts
from raysim.rounds.rows import RoundRow, client_batch


def facts_of(
    round: int,
    workers: Sequence[int],
    *,
    dropped: Sequence[int] = (),
    transport_up: int = 0,
    seconds: Mapping[str, float] | None = None,
    **faults: int,
) -> RoundFacts:
    """A client for each of these workers; those at the positions `dropped` were left out."""
    count = len(workers)
    row = RoundRow(
        round=round,
        cohort=count,
        trained=count - len(dropped),
        dropped=len(dropped),
        clamped=0,
        samples=count,
        steps=count,
        transport_up=transport_up,
        transport_down=0,
        lr=0.1,
        seconds=seconds or {},
        **faults,
    )
    ones = np.ones(count)
    clients = client_batch(
        round=round,
        client=np.arange(count),
        samples=ones.astype(int),
        steps=ones.astype(int),
        weight=ones,
        loss=ones,
        seconds=ones,
        worker=np.array(workers),
        dropped=["lost" if at in dropped else None for at in range(count)],
    )
    return RoundFacts(row, clients, ())
