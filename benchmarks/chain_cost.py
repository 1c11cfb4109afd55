"""What a run's chain costs (`tracking.chain`): rounds of two runs in turns, one that writes it and one that does not.

    python benchmarks/chain_cost.py                  # workloads A, B and C of speed.py, in this process
    python benchmarks/chain_cost.py B --blocks 100

Both runs are open at once and take turns, a block of rounds at a time. Processor time is that of this process with all
its threads; the figures are medians over the blocks, and medians of the differences between neighbouring blocks.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import raysim as side
from peers.side import Task
from peers.workloads import WORKLOADS, Federation, prepare

from raysim import Experiment, Simulation
from raysim.tracking.chain import LAG

WARMUP = 20


def main() -> None:
    """Print a line for each workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=["A", "B", "C"], help="of speed.py (%(default)s)")
    parser.add_argument("--engine", default="compiled", help="%(default)s")
    parser.add_argument("--blocks", type=int, default=40, help="blocks of each run (%(default)s)")
    parser.add_argument("--rounds", type=int, default=LAG + 1, help="of a block (%(default)s)")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "raysim-bench")
    given = parser.parse_args()
    print("| workload | CPU ms a round, with | without | more | wall ms, with | without | more |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in given.workloads:
        print(f"| {name} | " + " | ".join(compare(name, given)) + " |", flush=True)


def compare(name: str, given: argparse.Namespace) -> list[str]:
    """Medians over the blocks of a workload's two runs, and the medians of their differences."""
    workload = WORKLOADS[name]
    folder, _ = prepare(workload, given.cache)
    task = Task(workload, str(folder), WARMUP + given.blocks * given.rounds, 1, f"{given.engine}-inprocess", 1)
    federation = Federation.load(folder)
    data: dict[str, Any] = {
        "x": federation.x,
        "y": federation.y,
        "client": np.repeat(np.arange(workload.clients), np.diff(federation.bounds)),
    }
    with tempfile.TemporaryDirectory() as runs:
        both = [Simulation(setting(task, runs, chain), data=data) for chain in (True, False)]
        iterators = [iter(one) for one in both]
        found: list[list[tuple[float, float]]] = [[], []]
        for one in iterators:
            list(itertools.islice(one, WARMUP))
        for block in range(given.blocks):
            for which in (0, 1) if block % 2 else (1, 0):
                cpu, wall = time.process_time(), time.perf_counter()
                list(itertools.islice(iterators[which], given.rounds))
                found[which].append((time.process_time() - cpu, time.perf_counter() - wall))
        for one in both:
            one.close()
    cells = []
    for kind in (0, 1):
        on, off = ([1e3 * block[kind] / given.rounds for block in of] for of in found)
        more = statistics.median(a - b for a, b in zip(on, off, strict=True))
        without = statistics.median(off)
        cells += [f"{statistics.median(on):.3f}", f"{without:.3f}", f"{more:+.3f} ({100 * more / without:+.1f} %)"]
    return cells


def setting(task: Task, folder: str, chain: bool) -> Experiment:
    """The experiment of a run."""
    values = side.setting(task, folder)
    return Experiment.parse({**values, "tracking": {**values["tracking"], "chain": chain}})


if __name__ == "__main__":
    main()
