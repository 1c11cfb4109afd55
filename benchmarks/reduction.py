"""Partial sums on their way to the server: reduced node by node first, beside all of them sent to the aggregator; and
large ones in chunks beside whole ones.

    python benchmarks/reduction.py         # 3 nodes on this machine, 8 actors, sums of 25 and 202 MB; some six minutes
    python benchmarks/reduction.py large   # one case, which is only printed

The nodes are those of `ray.cluster_utils.Cluster`: processes and object stores of their own, linked by this machine's
loopback device. What crosses it is counted by the kernel, beside what raysim counts for the columns
`bytes_up_within` and `bytes_up_across` of `rounds.parquet`. All ways are raysim's own: flat is a tree whose reducers
have nothing to do. For the case `link` the device is one of a network namespace, slowed down with `tc`, which needs
root. Writes `benchmarks/results/reduction.md`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from raysim import Experiment
from raysim.aggregation import Field, PartialSum, chunks_of, cut
from raysim.cluster.actors import Aggregator
from raysim.cluster.deadlines import Deadlines
from raysim.cluster.faults import FaultBook
from raysim.cluster.reduction import NodeSum, Reduction, ReductionTree
from raysim.cluster.references import Reference
from raysim.cluster.runtime import Runtime, import_ray
from raysim.cluster.steps import ServerSteps
from raysim.execution.preparation.prepare import prepare_job
from raysim.rounds.results import ServerHandle

RESULTS = Path(__file__).parent / "results" / "reduction.md"
NODES, ACTORS = 3, 8
FEATURES = 1000
MB = 1e6


@dataclass(frozen=True, slots=True)
class Way:
    """How sums go to the aggregator.

    Attributes:
        flat: all of them, from wherever they are.
        chunk_bytes: of how many bytes their chunks are at most; None for raysim's own.
    """

    name: str
    flat: bool = False
    chunk_bytes: int | None = None

    def chunks(self, fields: Sequence[Field]) -> int:
        """Chunks of a sum."""
        if self.chunk_bytes is None:
            return chunks_of(fields)
        return max(1, -(-sum(field.nbytes for field in fields) // self.chunk_bytes))


@dataclass(frozen=True, slots=True)
class Case:
    """What is compared, and where.

    Attributes:
        hidden: width of the model's hidden layer, a thousandth of its parameters.
        link: how fast the link between the nodes is made, as `tc` says it; None leaves the loopback device as it is.
    """

    hidden: int
    rounds: int
    ways: tuple[Way, ...]
    link: str | None = None


CHUNKS, WHOLE = Way("in chunks of 32 MiB (raysim)"), Way("whole", chunk_bytes=2**40)
CASES = {
    "tree": Case(3_080, 9, (Way("node by node, then across (raysim)"), Way("flat: all to the aggregator", flat=True))),
    "large": Case(
        25_000, 7, (CHUNKS, WHOLE, Way("in chunks of 8 MiB", chunk_bytes=2**23), Way("of 64 MiB", chunk_bytes=2**26))
    ),
    "link": Case(25_000, 9, (CHUNKS, WHOLE), link="5gbit"),
}


class Flat(ReductionTree):
    """No hop before the aggregator."""

    def reduce(self, sums: Any) -> Reduction:
        return Reduction(tuple(sums), ())


class Maker:
    """In the place of a client actor: hands over a sum of its own in every round."""

    def __init__(self, columns: int, position: int) -> None:
        self._values = np.random.default_rng(position).integers(-(2**40), 2**40, columns)
        self._position = position

    def make(self, round_number: int, chunks: int) -> Any:
        """A partial sum of one client."""
        one = np.array([self._position], dtype=np.int32)
        total = PartialSum(round_number, one, (1 << 52) // ACTORS, {"update": self._values + round_number})
        return total if chunks == 1 else tuple(cut(total, chunks))


def main() -> None:
    """Run all cases, each in a process of its own, and write the tables."""
    if len(sys.argv) > 1:
        print(run(CASES[sys.argv[1]]))
        return
    tables = []
    for name, case in CASES.items():
        command = [sys.executable, __file__, name]
        if case.link is not None:
            slow = f"ip link set lo up && tc qdisc add dev lo root tbf rate {case.link} burst 8mb latency 100ms"
            command = ["unshare", "--net", "sh", "-c", f"{slow} && exec {shlex.join(command)}"]
        tables.append(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    RESULTS.write_text("\n".join(table.strip() + "\n" for table in tables))
    print(RESULTS.read_text())


def run(case: Case) -> str:
    """The table of a case, on nodes of its own."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import_ray()
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 4, "object_store_memory": 2500 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        return measure(ray, case)
    finally:
        ray.shutdown()
        cluster.shutdown()


