"""Run by a test in a process of its own: a cluster of two nodes with two fake GPUs each on this machine."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pytest
from federations import digits, final_sha256, sha256
from warm_workers import warm_workers

from raysim import Simulation
from raysim.cluster import RayExecutor
from raysim.cluster.roster import Roster
from raysim.cluster.runtime import Runtime, import_ray
from raysim.cluster.states import NodeStates
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.execution.placement.placing import Seat, place
from raysim.execution.scheduling.schedule import CostModel
from raysim.execution.scheduling.speeds import Speeds

FAKE = ["execution.executor=ray", "execution.device=cpu", "execution.num_cpus=0.1"]


def slots(nodes: list, gpus: float) -> list[int]:
    """Actors of so many GPUs on each node."""
    placement = place(nodes, ExecutionConfig(num_gpus=gpus, num_cpus=0.1), population=1000, cohort=1000, actor_bytes=0)
    return sorted(Counter(placement.nodes).values())


class Told:
    """In the place of a client actor, without torch: says which GPUs Ray gave it."""

    def __init__(self, job: object, index: int, gpu_share: float) -> None:
        return

    def where(self) -> tuple[str, tuple[str, ...]]:
        """Its node and the ids of its GPUs."""
        import ray

        return ray.get_runtime_context().get_node_id(), tuple(ray.get_runtime_context().get_accelerator_ids()["GPU"])


def gpus_given(runtime: Runtime, nodes: list, execution: ExecutionConfig, census: object = None) -> Counter:
    """How many actors of each class Ray gives each GPU of each node, if they start as a run's do."""
    from raysim.execution.placement.demand import demands
    from raysim.execution.placement.placing import Placer

    wanted = demands(execution, population=1000, cohort=1000, census=census)
    placer = Placer(nodes, wanted, cohort=1000, actor_bytes=0)
    roster = Roster(runtime, None, placer, placer.place(nodes), dedicated=False)
    try:
        said = runtime.ray.get([roster.actor(worker).where.remote() for worker in roster.workers], timeout=400)
    finally:
        roster.close()
    return Counter((roster._seats[w].group, node, gpus) for w, (node, gpus) in zip(roster.workers, said, strict=True))


def check_gpus(runtime: Runtime, nodes: list) -> None:
    """What Ray really gives out is what was planned."""
    halves = gpus_given(runtime, nodes, ExecutionConfig(num_gpus=0.5, num_cpus=0.1))
    assert len(halves) == 4
    assert set(halves.values()) == {2}, "8 actors, 2 on each GPU"
    thirds = gpus_given(runtime, nodes, ExecutionConfig(num_gpus=0.3, num_cpus=0.1))
    assert len(thirds) == 4
    assert set(thirds.values()) == {3}, "12 actors, 3 on each GPU"
    large = {"clients": ["0-9"], "num_gpus": 1, "num_cpus": 0.1, "actors": 2}
    medium = {"clients": ["10-19"], "num_gpus": 0.6, "num_cpus": 0.1, "actors": 2}
    mixed = ExecutionConfig(num_gpus=0.1, num_cpus=0.1, classes={"large": large, "medium": medium})
    found = gpus_given(runtime, nodes, mixed, (np.array([980, 10, 10]), np.array([980, 10, 10])))
    by_class = [{key[1:]: n for key, n in found.items() if key[0] == group} for group in range(3)]
    assert list(by_class[1].values()) == [1, 1]
    assert list(by_class[2].values()) == [1, 1]
    assert list(by_class[0].values()) == [4, 4], "what the medium ones leave of their GPUs"
    assert by_class[0].keys() == by_class[2].keys()
    assert not by_class[1].keys() & by_class[2].keys()


