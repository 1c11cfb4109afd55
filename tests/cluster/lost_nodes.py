"""Faults that need two nodes, run by `test_lost_nodes.py`: prints a JSON line for each run."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from federations import digits, sha256
from trouble import PatchySpec
from warm_workers import warm_workers

from raysim import Simulation, opening
from raysim.cluster.runtime import import_ray
from raysim.cluster.steps import ServerSteps
from raysim.execution.scheduling.round_costs import RoundCosts
from raysim.tracking.log import read_events

QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""A node that is gone is noticed after some two seconds."""

LARGE = ["model.hidden=[400]", "cohort=1.0"]
"""Partial sums of more than 200 KB, whose halves, too, live in the object store of the node where they were made."""

RoundCosts.small = lambda self, work, *, among_small=False: False


def run(name: str, folder: Path, *overrides: str, at: dict[int, Callable[[Simulation], None]] | None = None) -> None:
    """Train, and do something at the server's step of some rounds, once all clients are done."""
    ask, running = ServerSteps.ask, []

    def ask_after(self: ServerSteps, round_number: int, *arguments: Any) -> Any:
        action = (at or {}).pop(round_number, None)
        if action is not None:
            action(running[0])
        return ask(self, round_number, *arguments)

    ServerSteps.ask = ask_after
    hashes, rows = {}, {}
    try:
        with Simulation(digits(folder, *LARGE, *overrides)) as running_simulation:
            running.append(running_simulation)
            for committed in running_simulation:
                row = committed.row
                hashes[row.round] = sha256(running_simulation.model())
                rows[row.round] = {"lost": row.lost, "retries": row.retries, "metrics": dict(row.metrics)}
    finally:
        ServerSteps.ask = ask
    log = [event for event in read_events(running_simulation.directory / "log.jsonl") if event["event"] == "fault"]
    print(json.dumps({"name": name, "hashes": hashes, "rows": rows, "log": log}), flush=True)


def patchy(node: str, clients: tuple[int, ...]) -> None:
    """From now on this node cannot read these clients' shards, or has no store at all."""
    executor = opening._executor
    opening._executor = lambda job: executor(replace(job, federation=PatchySpec(job.federation, node, clients)))


def stop_and_kill_a_reducer(simulation: Simulation) -> None:
    """It hangs when its call comes, and dies with the call in hand."""
    import ray

    (reducer,) = simulation._executor._tree._reducers.values()
    pid = ray.get(reducer.__ray_call__.remote(lambda self: os.getpid()))
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (pid, signal.SIGKILL)).start()


def main(folder: Path) -> None:
    """All runs on one cluster; the last one loses a node."""
    os.chdir(Path(__file__).parent)  # where actors find the algorithm, too
    os.environ |= QUICK
    import_ray()
    import ray
    from ray.cluster_utils import Cluster

    spread, executor = ["execution.executor=ray", "execution.actors=4", "rounds=5"], opening._executor
    run("peace", folder / "peace", "rounds=5")
    node = {"num_cpus": 2, "object_store_memory": 80 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={**node, "include_dashboard": False})
    try:
        other = cluster.add_node(**node)
        cluster.wait_for_nodes()
        home = ray.get_runtime_context().get_node_id()
        (away,) = [one["NodeID"] for one in ray.nodes() if one["NodeID"] != home]
        for name, clients in (("no store", ()), ("no shards", (0, 1, 2, 3, 4, 5))):
            patchy(away, clients)
            run(name, folder / name, *spread, "execution.actors=2", "rounds=2")
            opening._executor = executor
        ballast = []

        def fill_the_store(running: Simulation) -> None:
            ballast.extend(ray.put(np.ones(10 * 2**17)) for _ in range(9))

        actions = {2: stop_and_kill_a_reducer, 3: fill_the_store, 4: lambda _: cluster.remove_node(other, False)}
        run("nodes", folder / "nodes", *spread, at=actions)
        spilled = Path(ray._private.worker._global_node.get_session_dir_path()).glob("ray_spilled_objects*/*")
        print(json.dumps({"name": "store", "spilled": len(list(spilled))}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    with warm_workers():
        main(Path(sys.argv[1]))
