"""The values that a run records: a row for each round, a row for each client of a round, and a closing summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from operator import attrgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raysim.rounds.message_forms import MessageForm

PHASES = ("broadcast", "train", "wait", "reduce", "apply", "evaluate", "checkpoint")
"""Where the time of a round goes, in the order of the round.

`broadcast` and `train` are the mean over the workers that took part, `wait` what is left of the time that leases were
out: for other workers, for messages, and, where rounds are worked on ahead, for the model of the round before. `reduce`
and `apply` are the server's step, messages included in the first; `evaluate` goes from the first range given out to the
last that came back, and may lie beside the next round's training. Phases of a round that one worker did as a whole are
measured there. `total` is the time from one commit to the next, without what the caller did with the round; rounds that
come back together from one call share the time until then equally. Where rounds overlap, phases may add up to more than
their totals.
"""

PARTS = ("train/shards", "train/batches", "train/steps", "train/fold")
"""What `train` goes into: taking samples to the device, drawing batches and taking up blocks of clients, gradients and
updates, and folding what clients send. On a GPU, whose work is waited for only when it is needed, much of the steps'
time is the fold's."""

TOTAL = "total"

LINKS = ("transport_up_within", "transport_up_across", "transport_down_across", "transport_state_across")
"""What moved on Ray, within nodes and between them: sums as measured where they arrive, models and rows as counted."""

FORMERLY = {name.replace("transport", "bytes"): name for name in ("transport_up", "transport_down", *LINKS)}
"""Columns of runs that an older version of raysim wrote, and what they are called now."""

WIRE = ("wire_up", "wire_down")
"""What a federation would send, beside the `transport_` columns, which count what the simulator moved."""

FAULTS = ("lost", "hung", "retries")
"""Columns that count what went wrong in a round and was done again. A round of several that one call did has those of
the call."""


@dataclass(frozen=True, slots=True)
class RoundRow:
    """What one committed round did."""

    round: int
    """From 1."""
    cohort: int
    """Clients sampled."""
    trained: int
    """Clients whose update is in the model."""
    dropped: int
    """Clients left out: non-finite, or lost where `execution.faults` says `drop`."""
    clamped: int
    """Clients whose aggregation weight was moved to the edge of its range."""
    samples: int
    """Training samples of the clients that trained."""
    steps: int
    """Optimiser steps of the clients that trained."""
    transport_up: int
    """Bytes of updates that the simulator handed from workers towards the server."""
    transport_down: int
    """Bytes of models that the simulator handed from the server to workers."""
    lr: float
    """Client learning rate of this round."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each of `PHASES`, of `PARTS` and of `total`; what is left out took none."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What was measured: `train/loss`, `test/accuracy`, `clients/accuracy/worst10`, …"""
    lost: int = 0
    """Calls to actors that came to nothing: the actor or its node died, memory ran out, data were missing, an error."""
    hung: int = 0
    """Calls to actors that were given up because they took too long."""
    retries: int = 0
    """Pieces of work that were given out again for those."""
    transport_up_within: int = 0
    """Bytes of partial sums that were read on the node where they were made."""
    transport_up_across: int = 0
    """Bytes of partial sums that went from one node to another."""
    transport_down_across: int = 0
    """Bytes of the model that went to other nodes than the driver's."""
    transport_state_across: int = 0
    """Bytes of what clients keep from round to round that went from one node to another."""
    wire_up: int = 0
    """Bytes that the clients would send in a federation: the length of their encoded records."""
    wire_down: int = 0
    """Bytes that a federation would send to the clients: the model, and what they may read of the server's state."""
    tokens: int = 0
    """Token ids in the batches of the clients that trained, padding among them; 0 where samples have none."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """How a run ended."""

    rounds: int
    """Last committed round."""
    reason: str
    """Why it stopped, as a phrase: `all rounds are done`, `the target is reached`, `interrupted`, …"""
    seconds: float
    """Wall-clock time of this sitting, from before its first round to its last commit or checkpoint: the start and the
    end of workers, and the report, are no part of it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last value of every metric."""
    run: Path | None = None
    """Run directory."""
    report: Path | None = None
    """Its report, if one was written."""
    tokens: int = 0
    """Trained on in this sitting; 0 where samples have none."""

    def _repr_html_(self) -> str:
        shown = {"ended": self.reason, "rounds": self.rounds, **{k: f"{v:.4g}" for k, v in self.metrics.items()}}
        shown |= {name: path for name, path in (("run", self.run), ("report", self.report)) if path is not None}
        rows = (f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in shown.items())
        return f"<table>{''.join(rows)}</table>"


ROUND_FIELDS: tuple[pa.Field, ...] = (
    pa.field("round", pa.int32(), nullable=False),
    pa.field("cohort", pa.int64(), nullable=False),
    pa.field("trained", pa.int64(), nullable=False),
    pa.field("dropped", pa.int64(), nullable=False),
    pa.field("clamped", pa.int64(), nullable=False),
    pa.field("samples", pa.int64(), nullable=False),
    pa.field("steps", pa.int64(), nullable=False),
    pa.field("transport_up", pa.int64(), nullable=False),
    pa.field("transport_down", pa.int64(), nullable=False),
    pa.field("lr", pa.float64(), nullable=False),
    *(pa.field(name, pa.int64(), nullable=False) for name in (*FAULTS, *LINKS, *WIRE, "tokens")),
    *(pa.field(f"seconds/{phase}", pa.float64(), nullable=False) for phase in (*PHASES, *PARTS, TOTAL)),
)

EXACT = ("round", "cohort", "trained", "dropped", "clamped", "samples", "steps", *WIRE, "tokens", "lr")
"""Fixed columns that are a function of configuration and data, as all metrics are: the others say how it was done."""

EXACT_OF_CLIENTS = ("client", "samples", "steps", "weight", "loss", *WIRE, "dropped")
"""The same of a client's row; what its trip took in virtual time is, too."""

