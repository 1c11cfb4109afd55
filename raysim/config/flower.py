"""What `raysim run flower:APP` takes as KEY=VALUE: how an app of Flower is run, never what it computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from raysim.config.base import Section
from raysim.config.bounds import BYTES, SEED
from raysim.config.classes import MOST_ACTORS, MOST_CORES
from raysim.config.errors import explain
from raysim.config.loading import apply_overrides
from raysim.config.running import ExecutionConfig

MOST_NODES = 1_000_000

Value = bool | int | float | str


class FlowerExecutionConfig(Section):
    """Where the clients of the app run. Nothing here but `threads_per_client` changes a result."""

    executor: Literal["ray", "inprocess"] = "ray"
    """`ray` runs clients in actors; `inprocess` runs one after the other in this process, without Ray."""
    address: str | None = None
    """A running Ray cluster (`auto` or `host:port`); by default a Ray of our own is started and shut down."""
    actors: Annotated[int, Field(ge=1, le=MOST_ACTORS)] | Literal["auto"] = "auto"
    """Client actors; `auto` fills the machine, with at most one actor a node of the app."""
    num_cpus: Annotated[float, Field(gt=0, le=MOST_CORES)] | None = None
    """CPU cores of an actor; by default `client-resources.num-cpus` of the app's federation, or one."""
    num_gpus: Annotated[float, Field(ge=0, le=MOST_CORES)] | None = None
    """GPUs of an actor, 0.25 puts four on each; by default `client-resources.num-gpus` of the app's federation, or
    none."""
    threads_per_client: int = Field(1, ge=1, le=1024)
    """Threads of torch, BLAS and OpenMP in a client."""
    object_store_memory: int | None = Field(None, ge=80 * 1024 * 1024, le=BYTES)
    """Bytes of shared memory for a Ray of our own; by default Ray's choice."""
    max_retries: int = Field(3, ge=0, le=1000)
    """Times that a message is run again whose actor died."""

    def for_ray(self) -> ExecutionConfig:
        """The same, as what starts Ray reads it."""
        return ExecutionConfig(address=self.address, object_store_memory=self.object_store_memory, device="cpu")


class FlowerTrackingConfig(Section):
    """What a run leaves behind."""

    directory: str = "runs"
    """Run directories are made below this folder."""
    report: bool = True
    """Write `report.html` at the end."""
    reply_bytes: int = Field(2**30, ge=0, le=BYTES)
    """Bytes of replies that are kept on disk, for `raysim resume`; a run with more cannot be resumed. 0 keeps none."""


class FlowerConfig(Section):
    """How an app of Flower is run."""

    name: str | None = Field(None, pattern=r"^[\w.-]+$", max_length=200)
    """Names the run directory; by default as the app."""
    seed: int = Field(0, ge=0, le=SEED)
    """Node ids, and the state of the global generators of Python, NumPy and torch before the server and before every
    message, are functions of this. An app that seeds generators itself overrides it."""
    nodes: int | None = Field(None, ge=1, le=MOST_NODES)
    """Nodes (SuperNodes) of the federation; by default `options.num-supernodes` of the app's federation, or 10."""
    run: dict[str, Any] = Field(default_factory=dict)
    """Values of the app's own configuration (`context.run_config`), as `flwr run --run-config` changes them."""
    execution: FlowerExecutionConfig = FlowerExecutionConfig()
    """Where the clients run."""
    tracking: FlowerTrackingConfig = FlowerTrackingConfig()
    """What the run leaves behind."""

    @classmethod
    def parse(cls, values: Mapping[str, Any], overrides: Sequence[str] = (), *, where: str = "flower") -> FlowerConfig:
        """Apply `key.sub=value` overrides to a nested mapping, and validate.

        Raises:
            ConfigError: an override is malformed, or one line for each problem, naming the key.
        """
        try:
            return cls.model_validate(apply_overrides(values, overrides))
        except ValidationError as error:
            raise explain(error, cls, where) from None
