"""Run by a test in a process of its own: nodes that join and leave a run on this machine, by Ray's own means."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
from federations import digits, final_sha256, sha256
from warm_workers import warm_workers

from raysim import Simulation
from raysim.cluster import RayExecutor
from raysim.cluster.runtime import import_ray
from raysim.errors import RunError

ROUNDS = 100_000
"""More than are run: a part ends when it has seen what it waits for."""
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""A node that is gone is noticed after some two seconds."""
STORE = {"object_store_memory": 100 * 1024 * 1024}


@contextmanager
def cluster(cpus: int) -> Iterator[Any]:
    """A head node with so many cores."""
    os.environ.update(QUICK)
    import_ray()
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cpus, "include_dashboard": False, **STORE}
    made = Cluster(initialize_head=True, connect=True, head_node_args=head)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def seats(simulation: Simulation) -> list[str]:
    """The node of every actor that is up."""
    executor = simulation._executor
    assert isinstance(executor, RayExecutor)
    return [executor._roster.node(worker) for worker in sorted(executor._pool._up())]


def until(simulation: Simulation, seen: Any, patience: float = 150.0) -> None:
    """Go on with the rounds until something is seen."""
    deadline = time.monotonic() + patience
    for _ in simulation:
        if seen():
            return
        assert time.monotonic() < deadline, f"not seen in time; actors on {seats(simulation)}"
        time.sleep(0.05)
    raise AssertionError("all rounds are done")


def expected(folder: Path, rounds: int) -> str:
    """The model after so many rounds in process."""
    return final_sha256(digits(folder, f"rounds={rounds}", "cohort=1.0"))


def notes(simulation: Simulation) -> str:
    """All that was noted in the run's log."""
    lines = (simulation.directory / "log.jsonl").read_text().splitlines()
    return "\n".join(str(json.loads(line)) for line in lines)


def experiment(folder: Path, *overrides: str) -> Any:
    on_ray = ["execution.executor=ray", "execution.rounds_ahead=0", "tracking.checkpoint_every=0"]
    return digits(folder, f"rounds={ROUNDS}", "cohort=1.0", *on_ray, *overrides)


def nodes_come_and_go(folder: Path) -> None:
    """A node joins, is used, and is lost with all that it holds; then one joins that would compute differently."""
    with cluster(cpus=1) as made, Simulation(experiment(folder)) as simulation:
        home = seats(simulation)
        assert len(home) == 1
        node = made.add_node(num_cpus=2, **STORE)
        until(simulation, lambda: len(seats(simulation)) == 3)
        assert sorted(seats(simulation).count(one) for one in set(seats(simulation))) == [1, 2]
        until(simulation, lambda: True)  # a round with all of them
        made.remove_node(node)
        until(simulation, lambda: seats(simulation) == home and "is gone" in notes(simulation))
        simulation._executor._roster.expect(other_bits(simulation))
        made.add_node(num_cpus=1, **STORE)
        until(simulation, lambda: "is left out: it has cpu_capability" in notes(simulation))
        assert seats(simulation) == home
        assert sha256(simulation.model()) == expected(folder, simulation.number), "nodes that come and go change bits"
        assert "has joined; 2 actors are started there" in notes(simulation)
        gone = re.search(r"is gone, and (\d) of the actors with it", notes(simulation))
        given_up = notes(simulation).count("it gets no more work")  # those that Ray told of before it told of the node
        assert gone is not None
        assert int(gone[1]) + given_up == 2


def other_bits(simulation: Simulation) -> dict[str, Any]:
    """What the run would be if it had begun on another kind of processor."""
    bits = dict(simulation._executor._roster._bits)
    return {**bits, "cpu_capability": "another"}


def a_run_that_lost_all_its_actors_waits(folder: Path) -> None:
    """Clients with actors of their own, all of them on a node that is lost: for one that comes, then in vain."""
    own = ["execution.clients_per_actor=3", "execution.num_cpus=1"]
    with cluster(cpus=0) as made:
        node = made.add_node(num_cpus=2, **STORE)
        made.wait_for_nodes()
        with Simulation(experiment(folder, *own, "execution.wait_for_nodes=120")) as simulation:
            until(simulation, lambda: len(seats(simulation)) == 2)
            made.remove_node(node)
            second = made.add_node(num_cpus=2, **STORE)
            until(simulation, lambda: len(set(seats(simulation))) == 1 and "has joined; 2" in notes(simulation))
            assert len(seats(simulation)) == 2
            assert sha256(simulation.model()) == expected(folder, simulation.number)
            simulation._executor._pool.actors._wait_for_nodes = 1.0
            made.remove_node(second)
            with pytest.raises(RunError, match=r"every client actor is lost, and no node .* came within 1 s"):
                until(simulation, lambda: False)


def main(folder: Path) -> None:
    """Both parts."""
    nodes_come_and_go(folder)
    a_run_that_lost_all_its_actors_waits(folder)
    print("as expected")


if __name__ == "__main__":
    with warm_workers():
        main(Path(sys.argv[1]))
