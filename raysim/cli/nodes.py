"""What `raysim doctor --address` says of a cluster: a line for what all nodes agree in, and one for each other node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from raysim.cli.findings import GIB, Finding, Level, gib

if TYPE_CHECKING:
    from raysim.cluster.inspection import NodeFacts

_CLOCKS = 1.0
"""Seconds that clocks may differ before the times in logs mislead."""

Judgement = Callable[["NodeFacts"], tuple[Level, str, str]]
"""Level, finding and remedy of one node."""


def node_findings(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Findings on these nodes, the driver's own first."""
    home = nodes[0]
    for package in home.versions:
        yield from _each(package, nodes, _same_version(package, home))
    workers = [node for node in nodes if node.cpus or node.gpus] or [home]
    yield from _each("processors", workers, _same_processor(workers[0]))
    for what, judge in _CHECKS:
        yield from _each(what, nodes, judge)
    yield from _each("cache", workers, _cache)


def _each(what: str, nodes: Sequence[NodeFacts], judge: Judgement) -> Iterator[Finding]:
    """A line for each node with a problem; one line for all where there is none."""
    judged = [(node.name, *judge(node)) for node in nodes]
    ill = [Finding(level, what, f"{found} on {name}", remedy) for name, level, found, remedy in judged if level != "ok"]
    if ill:
        yield from ill
    else:
        found = list(dict.fromkeys(found for _, _, found, _ in judged))
        more = "" if len(found) == 1 else f" and {len(found) - 1} more"
        count = f"{len(nodes)} nodes" if len(nodes) > 1 else "1 node"
        yield Finding("ok", what, f"{found[0]}{more}, {count}")


def _same_version(package: str, home: NodeFacts) -> Judgement:
    def judge(node: NodeFacts) -> tuple[Level, str, str]:
        found, expected = node.versions[package], home.versions[package]
        if found == expected:
            return "ok", found, ""
        remedy = f"the driver has {expected}: install the versions of constraints.txt on every node"
        return "bad", found, remedy

    return judge


def _same_processor(first: NodeFacts) -> Judgement:
    def judge(node: NodeFacts) -> tuple[Level, str, str]:
        if node.processor == first.processor:
            return "ok", node.processor, ""
        remedy = f"{first.name} has {first.processor}: actors on both would compute other bits; use one kind of node"
        return "bad", node.processor, remedy

    return judge


def _cuda(node: NodeFacts) -> tuple[Level, str, str]:
    found = f"{node.gpus_seen} GPUs"
    if node.gpus_seen >= node.gpus:
        return "ok", found, ""
    remedy = "install torch for the driver's CUDA version there, or start Ray with the right --num-gpus"
    return "bad", f"torch sees {found} of the {node.gpus:g} that Ray gives away", remedy


def _shared(node: NodeFacts) -> tuple[Level, str, str]:
    if node.shared_free is None:
        return "ok", "no /dev/shm", ""
    level: Level = "ok" if node.shared_free >= GIB else "warn"
    remedy = "" if level == "ok" else "in a container use --shm-size=4g, or a memory volume at /dev/shm"
    return level, f"{gib(node.shared_free)} free", remedy


def _open_files(node: NodeFacts) -> tuple[Level, str, str]:
    if node.open_files is None:
        return "ok", "unlimited", ""
    level: Level = "bad" if node.open_files < 128 else "warn" if node.open_files < 1024 else "ok"
    remedy = "" if level == "ok" else "raise the limit before `ray start`: ulimit -n 65536"
    return level, f"{node.open_files:,}", remedy


def _disk(node: NodeFacts) -> tuple[Level, str, str]:
    level: Level = "bad" if node.disk_free < GIB // 8 else "warn" if node.disk_free < 2 * GIB else "ok"
    remedy = "" if level == "ok" else "make room, or start Ray there with --temp-dir on another disk"
    return level, f"{gib(node.disk_free)} free for Ray's files", remedy


def _clock(node: NodeFacts) -> tuple[Level, str, str]:
    if abs(node.clock) - node.clock_error <= _CLOCKS:
        return "ok", f"within {_CLOCKS:g} s", ""
    side = "ahead of" if node.clock > 0 else "behind"
    return "warn", f"{abs(node.clock):.1f} s {side} the driver's", "set it by NTP: logs of nodes cannot be compared"


def _cache(node: NodeFacts) -> tuple[Level, str, str]:
    if node.sees_cache:
        return "ok", "seen", ""
    remedy = "set RAYSIM_CACHE, or data.cache, to a folder on a file system that all nodes share"
    return "bad", "the driver's folder of shards is not seen", remedy


_CHECKS: tuple[tuple[str, Judgement], ...] = (
    ("cuda", _cuda),
    ("shared memory", _shared),
    ("open files", _open_files),
    ("disk", _disk),
    ("clock", _clock),
)