def check_classes(folder: Path, expected: str) -> None:
    """The same bits with classes, each client trained by an actor of its class or a larger one."""
    large = "execution.classes={large: {clients: [0, 3], num_gpus: 1, num_cpus: 0.1, actors: 2}}"
    experiment = digits(folder, "rounds=2", "cohort=1.0", *FAKE, "execution.num_gpus=0.25", large)
    with Simulation(experiment) as simulation:
        executor = simulation._executor
        assert isinstance(executor, RayExecutor)
        group = {worker: executor._roster._seats[worker].group for worker in executor._roster.workers}
        assert Counter(group.values()) == {1: 2, 0: 4}
        for committed in simulation:
            who = zip(committed.clients["client"].to_pylist(), committed.clients["worker"].to_pylist(), strict=True)
            assert all(group[worker] == 1 for client, worker in who if client in (0, 3))
        assert sha256(simulation.model()) == expected, "classes give other bits"


def check_links(folder: Path) -> None:
    """The same bits over two nodes as in process; between them go one sum up and one model down a round.

    The model and a sum are large enough for the object store: smaller ones go with every call.
    """
    large = digits(folder, "rounds=2", "cohort=1.0", "model.hidden=[800]", "execution.rounds_ahead=0")
    expected = final_sha256(large)
    spread = [*FAKE, "execution.actors=4", "execution.num_gpus=0.5"]
    with Simulation(large.updated(spread)) as simulation:
        rows = [committed.row for committed in simulation]
        found, columns = sha256(simulation.model()), simulation._prepared.columns
    assert found == expected, "two nodes give other bits than one process"
    for row in rows:
        assert row.transport_up_within == row.transport_up, "each actor's sum is read where it was made"
        assert 8 * columns < row.transport_up_across < 8 * columns + 100
        assert row.transport_down_across == 4 * columns


def state_across(folder: Path, algorithm: str) -> list[int]:
    """Bytes of what clients keep that go between the nodes in each round of a full cohort.

    By turns each node seems to be 3 % slower than the other, whatever this machine measures.
    """
    rounds = count()

    def slowness(speeds: Speeds, seats: list[Seat]) -> np.ndarray:
        nodes, slow = sorted({seat.node for seat in seats}), next(rounds) % 2
        return np.array([1.03 if nodes.index(seat.node) == slow else 1.0 for seat in seats])

    clients = ["cohort=1.0", "data.partition.clients=20", "data.partition.min_size=2"]
    one = digits(folder, f"algorithm={algorithm}", "rounds=5", *clients)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CostModel, "observe", lambda *_: None)
        patch.setattr(Speeds, "slowness", slowness)
        with Simulation(one.updated([*FAKE, "execution.actors=4", "execution.num_gpus=0.5"])) as simulation:
            moved = [committed.row.transport_state_across for committed in simulation]
            found = sha256(simulation.model())
    assert found == final_sha256(one), f"{algorithm}: two nodes give other bits than one process"
    return moved


def check_states(folder: Path) -> None:
    """Clients go where their rows are, and so do evaluations of their own models."""
    moved = {algorithm: state_across(folder, algorithm) for algorithm in ("scaffold", "ditto")}
    with pytest.MonkeyPatch.context() as patch:  # as if nobody knew where they are
        patch.setattr(NodeStates, "locations", lambda *_: None)
        by_chance = state_across(folder, "scaffold")
    print(f"bytes of rows between nodes, by round: {moved}, and {by_chance} if nobody looks for them")
    assert sum(by_chance) > 0
    assert moved == {"scaffold": [0] * 5, "ditto": [0] * 5}


def main(folder: Path) -> None:
    """Check placement against what real nodes give out, then train over both of them."""
    import_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 100 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        runtime = Runtime.start(ExecutionConfig(device="cpu"))
        nodes = runtime.nodes()
        assert slots(nodes, 0.25) == [8, 8]
        assert slots(nodes, 0.3) == [6, 6]
        assert slots(nodes, 2) == [1, 1]
        with pytest.raises(PlacementError, match="above 1 it must be a whole number"):
            slots(nodes, 1.5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("raysim.cluster.roster.ClientActor", Told)
            check_gpus(runtime, nodes)
        expected = final_sha256(digits(folder, "rounds=2", "cohort=1.0"))
        check_links(folder)
        check_classes(folder, expected)
        check_states(folder)
        print("as expected")
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    with warm_workers():
        main(Path(sys.argv[1]))
