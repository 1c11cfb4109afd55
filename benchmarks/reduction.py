"""Partial sums on their way to the server: reduced node by node first, beside all of them sent to the aggregator.

    python benchmarks/reduction.py         # 3 nodes on this machine, 8 actors, sums of 25 MB; about a minute

The nodes are those of `ray.cluster_utils.Cluster`: processes and object stores of their own, linked by this machine's
loopback device. What crosses it is counted by the kernel, beside what raysim counts for the columns
`transport_up_within` and `transport_up_across` of `rounds.parquet`. Both ways are raysim's own: flat is a tree whose
reducers have nothing to do. Writes `benchmarks/results/reduction.md`.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from raysim import Experiment
from raysim.aggregation import PartialSum
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
FEATURES, HIDDEN = 1000, 3_080
ROUNDS = 9
MB = 1e6
WAYS = {"node by node, then across (raysim)": False, "flat: all to the aggregator": True}
"""How sums go to the aggregator, and whether all of them go there from where they are."""


class Flat(ReductionTree):
    """No hop before the aggregator."""

    def reduce(self, sums: Any) -> Reduction:
        return Reduction(tuple(sums), ())


class Maker:
    """In the place of a client actor: hands over a sum of its own in every round."""

    def __init__(self, columns: int, position: int) -> None:
        self._values = np.random.default_rng(position).integers(-(2**40), 2**40, columns)
        self._position = position

    def make(self, round_number: int) -> PartialSum:
        """A partial sum of one client."""
        one = np.array([self._position], dtype=np.int32)
        return PartialSum(round_number, one, (1 << 52) // ACTORS, {"update": self._values + round_number})


def main() -> None:
    """Measure on nodes of its own, and write the table."""
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
        RESULTS.write_text(measure(ray))
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(RESULTS.read_text())


def measure(ray: Any) -> str:
    """Both ways in turns."""
    experiment = Experiment.parse(
        {
            "cohort": 2,
            "data": {"source": {"name": "synthetic_virtual", "clients": 2, "samples": 10, "dimensions": FEATURES}},
            "model": {"name": "mlp", "hidden": [HIDDEN]},
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
    trees = {False: ReductionTree(runtime, places, fan_in=8), True: Flat(runtime, [], fan_in=8)}
    book, deadlines = FaultBook(experiment.execution), Deadlines(experiment.execution.faults)
    found: dict[str, list[tuple[float, float, int, int]]] = {way: [] for way in WAYS}
    for round_number in range(1, ROUNDS + 2):
        models = []
        for way, flat in WAYS.items():
            steps = ServerSteps(runtime, aggregator, trees[flat], deadlines, book, prepared.columns)
            made = [maker.make.remote(round_number) for maker in makers]
            ray.wait(made, num_returns=len(made), fetch_local=False)
            sums = [NodeSum(one, place) for one, place in zip(made, places, strict=True)]
            before, began = loopback(), time.perf_counter()
            step = steps.ask(round_number, np.arange(ACTORS, dtype=np.int32), server, sums)
            _, traffic = steps.wait(step)
            took = time.perf_counter() - began
            if round_number > 1:  # the first is for the actors to find their memory
                found[way].append((took, loopback() - before, traffic.within, traffic.across))
            models.append(sha256(ray.get(step.server.model)).digest())
            del made, sums, step
        assert len(set(models)) == 1, "other bits"
    return table(found, 8 * prepared.columns)


def loopback() -> int:
    """Bytes that the loopback device has received."""
    line = next(one for one in Path("/proc/net/dev").read_text().splitlines() if one.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])


def table(found: dict[str, list[tuple[float, float, int, int]]], size: int) -> str:
    """Medians, and the spread of the times."""
    lines = [
        f"{ACTORS} actors on {NODES} nodes with a partial sum of {size / MB:.1f} MB each; reduction and server "
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