def measure(ray: Any, case: Case) -> str:
    """Every way in turns."""
    experiment = Experiment.parse(
        {
            "cohort": 2,
            "data": {"source": {"name": "synthetic_virtual", "clients": 2, "samples": 10, "dimensions": FEATURES}},
            "model": {"name": "mlp", "hidden": [case.hidden]},
            "training": {"engine": "sequential"},
        }
    )
    prepared = prepare_job(experiment)
    runtime = Runtime.start(experiment.execution)
    home, *others = (one.id for one in runtime.nodes())
    places = [[home, *others][i % NODES] for i in range(ACTORS)]
    make = ray.remote(Maker)
    makers = [
        make.options(num_cpus=0, scheduling_strategy=runtime.pinned(place)).remote(prepared.columns, i)
        for i, place in enumerate(places)
    ]
    aggregator = (
        ray.remote(Aggregator)
        .options(num_cpus=0, scheduling_strategy=runtime.pinned(home))
        .remote(Reference.put(prepared.job))
    )
    server = ServerHandle(*aggregator.first.options(num_returns=3).remote())
    fields = (Field("update", prepared.columns),)
    trees = {False: ReductionTree(runtime, places, fan_in=8), True: Flat(runtime, [], fan_in=8)}
    book, deadlines = FaultBook(experiment.execution), Deadlines(experiment.execution.faults)
    found: dict[str, list[tuple[float, float, int, int]]] = {way.name: [] for way in case.ways}
    for round_number in range(1, case.rounds + 2):
        models = []
        for way in case.ways:
            steps = ServerSteps(runtime, aggregator, trees[way.flat], deadlines, book, prepared.columns)
            chunks = way.chunks(fields)
            made = [maker.make.options(num_returns=chunks).remote(round_number, chunks) for maker in makers]
            made = [[one] if chunks == 1 else one for one in made]
            ray.wait([one[-1] for one in made], num_returns=len(made), fetch_local=False)
            sums = [NodeSum(tuple(one), place) for one, place in zip(made, places, strict=True)]
            before, began = loopback(), time.perf_counter()
            step = steps.ask(round_number, np.arange(ACTORS, dtype=np.int32), server, sums)
            _, traffic = steps.wait(step)
            took = time.perf_counter() - began
            if round_number > 1:  # the first is for the actors to find their memory
                found[way.name].append((took, loopback() - before, traffic.within, traffic.across))
            models.append(sha256(ray.get(step.server.model)).digest())
            del made, sums, step
        assert len(set(models)) == 1, "other bits"
    return table(found, 8 * prepared.columns, case.link)


def loopback() -> int:
    """Bytes that the loopback device has received."""
    line = next(one for one in Path("/proc/net/dev").read_text().splitlines() if one.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def table(found: dict[str, list[tuple[float, float, int, int]]], size: int, link: str | None) -> str:
    """Medians, and the spread of the times."""
    slow = "" if link is None else f", their link cut down to {link},"
    lines = [
        f"{ACTORS} actors on {NODES} nodes{slow} with a partial sum of {size / MB:.1f} MB each; reduction and server "
        f"step, medians of {len(next(iter(found.values())))} rounds in turns, the same bits each way.",
        "",
        "| | seconds | fastest to slowest | MB within nodes | MB between nodes | MB over the loopback device |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        seconds, wire, within, across = zip(*runs, strict=True)
        lines.append(
            f"| {name} | {median(seconds):.3f} | {min(seconds):.3f} to {max(seconds):.3f} | {median(within) / MB:.1f} "
            f"| {median(across) / MB:.1f} | {median(wire) / MB:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
