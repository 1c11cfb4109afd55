"""What every node of a cluster is like, asked by an actor on each of them: for `raysim doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from raysim.cluster.faults import first_line
from raysim.cluster.runtime import Runtime
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.version import __version__

PACKAGES = ("ray", "torch", "numpy", "pyarrow")
"""What must be of one version everywhere, beside Python and raysim."""

PATIENCE = 120.0
"""Seconds that a node has to answer, with torch imported from a slow disk."""

_CLOCK_READINGS = 5


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node is like.

    Attributes:
        name: its host name or address, and the beginning of Ray's id.
        cpus, gpus: what Ray may give away there.
        versions: of Python, raysim and `PACKAGES`; "none" where there is none.
        processor: instructions that torch makes use of.
        gpus_seen: by torch.
        shared_free: bytes of shared memory; None where there is no such folder.
        open_files: that a process may have; None without a limit.
        disk_free: bytes where Ray keeps its files.
        sees_cache: whether it sees what the driver writes into the cache of shards.
        clock: seconds that its clock is ahead of the driver's.
        clock_error: half of what the fastest question took: the difference is known to so much.
    """

    name: str
    cpus: float
    gpus: float
    versions: dict[str, str]
    processor: str
    gpus_seen: int
    shared_free: int | None
    open_files: int | None
    disk_free: int
    sees_cache: bool
    clock: float = 0.0
    clock_error: float = 0.0


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A node that could not be asked."""

    name: str
    reason: str


class NodeProbe:
    """An actor that looks around where it is."""

    def facts(self, name: str, cpus: float, gpus: float, marker: str) -> NodeFacts:
        """All but the clock's."""
        import torch

        shared = Path("/dev/shm")  # noqa: S108 - looked at, not written
        return NodeFacts(
            name=name,
            cpus=cpus,
            gpus=gpus,
            versions={
                "python": platform.python_version(),
                "raysim": __version__,
                **{package: _version(package) for package in PACKAGES},
            },
            processor=torch.backends.cpu.get_cpu_capability(),
            gpus_seen=torch.cuda.device_count() if torch.cuda.is_available() else 0,
            shared_free=shutil.disk_usage(shared).free if shared.is_dir() else None,
            open_files=_open_files(),
            disk_free=shutil.disk_usage(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).free,
            sees_cache=Path(marker).is_file(),
        )

    def clock(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def inspect_nodes(address: str, cache: Path) -> list[NodeFacts | NoAnswer]:
    """Ask every node of the cluster at an address, the driver's own first.

    Args:
        address: as `execution.address`.
        cache: the folder of shards, into which a small file is written for a moment.

    Raises:
        PlacementError: there is no Ray at the address.
    """
    runtime = Runtime.start(ExecutionConfig(address=address))
    try:
        nodes = [node for node in runtime.ray.nodes() if node["Alive"]]
        nodes.sort(key=lambda node: (node["NodeID"] != runtime.home, node["NodeID"]))
        with _marked(cache) as marker:
            return _asked(runtime, nodes, marker)
    finally:
        runtime.close()


def without_cuda() -> str | None:
    """Why torch cannot use a GPU that Ray gives away here, and what to do about it; None where it can."""
    import torch

    if torch.cuda.is_available():
        return None
    why = "is built without CUDA" if torch.version.cuda is None else "finds no CUDA driver"
    return (
        f"Ray gives away a GPU there, but torch {torch.__version__} {why}; install torch for the CUDA version of the "
        "node, or set execution.num_gpus=0"
    )


def check_gpus(runtime: Runtime) -> None:
    """Ask every node with GPUs whether torch can use them.

    Raises:
        PlacementError: it cannot.
    """
    ray = runtime.ray
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0.0)]
    ask = ray.remote(without_cuda).options
    calls = [ask(num_cpus=0, scheduling_strategy=runtime.pinned(node)).remote() for node in nodes]
    for node, call in zip(nodes, calls, strict=True):
        if (why := ray.get(call, timeout=PATIENCE)) is not None:
            raise PlacementError(f"node {node[:8]}: {why}")


def _asked(runtime: Runtime, nodes: Sequence[dict[str, Any]], marker: Path) -> list[NodeFacts | NoAnswer]:
    ray = runtime.ray
    probes = [
        ray.remote(NodeProbe)
        .options(num_cpus=0, max_restarts=0, scheduling_strategy=runtime.pinned(node["NodeID"]))
        .remote()
        for node in nodes
    ]
    calls = []
    for probe, node in zip(probes, nodes, strict=True):
        name = f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"
        cpus, gpus = (node["Resources"].get(what, 0.0) for what in ("CPU", "GPU"))
        calls.append((name, probe.facts.remote(name, cpus, gpus, str(marker))))
    ray.wait([call for _, call in calls], num_returns=len(calls), timeout=PATIENCE)
    found: list[NodeFacts | NoAnswer] = []
    for probe, (name, call) in zip(probes, calls, strict=True):
        try:
            facts: NodeFacts = ray.get(call, timeout=0)
            ahead, error = _clock_of(ray, probe)
            found.append(replace(facts, clock=ahead, clock_error=error))
        except ray.exceptions.GetTimeoutError:
            found.append(NoAnswer(name, f"no answer within {PATIENCE:g} s"))
        except ray.exceptions.RayError as error:
            found.append(NoAnswer(name, _reason(error)))
        ray.kill(probe)
    return found


def _clock_of(ray: Any, probe: Any) -> tuple[float, float]:
    """How far the clock is ahead, and how well that is known: from the answer that came fastest."""
    readings = []
    for _ in range(_CLOCK_READINGS):
        before = time.time()
        there = ray.get(probe.clock.remote(), timeout=PATIENCE)
        after = time.time()
        readings.append(((after - before) / 2, there - (before + after) / 2))
    error, ahead = min(readings)
    return ahead, error


def _reason(error: Exception) -> str:
    """What stands in Ray's error of a module that cannot be imported there, else its first line."""
    lines = [line.strip() for line in str(error).splitlines() if "ModuleNotFoundError" in line]
    return lines[-1] if lines else first_line(error)


@contextmanager
def _marked(folder: Path) -> Iterator[Path]:
    """A file in the folder, for other nodes to see."""
    marker = folder / f".doctor-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        pass  # that the folder cannot be written is told by another check
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit
