"""Memory of a frozen base: private copies of each actor, or one file that all of a node map.

    python benchmarks/frozen_base.py                 # 200 MiB in process, and on 1 and 2 actors
    python benchmarks/frozen_base.py --mib 400 --actors 1 2 4

Each run trains three rounds of a module with a frozen base that its caller hands over, once as it is and once without
the base. Measured is the memory that a process has for itself (`Anonymous` of `smaps_rollup`; the pages of a mapped
file are not among it, unless the process wrote to them), of the process or actor with the most; the difference of the
two runs is what the base takes. Beside it is what `plan` counts. Needs Linux. Writes
`benchmarks/results/frozen_base.md`.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
from torch import Tensor, nn

from raysim import Experiment, Simulation

RESULTS = Path(__file__).parent / "results" / "frozen_base.md"
WIDTH = 1024
MIB = 1024 * 1024


class Adapted(nn.Module):
    """Frozen layers of 4 MiB each, and a head that is trained."""

    def __init__(self, mib: int) -> None:
        super().__init__()
        layers = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(mib // 4)]
        self.base = nn.Sequential(*layers).requires_grad_(False)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.base(x))
        return found


def main() -> None:
    """All runs, each in a process of its own, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--one", nargs=3, metavar=("MIB", "ACTORS", "WHERE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        mib, actors, where = given.one
        measure(int(mib), int(actors), where)
        return
    head = [f"Frozen base of {given.mib} MiB", "of it private to an actor", "mapped by an actor"]
    head += ["`plan`: of an actor", "`plan`: of a node"]
    lines = [f"| {' | '.join(head)} |"]
    lines.append("|---|---|---|---|---|")
    cases = [(0, "memory"), *((actors, where) for actors in given.actors for where in ("memory", "file"))]
    for actors, where in cases:
        if where == "memory":
            plain, _, before, _ = one(0, actors, where)
        private, mapped, planned, shared = one(given.mib, actors, where)
        name = (
            "in process, the caller's module included"
            if actors == 0
            else f"{actors} actor{'s' * (actors > 1)}, base in {where}"
        )
        figures = (private - plain, mapped, planned - before, shared)
        lines.append(f"| {name} | {' | '.join(f'{figure / MIB:.0f} MiB' for figure in figures)} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def one(mib: int, actors: int, where: str) -> list[int]:
    """Bytes of a run: private, mapped, planned of an actor, planned once a node."""
    command = [sys.executable, __file__, "--one", str(mib), str(actors), where]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(value) for value in done.stdout.split()[-4:]]


def measure(mib: int, actors: int, where: str) -> None:
    """One run; prints its four figures."""
    from raysim.execution.placement import memory
    from raysim.execution.preparation.prepare import prepare_job

    if where == "memory" and hasattr(memory, "MAPPED_FROM"):
        memory.MAPPED_FROM = 1 << 60
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((100, WIDTH)).astype(np.float32), "y": rng.integers(0, 3, 100)}
    data |= {"x_test": data["x"][:20], "y_test": data["y"][:20]}
    module = Adapted(mib)
    with tempfile.TemporaryDirectory() as folder:
        execution: dict[str, Any] = {"executor": "ray", "actors": actors, "num_cpus": 0.5, "rounds_ahead": 0}
        experiment = Experiment.parse(
            {
                "rounds": 3,
                "cohort": 4,
                "data": {"partition": {"name": "iid", "clients": 8}, "cache": f"{folder}/cache"},
                "client": {"batch_size": 10},
                "training": {"engine": "sequential"},
                "execution": execution if actors else {"executor": "inprocess"},
                "tracking": {"report": False, "directory": f"{folder}/run"},
            }
        )
        planned = memory.actor_memory(prepare_job(experiment, model=module, data=data).job)
        with Simulation(experiment, model=module, data=data) as simulation:
            rounds = iter(simulation)
            for _ in range(3):
                next(rounds)
            gc.collect()
            private = [smaps(process)[0] for process in processes(actors)]
            mapped = [smaps(process)[1] for process in processes(actors)]
            print(max(private), max(mapped), planned.total, getattr(planned, "base", 0), flush=True)


def processes(actors: int) -> list[Path]:
    """Of the client actors; without any, this one."""
    if not actors:
        return [Path("/proc/self")]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ClientActor" in (process / "cmdline").read_bytes() and owned(process):
                found.append(process)
        except OSError:
            continue
    assert len(found) == actors, f"found {len(found)} actors, not {actors}; is another run on this machine?"
    return found


def owned(process: Path) -> bool:
    """Whether a process descends from this one."""
    number = process.name
    while number not in ("0", "1", str(os.getpid())):
        number = re.findall(r"^PPid:\s+(\d+)$", Path(f"/proc/{number}/status").read_text(), re.MULTILINE)[0]
    return number == str(os.getpid())


def smaps(process: Path) -> tuple[int, int]:
    """Bytes that this process has for itself, and bytes of a base that it maps."""
    totals = (process / "smaps_rollup").read_text()
    (private,) = re.findall(r"^Anonymous:\s+(\d+)", totals, re.MULTILINE)
    maps = re.findall(r"base\.safetensors\nSize:\s+(\d+)", (process / "smaps").read_text())
    return 1024 * int(private), 1024 * sum(int(kib) for kib in maps)


if __name__ == "__main__":
    main()
