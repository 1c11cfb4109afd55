"""Memory that really runs out, run by `test_scarce_memory.py`: prints a JSON line for each run.

Ray of its own: its memory monitor steps in soon, and its object store has nowhere to spill.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from federations import digits, sha256

from raysim import Experiment, Simulation
from raysim.cluster.runtime import import_ray
from raysim.errors import RunError
from raysim.execution.scheduling.round_costs import RoundCosts
from raysim.tracking.log import read_events

STORE = 80 * 2**20
SPARE = 2.5 * 2**30
"""Bytes above what is in use now at which Ray's monitor kills somebody."""

SPREAD = ["execution.executor=ray", "execution.actors=2"]
TOO_LARGE = ["model.hidden=[3000,3000]", "cohort=2", "client.steps=1", "rounds=1", "execution.max_retries=1"]
"""A model of 37 MB fits into the store; beside it, a partial sum of 74 MB does not."""

RoundCosts.small = lambda self, work, *, among_small=False: False


def memory() -> tuple[float, float]:
    """Bytes in use, and bytes in all."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    found = {name: 1024 * float(value) for name, value, *_ in lines}
    return found["MemTotal:"] - found["MemAvailable:"], found["MemTotal:"]


def run(name: str, experiment: Experiment) -> None:
    """Train, and print what came of it."""
    hashes, error = {}, None
    simulation = Simulation(experiment)
    try:
        with simulation:
            for committed in simulation:
                hashes[committed.number] = sha256(simulation.model())
    except RunError as failed:
        error = str(failed)
    faults = [event for event in read_events(simulation.directory / "log.jsonl") if event["event"] == "fault"]
    print(json.dumps({"name": name, "hashes": hashes, "faults": faults, "error": error}), flush=True)


@contextmanager
def ray_with(**system: Any) -> Iterator[None]:
    """A Ray of its own that is set up so."""
    ray = import_ray()
    quiet = {"include_dashboard": False, "log_to_driver": False}
    ray.init(address="local", num_cpus=2, object_store_memory=STORE, _system_config=system, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def main(folder: Path) -> None:
    """A hog, then sums that no store can hold."""
    os.chdir(Path(__file__).parent)
    marks = folder / "marks"
    marks.mkdir()
    hog = {"name": "trouble:Trouble", "args": {"folder": str(marks), "faults": [{"what": "allocate", "round": 2}]}}
    run("peace", digits(folder))
    in_use, in_all = memory()
    with ray_with(memory_usage_threshold=(in_use + SPARE) / in_all, memory_monitor_refresh_ms=100):
        run("hog", digits(folder, *SPREAD).updated([f"algorithm={hog}"]))
    # To Ray, a disk of which more than this is in use is full: there is nowhere to spill.
    with ray_with(local_fs_capacity_threshold=1e-6, object_store_full_delay_ms=10, memory_monitor_refresh_ms=0):
        run("full store", digits(folder, *SPREAD, *TOO_LARGE))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
