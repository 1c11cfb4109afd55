"""How far one machine goes: a round of 10,000 clients of 1,000,000, 64 actors of a client each, clients that keep much.

    python benchmarks/scale.py                 # all; about ten minutes on two cores
    python benchmarks/scale.py cohort          # one of them
    python benchmarks/scale.py actors

Each case runs in processes of its own, which are watched through /proc while it runs: private memory is what a process
holds that no other has; the object store is shared. Writes `benchmarks/results/scale.md`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from peers.processes import MARK, cpu_seconds, marked, memory, new_mark

RESULTS = Path(__file__).parent / "results" / "scale.md"
MIB = 1024 * 1024

VIRTUAL = {"name": "synthetic_virtual", "samples": 60}
CASES: dict[str, dict[str, Any]] = {
    "cohort": {
        "rounds": 4,
        "cohort": 10_000,
        "data": {"source": {**VIRTUAL, "clients": 1_000_000}},
        "execution": {"rounds_ahead": 0},
    },
    "actors": {
        "rounds": 20,
        "cohort": 64,
        "data": {"source": {**VIRTUAL, "clients": 64}},
        "training": {"engine": "sequential"},
        "execution": {"clients_per_actor": 1},
    },
    "large-state": {
        "rounds": 3,
        "cohort": 1000,
        "data": {"source": {**VIRTUAL, "clients": 1000}},
        "model": {"name": "mlp", "hidden": [1265, 1265]},
        "client": {"batch_size": 10, "steps": 2},
        "algorithm": "scaffold",
        "training": {"engine": "sequential"},
    },
    "small-state": {
        "rounds": 50,
        "cohort": 5000,
        "data": {"source": {**VIRTUAL, "clients": 5000}},
        "client": {"batch_size": 10},
        "algorithm": "scaffold",
        "training": {"engine": "rows", "compile": False},
    },
}
SENTENCES = {
    "cohort": "10,000 clients a round of 1,000,000, on as many actors as the machine has cores",
    "actors": "64 clients, each in an actor of its own (`clients_per_actor: 1`), all of them in every round",
    "large-state": (
        "1,000 clients that keep SCAFFOLD's control variates of 1.7 million parameters each, 6.8 GB in all; "
        "all of them in each of 3 rounds"
    ),
    "small-state": (
        "5,000 clients that keep those of a softmax model of 610 parameters; all of them in each of 50 rounds"
    ),
}
ROLES = {
    "ray::ClientActor": "client actor",
    "ray::Aggregator": "aggregator",
    "ray::StateKeeper": "keeper of what clients keep",
    "ray::IDLE": "starting, or idle",
    "default_worker.py": "starting, or idle",
    "raylet/raylet": "Ray itself",
    "gcs_server": "Ray itself",
    "ray/": "Ray itself",
    "ray::": "Ray itself",
}


@dataclass
class Watch:
    """Peaks of memory while a case runs, by what the processes are.

    Attributes:
        private: largest private memory of any process of a role, in bytes.
        summed: largest private memory of all of them together.
        count: of processes.
        shared: largest shared memory of any process: the object store.
        start_cpu: processor time of all processes until the first round began.
    """

    mark: str
    driver: int
    started: Path
    private: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    summed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    count: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shared: int = 0
    start_cpu: float = 0.0

    def look(self) -> None:
        """Take what the processes hold now."""
        held: dict[str, list[int]] = defaultdict(list)
        pids = marked(self.mark)
        for pid in pids:
            private, shared = memory([pid])
            if private:
                held[self._role(pid)].append(private)
                self.shared = max(self.shared, shared)
        for role, each in held.items():
            self.private[role] = max(self.private[role], *each)
            self.summed[role] = max(self.summed[role], sum(each))
            self.count[role] = max(self.count[role], len(each))
        if not self.started.exists():
            self.start_cpu = max(self.start_cpu, cpu_seconds(pids))

    def _role(self, pid: int) -> str:
        if pid == self.driver:
            return "driver"
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return "Ray itself"
        return next((role for part, role in ROLES.items() if part in command), "Ray itself")


def main() -> None:
    """Run the cases that were asked for, and write their tables."""
    lines = []
    for name in sys.argv[1:] or CASES:
        values, watch = run(name)
        lines += [f"**{SENTENCES[name]}**", "", *table(values, watch), ""]
    RESULTS.write_text("\n".join(lines))
    print(RESULTS.read_text())


def run(name: str) -> tuple[dict[str, Any], Watch]:
    """One case in a process of its own, watched until it ends."""
    mark = new_mark()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, __file__, "--case", name, folder],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: mark},
        )
        watch, done = Watch(mark, process.pid, Path(folder) / "started"), threading.Event()

        def keep_looking() -> None:
            while not done.wait(0.5):
                watch.look()

        thread = threading.Thread(target=keep_looking)
        thread.start()
        out, _ = process.communicate()
        done.set()
        thread.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    values: dict[str, Any] = json.loads(out.splitlines()[-1])
    return values, watch


def case(name: str, folder: str) -> dict[str, Any]:
    """Train the case's rounds, and say how long each part took."""
    began = time.perf_counter()
    from raysim import Experiment, Simulation

    values = dict(CASES[name])
    values["data"] = {**values["data"], "cache": f"{folder}/cache"}
    experiment = Experiment.parse(
        {**values, "name": name, "tracking": {"directory": f"{folder}/runs", "report": False, "checkpoint_every": 0}}
    )
    with Simulation(experiment) as simulation:
        start = time.perf_counter() - began
        Path(folder, "started").touch()
        rows = [committed.row for committed in simulation]
        workers, engine = simulation._executor.workers, simulation.experiment.training
    return {
        "start": start,
        "workers": workers,
        "engine": f"{engine.engine}{f' of {engine.rows}' if engine.rows else ''}",
        "seconds": [row.seconds["total"] for row in rows],
        "train": [row.seconds["train"] for row in rows],
        "transport_up": rows[-1].transport_up,
        "transport_down": rows[-1].transport_down,
    }


def table(values: dict[str, Any], watch: Watch) -> list[str]:
    """The case's times, then its memory by role."""
    seconds, train = values["seconds"], values["train"]
    later, trained = median(seconds[1:]), median(train[1:])
    lines = [
        "| start-up | its processor time | first round | a later round (median) | of that training | actors | engine |",
        "|---|---|---|---|---|---|---|",
        f"| {values['start']:.1f} s | {watch.start_cpu:.0f} s | {seconds[0]:.2f} s | {later:.3f} s | {trained:.3f} s "
        f"| {values['workers']} | {values['engine']} |",
        "",
        "| processes | how many | peak private memory of the largest | of all together |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {role} | {watch.count[role]} | {watch.private[role] / MIB:.0f} MiB | {watch.summed[role] / MIB:.0f} MiB |"
        for role in (
            "driver",
            "aggregator",
            "client actor",
            "keeper of what clients keep",
            "Ray itself",
            "starting, or idle",
        )
        if watch.count[role]
    ]
    lines.append(f"| object store, as far as any process touched it | | | {watch.shared / MIB:.0f} MiB |")
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print("\n" + json.dumps(case(sys.argv[2], sys.argv[3])))
    else:
        main()
