"""The `evaluation`, `stop`, `execution` and `tracking` sections: everything around the mathematics."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from raysim.config.base import UNKNOWN_NAME, Section
from raysim.config.bounds import BYTES, SECONDS
from raysim.config.classes import DEFAULT, MOST_ACTORS, MOST_CORES, ClassName, ClientClassConfig
from raysim.config.faults import FaultsConfig
from raysim.config.fine_tuning import FineTuneConfig
from raysim.config.generating import GenerateConfig
from raysim.config.observers import ObserverConfig

_METRIC = (
    r"^(accuracy|(top|hit_rate|ndcg)\d{1,6}|macro_f1|balanced_accuracy|pr_auc|roc_auc|brier|ece|perplexity|reward_accuracy|reward_margin|(precision|recall|f1)(/.+)?"
    r"|mae|rmse|loss|[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)$"
)
_METRICS = (
    "accuracy", "top5", "hit_rate10", "ndcg10", "macro_f1", "balanced_accuracy", "precision", "recall", "f1", "pr_auc",
    "roc_auc", "brier", "ece", "perplexity", "reward_accuracy", "reward_margin", "mae", "rmse", "loss",
    "package.module:name",
)  # fmt: skip


def _known(name: Any) -> Any:
    """Name the nearest metric; the pattern, which is there for the JSON schema, would be shown to people."""
    if isinstance(name, str) and not re.match(_METRIC, name):
        raise PydanticCustomError(UNKNOWN_NAME, "unknown name", {"names": _METRICS})
    return name


MetricName = Annotated[str, BeforeValidator(_known), Field(pattern=_METRIC)]


class EvaluationConfig(Section):
    """What is measured, and when."""

    every: int = Field(1, ge=0)
    """Rounds between two evaluations of the global model on the test (and validation) set; 0 is never."""
    sets: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    """The server's sets to evaluate on, where they exist; without `test` clients' own test samples are left out, too.
    Trials of a study never look at the test set."""
    clients_every: int | None = Field(None, ge=0)
    """Rounds between two evaluations of every client on its holdout, where `data.holdout` > 0, and on the test samples
    that the source says are its own; by default as `every`, 0 is never."""
    metrics: tuple[MetricName, ...] | None = None
    """`accuracy`, `top5`, `hit_rate10` and `ndcg10` (any k), `macro_f1`, `balanced_accuracy`; `precision`, `recall` and
    `f1` (of `positive`, else of each class; `recall/died` of one); `pr_auc`, `roc_auc`; `brier`, `ece`; `perplexity`;
    `reward_accuracy` and `reward_margin` of pairs of answers; `mae`, `rmse`, or import strings; the loss is always
    there. By default accuracy for classes, RMSE for numbers, and both of pairs for those."""
    positive: str | Annotated[int, Field(ge=0, strict=True)] | None = None
    """The class that `precision`, `recall`, `f1`, `pr_auc` and `roc_auc` look for, by name or number. By default
    the areas look for class 1 of two, or for every class in turn, the others for every class."""
    batch_size: int = Field(1000, ge=1)
    """Samples of one evaluation batch."""
    fine_tune: FineTuneConfig | None = None
    """Have every client train a copy of the model on its training part before it is evaluated on samples of its
    own."""
    generate: GenerateConfig | None = None
    """Have the global model write text, to be read beside the metrics."""
    local_baseline: str | None = None
    """Directory of a finished run of `algorithm: local` on the same data: `clients/…/below_local` is then the share of
    clients that their own local model serves better."""


class StopConfig(Section):
    """When to stop before the last round. Metrics are named as in the report: `test/accuracy`, `validation/loss`, …"""

    metric: str | None = None
    """Metric that `target` and `patience` look at; by default validation (else test) accuracy, or loss."""
    target: float | None = None
    """Stop when the metric reaches this."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many evaluations without improvement."""
    seconds: float | None = Field(None, gt=0, le=SECONDS)
    """Stop after this much wall-clock time."""
    virtual_seconds: float | None = Field(None, gt=0, le=SECONDS)
    """End with the last round that is done within this much virtual time; needs `systems.fleet`."""
    wire_bytes: int | None = Field(None, ge=1, le=BYTES)
    """Stop once the federation has sent this many bytes, models to clients and updates to the server."""

    @model_validator(mode="after")
    def _metric_is_for_something(self) -> StopConfig:
        if self.metric is not None and self.target is None and self.patience is None:
            raise ValueError(f"metric ({self.metric}) stops nothing by itself; set target or patience, or remove it")
        return self


