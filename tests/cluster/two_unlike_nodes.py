"""Run by a test in a process of its own: `raysim doctor` on two nodes, of which one is not as it should be.

The second one finds another version of NumPy than is there, and gives away a GPU that torch does not see.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from typer.testing import CliRunner

from raysim.cli import app
from raysim.cluster.runtime import import_ray

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def with_other_numpy(folder: Path) -> str:
    """A folder for PYTHONPATH in which NumPy's metadata say another version."""
    metadata = folder / "numpy-0.0.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    return str(folder)


def main(folder: Path) -> None:
    """Ask the doctor before and after the odd node joins."""
    import_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        found = {"alike": doctor(cluster.address)}
        cluster.add_node(**NODE, num_gpus=1, env_vars={"PYTHONPATH": with_other_numpy(folder / "numpy")})
        cluster.wait_for_nodes()
        found["unlike"] = doctor(cluster.address)
        print(json.dumps(found))
    finally:
        cluster.shutdown()


def doctor(address: str) -> tuple[int, list[str]]:
    """Exit code and lines."""
    result = CliRunner().invoke(app, ["doctor", "--address", address])
    return result.exit_code, [" ".join(line.split()) for line in result.stdout.splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
