"""The `evaluation`, `stop`, `execution` and `tracking` sections: everything around the mathematics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysim.config.base import Section

MetricName = Annotated[
    str, Field(pattern=r"^(accuracy|top\d+|macro_f1|balanced_accuracy|mae|rmse|loss|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)$")
]


class EvaluationConfig(Section):
    """What is measured, and when."""

    every: int = Field(1, ge=0)
    """Rounds between two evaluations of the global model on the test (and validation) set; 0 is never."""
    sets: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    """The server's sets to evaluate on, where they exist. Trials of a study never look at the test set."""
    clients_every: int | None = Field(None, ge=0)
    """Rounds between two evaluations on every client's holdout; by default as `every` where `data.holdout` > 0."""
    metrics: tuple[MetricName, ...] | None = None
    """`accuracy`, `top5` (any k), `macro_f1`, `balanced_accuracy`, `mae`, `rmse`, or import strings; the loss is always
    there. By default accuracy for classes and RMSE for numbers."""
    batch_size: int = Field(1000, ge=1)
    """Samples of one evaluation batch."""


class StopConfig(Section):
    """When to stop before the last round. Metrics are named as in the report: `test/accuracy`, `validation/loss`, …"""

    metric: str | None = None
    """Metric that `target` and `patience` look at; by default validation (else test) accuracy, or loss."""
    target: float | None = None
    """Stop when the metric reaches this."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without improvement."""
    seconds: float | None = Field(None, gt=0)
    """Stop after this much wall-clock time."""


class ExecutionConfig(Section):
    """Where the work runs. Nothing here changes a result, except `device` and `threads_per_client`."""

    executor: Literal["ray", "inprocess"] = "ray"
    """`ray` trains in actors; `inprocess` runs the same round in this process, without Ray."""
    address: str | None = None
    """A running Ray cluster (`auto` or `host:port`); by default a Ray of our own is started and shut down."""
    actors: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Client actors; `auto` fills the machine."""
    clients_per_actor: int | None = Field(None, ge=1)
    """Give every so many clients an actor of their own for the whole run; 1 is one actor a client."""
    num_cpus: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """CPU cores of an actor; `auto` is one, or an equal share of the cores where more actors are asked for."""
    num_gpus: float = Field(0.0, ge=0)
    """GPUs of an actor: 0.25 puts four actors on each; above 1 only whole numbers."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is cuda where `num_gpus` > 0."""
    threads_per_client: int = Field(1, ge=1)
    """Torch threads of an actor: more or fewer change the last bits of a result."""
    object_store_memory: int | None = Field(None, ge=80 * 1024 * 1024)
    """Bytes of shared memory for a Ray of our own; by default Ray's choice."""
    shard_memory: int = Field(256 * 1024 * 1024, ge=0)
    """Bytes of shards that a worker keeps on its device from round to round; the least recently used go first."""
    max_retries: int = Field(3, ge=0)
    """Times a lease is given out again when its actor dies."""
    rounds_ahead: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Rounds on Ray that may be worked on before the rounds in front of them are committed; 0 is one after the other.
    Rounds too small to be worth sharing then go to one actor several at a time."""


class TrackingConfig(Section):
    """What a run leaves behind."""

    directory: str = "runs"
    """Run directories are made below this folder."""
    checkpoint_every: int = Field(10, ge=0)
    """Rounds between two checkpoints; 0 keeps only the last round's."""
    keep: int = Field(2, ge=1)
    """Checkpoints to keep."""
    report: bool = True
    """Write `report.html` at the end."""
    clients: bool = True
    """Write `clients.parquet`: a row for every client of every round."""