class ExecutionConfig(Section):
    """Where the work runs. Nothing here changes a result, except `device` and `threads_per_client`."""

    executor: Literal["ray", "inprocess"] = "ray"
    """`ray` trains in actors; `inprocess` runs the same round in this process, without Ray."""
    address: str | None = None
    """A running Ray cluster (`auto` or `host:port`); by default a Ray of our own is started and shut down."""
    actors: Annotated[int, Field(ge=1, le=MOST_ACTORS)] | Literal["auto"] = "auto"
    """Client actors; `auto` fills the machine."""
    clients_per_actor: int | None = Field(None, ge=1)
    """Give each group of this many clients an actor of its own for the whole run; 1 is one actor a client."""
    num_cpus: Annotated[float, Field(gt=0, le=MOST_CORES)] | Literal["auto"] = "auto"
    """CPU cores of an actor; `auto` is one, or an equal share of the cores where more actors are asked for."""
    num_gpus: float = Field(0.0, ge=0, le=MOST_CORES)
    """GPUs of an actor: 0.25 puts four actors on each; above 1 only whole numbers."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is cuda where `num_gpus` > 0."""
    gpu_memory: int | None = Field(None, ge=1, le=BYTES)
    """Bytes of memory of each GPU, which actors must fit into; by default each node is asked."""
    classes: dict[ClassName, ClientClassConfig] = Field(default_factory=dict)
    """Clients that need another share of a machine than the rest, by a name of your choice."""
    threads_per_client: int = Field(1, ge=1, le=1024)
    """Torch threads of an actor: more or fewer change the last bits of a result."""
    object_store_memory: int | None = Field(None, ge=80 * 1024 * 1024, le=BYTES)
    """Bytes of shared memory for a Ray of our own; by default Ray's choice."""
    shard_memory: int = Field(256 * 1024 * 1024, ge=0, le=BYTES)
    """Bytes of shards that a worker keeps on its device from round to round; the oldest are removed first."""
    state_memory: int = Field(512 * 1024 * 1024, ge=0, le=BYTES)
    """Bytes of what clients keep from round to round that a node holds in memory; the rest is in mapped files."""
    scratch: str | None = None
    """Folder for these files, on every node; by default the system's folder for temporary files."""
    max_retries: int = Field(3, ge=0, le=1000)
    """Times that failed work is retried; from the second time on in smaller pieces."""
    faults: FaultsConfig = FaultsConfig()
    """How clients whose training failed are handled."""
    wait_for_nodes: float = Field(60.0, ge=0, le=SECONDS)
    """Seconds to wait for nodes that can hold actors, when a run has lost all that it had."""
    rounds_ahead: Annotated[int, Field(ge=0, le=1000)] | Literal["auto"] = "auto"
    """Rounds on Ray that may be worked on before the rounds in front of them are committed; 0 is one after the other.
    Rounds too small to be worth sharing then go to one actor several at a time."""

    metrics: bool | Literal["auto"] = "auto"
    """Tell Ray's metrics, for Prometheus and Grafana, how the run goes; `auto` does on a Ray that it did not start."""

    @model_validator(mode="after")
    def _one_way_to_give_clients_their_actors(self) -> ExecutionConfig:
        if self.classes and self.clients_per_actor is not None:
            raise ValueError("clients have actors of their own by clients_per_actor or by classes, not by both")
        if DEFAULT in self.classes:
            raise ValueError(f"classes: {DEFAULT!r} are the clients in no other class; choose another name")
        return self


class TrackingConfig(Section):
    """What a run leaves behind."""

    directory: str = "runs"
    """Run directories are made below this folder."""
    checkpoint_every: int = Field(10, ge=0)
    """Rounds between two checkpoints; 0 keeps only the last round's."""
    keep: int = Field(2, ge=1)
    """Checkpoints to keep."""
    checkpoints: str | None = Field(None, pattern=r"^(/|~/|[A-Za-z][A-Za-z0-9+.-]*://).+")
    """Folder (from `/` or `~/`) or URI (`s3://bucket/folder`, `gs://…`, `abfs://…`, `hdfs://…`) where checkpoints are
    kept, below the name of the run directory; by default in the run directory."""
    report: bool = True
    """Write `report.html` at the end."""
    chain: bool = True
    """Write `chain.jsonl`, digests of the model and of what was recorded after every round, for `raysim verify`."""
    observers: tuple[ObserverConfig, ...] = ()
    """What follows the run besides the terminal, by name or import string. An observer that fails is dropped with a
    warning, and the run goes on."""
    clients: bool = True
    """Write `clients.parquet`, a row for every client of every round, and `holdouts.parquet` and
    `client_tests.parquet`, a row for every client of the last evaluation on its holdout and on its test samples."""
