"""The one place that starts Ray, or attaches to one that runs, and shuts down only what it started."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from raysim.cluster.health import CHECK_SECONDS, Health
from raysim.cluster.token import guard_token
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.execution.placement.slots import Node
from raysim.machine import cores, gpu_memory
from raysim.user_code import told

_ASK_SECONDS = 60.0
"""How long a node may take to say how large its GPUs are."""


def import_ray() -> Any:
    """Import Ray with settings that must be made before: no working directory is uploaded, nothing phones home.

    Nor does the object store fill up with what is no longer needed: without lineage pinning and the freeing period set
    so, each model would keep the partial sums that it was made of, for Ray to make it again, and what is freed would
    stay for a second. Actors run at the priority of the driver: at Ray's own, 15 steps lower, a run gets next to no
    processor time beside any other program.
    """
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # A call that fails has several objects, of which one is read: Ray would print the error again for the others.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_lineage_pinning_enabled", "0")
    os.environ.setdefault("RAY_free_objects_period_milliseconds", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    return ray


@dataclass(frozen=True, slots=True)
class Runtime:
    """A Ray that is up.

    Attributes:
        ray: the module.
        owned: whether `close` shuts it down.
        home: id of the driver's node.
        health: whether Ray is still up.
        gpu_memory: bytes of each GPU, by node, as far as it was asked for.
    """

    ray: Any
    owned: bool
    home: str
    execution: ExecutionConfig
    health: Health
    gpu_memory: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def start(cls, execution: ExecutionConfig) -> Runtime:
        """Use the Ray that this process is connected to, else `execution.address`, else start one on this machine.

        Raises:
            PlacementError: there is no Ray at the address, or it cannot be joined; one of our own does not start, or no
                token can be written for it.
        """
        ray = import_ray()
        owned = not ray.is_initialized()
        if owned and execution.address is not None:
            if "://" in execution.address:
                raise PlacementError(
                    f"execution.address: {execution.address!r} names a Ray client; a run needs the cluster's own "
                    "address; submit it with `ray job submit`, or run it on a node with execution.address=auto"
                )
            try:
                _knock(execution.address)
                with _starting(f"execution.address: cannot join the Ray cluster at {execution.address!r}"):
                    ray.init(address=execution.address, log_to_driver=False, logging_level=logging.WARNING)
            except OSError as error:
                raise PlacementError(f"execution.address: no Ray cluster at {execution.address!r} ({error})") from None
        elif owned:
            guard_token()
            with _starting(
                "Ray did not start on this machine; try again when it is less busy, or set execution.executor=inprocess"
            ):
                ray.init(
                    address="local",  # without it Ray would join whatever RAY_ADDRESS or a `ray start` names
                    num_cpus=max(1, int(cores())),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    object_store_memory=execution.object_store_memory,
                )
        return cls(ray, owned, ray.get_runtime_context().get_node_id(), execution, Health(ray, owned=owned))

    def nodes(self) -> list[Node]:
        """The nodes that are up, the driver's own first.

        Raises:
            LostError: Ray is gone, and would never answer.
        """
        self.health.check()
        up = [node for node in self.ray.nodes() if node["Alive"]]
        up.sort(key=lambda node: (node["NodeID"] != self.home, node["NodeID"]))
        return [
            Node(
                node["NodeID"],
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
                int(node["Resources"].get("memory", 0)),
                self._gpu_memory(node["NodeID"]) if node["Resources"].get("GPU", 0.0) else None,
            )
            for node in up
        ]

    def get(self, references: Any, timeout: float | None = None) -> Any:
        """The values of references, as `ray.get` has them.

        Raises:
            LostError: Ray is gone.
            RayError: see `ray.get`; `GetTimeoutError` after `timeout` seconds.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                return self.ray.get(references, timeout=max(0.0, min(left, CHECK_SECONDS)))
            except self.ray.exceptions.RayTaskError:
                raise
            except self.ray.exceptions.RayError as error:
                self.health.check()
                if left > CHECK_SECONDS and isinstance(error, self.ray.exceptions.GetTimeoutError):
                    continue
                raise

    def wait(self, references: Sequence[Any], timeout: float) -> list[Any]:
        """References whose values are there; none after `timeout` seconds.

        Raises:
            LostError: Ray is gone.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            ready, _ = self.ray.wait(references, num_returns=1, timeout=max(0.0, min(left, CHECK_SECONDS)))
            if ready or left <= CHECK_SECONDS:
                return list(ready)
            self.health.check()

    def _gpu_memory(self, node: str) -> int | None:
        """Bytes of the smallest GPU of a node; asked only where actors will compute on it."""
        if self.execution.gpu_memory is not None or self.execution.device == "cpu":
            return self.execution.gpu_memory
        if node not in self.gpu_memory:
            ask = self.ray.remote(gpu_memory).options(num_cpus=0, scheduling_strategy=self.pinned(node))
            try:
                self.gpu_memory[node] = self.ray.get(ask.remote(), timeout=_ASK_SECONDS)
            except self.ray.exceptions.RayError:
                self.gpu_memory[node] = None
        return self.gpu_memory[node]

    def pinned(self, node: str) -> Any:
        """Scheduling strategy for exactly this node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    def close(self) -> None:
        """Shut down a Ray of our own; leave any other alone."""
        if self.owned and self.ray.is_initialized():
            self.ray.shutdown()


@contextmanager
def _starting(what: str) -> Iterator[None]:
    """Start Ray, or join one; what it raises, in one line."""
    try:
        with _without_advice(), _same_sigterm():
            yield
    except OSError:
        raise
    except Exception as error:  # Ray raises plain `Exception` where a node does not start in time
        raise PlacementError(f"{what} ({told(error)})") from error


@contextmanager
def _without_advice() -> Iterator[None]:
    """Start Ray without its advice, at every start, how to turn token authentication off.

    Authentication stays as Ray has it, and its warning that there is none is not held back.
    """
    logger = logging.getLogger("ray._private.authentication.authentication_token_setup")

    def wanted(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Token authentication is enabled")

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


@contextmanager
def _same_sigterm() -> Iterator[None]:
    """Start Ray without its answer to SIGTERM, which ends the process and saves nothing, where there is one already."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """Fail at once where the port is closed: Ray would try again for minutes."""
    host, separator, port = address.rpartition(":")
    if separator and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
