"""What the driver, the reducers and the aggregator pay for each client, lease and byte: to reckon with large clusters.

    python benchmarks/constants.py             # about a minute

Processor seconds of one thread, which other work on the machine hardly changes; medians. The calls are those of real
Ray actors that do nothing. Writes `benchmarks/results/constants.md`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from raysim import Experiment
from raysim.aggregation import Buffers, PartialSum, combine
from raysim.execution.preparation.prepare import prepare_job
from raysim.execution.scheduling.assignment import EligibleWorkers, assign
from raysim.execution.server.server import Server
from raysim.rounds.facts import cohort_facts
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.results import Trained
from raysim.rounds.rows import PARTS, client_batch
from raysim.rounds.task import RoundTask
from raysim.selection.cohort import draw_round

RESULTS = Path(__file__).parent / "results" / "constants.md"
POPULATION, COHORT, ACTORS, LEASES = 1_000_000, 100_000, 400, 2_000
COLUMNS_MLP = {"dimensions": 1000, "hidden": 3080}
CALLS = 2_000


def main() -> None:
    """Measure everything, and write the table."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    rows = [*driver(), *server(), *calls()]
    lines = ["| what | processor time |", "|---|---|", *(f"| {what} | {cost} |" for what, cost in rows)]
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


def spent(work: Callable[[], Any], repeats: int = 5) -> float:
    """Median processor seconds of this thread."""
    found = []
    for _ in range(repeats):
        began = time.thread_time()
        work()
        found.append(time.thread_time() - began)
    return median(found)


def driver() -> list[tuple[str, str]]:
    """Drawing, giving out and putting together a large cohort."""
    virtual = {"name": "synthetic_virtual", "clients": POPULATION, "samples": 60}
    prepared = prepare_job(
        Experiment.parse({"cohort": COHORT, "data": {"source": virtual}, "training": {"engine": "sequential"}})
    )
    experiment, federation = prepared.experiment, prepared.federation
    draw = spent(lambda: draw_round(experiment, federation, prepared.work, 1))
    task = draw_round(experiment, federation, prepared.work, 1)
    cost, group = 1e-3 * task.steps * np.random.default_rng(0).uniform(0.9, 1.1, COHORT), np.zeros(COHORT, np.int64)
    same = {0: EligibleWorkers(tuple(range(ACTORS)), np.ones(ACTORS))}
    unlike = {0: EligibleWorkers(tuple(range(ACTORS)), np.repeat(np.linspace(0.8, 1.2, 100), ACTORS // 100))}
    pieces = np.array_split(np.arange(COHORT), LEASES)
    leases = [Lease.of(task, piece) for piece in pieces]
    trained = Trained((), tuple(_report(task, lease) for lease in leases), ACTORS, 1.0, LEASES)
    return [
        (f"draw a cohort of {COHORT:,} of {POPULATION:,}", ms(draw)),
        (f"spread it over {ACTORS} equal actors", ms(spent(lambda: assign(cost, group, same), 3))),
        (
            f"spread it over {ACTORS} actors of 100 nodes that differ in speed",
            ms(spent(lambda: assign(cost, group, unlike), 3)),
        ),
        (f"make its {LEASES:,} leases", ms(spent(lambda: [Lease.of(task, piece) for piece in pieces], 3))),
        (f"put the facts of {LEASES:,} leases together", ms(spent(lambda: cohort_facts(task, trained), 3))),
    ]


def _report(task: RoundTask, lease: Lease) -> LeaseReport:
    count = len(lease.clients)
    facts = client_batch(
        round=1,
        client=lease.clients,
        samples=np.full(count, 60),
        steps=task.steps[lease.positions],
        weight=lease.weights,
        loss=np.ones(count),
        seconds=np.ones(count),
        worker=np.zeros(count),
    )
    return LeaseReport(facts, lease.positions, 0, dict.fromkeys(("broadcast", "train", *PARTS), 0.0), 0)


def server() -> list[tuple[str, str]]:
    """Adding up sums of 25 MB, in a reducer and in the server's step."""
    data = {"source": {"name": "synthetic_virtual", "clients": 2, "samples": 10, "dimensions": 1000}}
    prepared = prepare_job(
        Experiment.parse(
            {
                "cohort": 2,
                "data": data,
                "model": {"name": "mlp", "hidden": [3080]},
                "training": {"engine": "sequential"},
            }
        )
    )
    random = np.random.default_rng(0)
    sums = [
        PartialSum(
            1,
            np.array([i], dtype=np.int32),
            (1 << 52) // 8,
            {"update": random.integers(-(2**40), 2**40, prepared.columns)},
        )
        for i in range(8)
    ]
    mb = 8 * prepared.columns / 1e6
    buffers = Buffers()
    combine(sums, buffers)
    added = spent(lambda: combine(sums, buffers))
    one = Server(prepared.job)
    state, model = one.first()

    def apply(count: int) -> float:
        part = [PartialSum(1, s.positions, (1 << 52) // count, s.totals) for s in sums[:count]]
        return spent(lambda: one.apply(1, np.arange(count, dtype=np.int32), state, model, *part))

    few, many = apply(1), apply(8)
    return [
        ("add up sums in a reducer, each MB read", f"{1e3 * added / (8 * mb):.2f} ms"),
        ("the server's step, each MB of the model's one sum", f"{1e3 * few / mb:.2f} ms"),
        ("each further MB of sums in it", f"{1e3 * (many - few) / (7 * mb):.2f} ms"),
    ]


def calls() -> list[tuple[str, str]]:
    """Calls to actors, as the pool makes them: with as many out as there are actors."""
    from raysim.cluster.runtime import import_ray

    ray: Any = import_ray()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)

    class Idle:
        def train(self, lease: Any, model: Any) -> tuple[bytes, bytes]:
            """What a lease of 50 clients sends back, but for the sum."""
            return b"", bytes(3000)

    try:
        actors = [ray.remote(Idle).options(num_cpus=0).remote() for _ in range(4)]
        lease = Lease(1, 0, 0.1, *(np.arange(50) for _ in range(2)), np.ones(50), *(np.arange(50) for _ in range(3)))
        model = ray.put(np.zeros(100_000, np.float32))

        def one_round() -> None:
            out: dict[Any, Any] = {}
            for i in range(CALLS):
                if len(out) == ACTORS:
                    ready, _ = ray.wait(list(out), num_returns=1)
                    ray.get(ready[0])
                    del out[ready[0]]
                total, report = actors[i % 4].train.options(num_returns=2).remote(lease, model)
                out[report] = total
            ray.get(list(out))

        one_round()
        began = time.process_time()
        one_round()
        each = (time.process_time() - began) / CALLS
        idle = ray.wait([ray.put(0)], timeout=0)
        del idle
        began = time.perf_counter()
        for _ in range(50):
            ray.nodes()
        nodes = (time.perf_counter() - began) / 50
    finally:
        ray.shutdown()
    return [
        (f"a lease's call and its answer, with {ACTORS} out, all threads of the driver", f"{1e3 * each:.2f} ms"),
        ("ask Ray for its nodes (by the clock; once a second at most)", f"{1e3 * nodes:.2f} ms"),
    ]


def ms(seconds: float) -> str:
    """Milliseconds."""
    return f"{1e3 * seconds:.0f} ms"


if __name__ == "__main__":
    main()
