"""Run by a test in a process of its own: a cluster of two nodes with two fake GPUs each on this machine."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
from federations import digits, final_sha256

from raysim.cluster.runtime import Runtime, import_ray
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError
from raysim.execution import place


def slots(nodes: list, gpus: float) -> list[int]:
    """Actors of so many GPUs on each node."""
    placement = place(nodes, ExecutionConfig(num_gpus=gpus, num_cpus=0.1), population=1000, cohort=1000, actor_bytes=0)
    return sorted(Counter(placement.nodes).values())


def main(folder: Path) -> None:
    """Check placement arithmetic against real nodes, then train over both of them."""
    import_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 100 * 1024 * 1024}
    cluster = Cluster(initialize_head=True, connect=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        nodes = Runtime.start(ExecutionConfig()).nodes()
        assert slots(nodes, 0.25) == [8, 8]
        assert slots(nodes, 0.3) == [6, 6]
        assert slots(nodes, 2) == [1, 1]
        with pytest.raises(PlacementError, match="above 1 it must be a whole number"):
            slots(nodes, 1.5)
        expected = final_sha256(digits(folder, "rounds=2", "cohort=1.0"))
        spread = ["execution.executor=ray", "execution.actors=4", "execution.num_gpus=0.5", "execution.device=cpu"]
        found = final_sha256(digits(folder, "rounds=2", "cohort=1.0", "aggregation.fan_in=2", *spread))
        assert found == expected, "two nodes give other bits than one process"
        print("as expected")
    finally:
        import ray

        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