CLIENT_SCHEMA = pa.schema(
    [
        pa.field("round", pa.int32(), nullable=False),
        pa.field("client", pa.int64(), nullable=False),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("steps", pa.int64(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("loss", pa.float64()),
        pa.field("seconds", pa.float32(), nullable=False),
        pa.field("worker", pa.int32(), nullable=False),
        *(pa.field(name, pa.int64()) for name in WIRE),
        pa.field("dropped", pa.string()),
    ]
)
"""A row for each client of a round. `weight` is its normalised share; `loss` the mean training loss over its steps;
`wire_up` and `wire_down` its own bytes of the round's, null in runs of versions that did not record them;
`dropped` the reason why its update is not in the model, null where it is; `worker` is -1 for a client that was dropped
before anybody had trained it."""

VIRTUAL_SCHEMA = pa.schema(
    [pa.field(f"virtual_{what}", pa.float64(), nullable=False) for what in ("seconds", "joules", "money")]
)
"""What a client's trip took in virtual time, in runs with devices: columns after those of `CLIENT_SCHEMA`."""


def round_schema(metrics: Sequence[str]) -> pa.Schema:
    """Schema of the rounds table: the fixed columns, then a nullable column for each metric."""
    return pa.schema([*ROUND_FIELDS, *(pa.field(name, pa.float64()) for name in metrics)])


def round_values(row: RoundRow) -> dict[str, float | None]:
    """The row by column, without metrics that were not measured."""
    values: dict[str, float | None] = dict(zip(_COUNTS, _counts_of(row), strict=True))
    values |= _NO_SECONDS
    values |= {f"seconds/{phase}": value for phase, value in row.seconds.items()}
    return values | dict(row.metrics)


_COUNTS = tuple(name for name in RoundRow.__dataclass_fields__ if name not in ("seconds", "metrics"))
_counts_of = attrgetter(*_COUNTS)
_NO_SECONDS = {f"seconds/{phase}": 0.0 for phase in (*PHASES, *PARTS, TOTAL)}


def client_batch(
    *,
    round: int,
    client: npt.ArrayLike,
    samples: npt.ArrayLike,
    steps: npt.ArrayLike,
    weight: npt.ArrayLike,
    loss: npt.ArrayLike,
    seconds: npt.ArrayLike,
    worker: npt.ArrayLike,
    wire_up: npt.ArrayLike = 0,
    wire_down: npt.ArrayLike = 0,
    dropped: Sequence[str | None] | None = None,
) -> pa.RecordBatch:
    """Rows of one round's clients from arrays of equal length `[n]` (see `CLIENT_SCHEMA`), or from one number for all;
    `dropped=None` is none."""
    if not (n := np.size(client)):
        return pa.RecordBatch.from_pylist([], CLIENT_SCHEMA)
    numbers = (round, client, samples, steps, weight, loss, seconds, worker, wire_up, wire_down)
    message = pa.py_buffer(_clients(n).message(numbers))
    batch = pa.ipc.read_record_batch(message, CLIENT_SCHEMA)
    if dropped is None or all(why is None for why in dropped):
        return batch
    return batch.set_column(_DROPPED, CLIENT_SCHEMA.field(_DROPPED), pa.array(dropped, pa.string()))


_DROPPED = CLIENT_SCHEMA.get_field_index("dropped")


@lru_cache(maxsize=256)
def _clients(n: int) -> MessageForm:
    """The form of batches with this number of clients."""
    names = [name for name in CLIENT_SCHEMA.names if name != "dropped"]
    columns = [pa.array(np.zeros(n, CLIENT_SCHEMA.field(name).type.to_pandas_dtype())) for name in names]
    example = pa.RecordBatch.from_arrays([*columns, pa.nulls(n, pa.string())], schema=CLIENT_SCHEMA)
    return MessageForm(example, names, (n,))


def with_virtual(clients: pa.RecordBatch, columns: Mapping[str, npt.ArrayLike]) -> pa.RecordBatch:
    """Rows of a round's clients with what their trips took, in the same order: the columns of `VIRTUAL_SCHEMA`."""
    arrays = [*clients.columns, *(pa.array(columns[field.name], field.type) for field in VIRTUAL_SCHEMA)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([*clients.schema, *VIRTUAL_SCHEMA]))
