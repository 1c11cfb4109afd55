"""Fifty rounds in which a random client actor is killed every few seconds, beside the same rounds in peace.

    python benchmarks/chaos.py             # 50 rounds, a SIGKILL every 4 seconds on average

Both come to the same model, bit for bit; what the killing costs is in `benchmarks/results/chaos.md`.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from raysim import Experiment, Simulation
from raysim.cluster.runtime import import_ray

RESULTS = Path(__file__).parent / "results" / "chaos.md"
EVERY = 4.0
SETTING: dict[str, Any] = {
    "name": "chaos",
    "rounds": 50,
    "cohort": 40,
    "data": {"source": {"name": "synthetic_virtual", "clients": 400}},
    "model": {"name": "mlp", "hidden": [200, 200]},
    "client": {"epochs": 6, "batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.05}},
    "training": {"engine": "sequential"},
    "evaluation": {"every": 10},
    "execution": {"actors": 2, "max_retries": 20},
    "tracking": {"report": False, "checkpoint_every": 10},
}


class Killer(threading.Thread):
    """Kills the process of a client actor chosen at random, again and again."""

    def __init__(self, pids: Callable[[], list[int]], seed: int = 0) -> None:
        super().__init__(daemon=True)
        self._pids, self._random, self._over = pids, random.Random(seed), threading.Event()
        self.kills = 0

    def run(self) -> None:
        while not self._over.wait(self._random.uniform(0.5, 1.5) * EVERY):
            if pids := self._pids():
                os.kill(self._random.choice(pids), signal.SIGKILL)
                self.kills += 1

    def end(self) -> None:
        """Kill no more."""
        self._over.set()
        self.join()


def actor_pids() -> list[int]:
    """Processes of client actors on this machine, by the title that Ray gives them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::ClientActor") and _ours(int(entry.name)):
                found.append(int(entry.name))
    return found


def _ours(pid: int) -> bool:
    """Whether this process started it, by way of Ray's own."""
    while pid > 1 and pid != os.getpid():
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == os.getpid()


def main() -> None:
    """Both runs, and the table."""
    import_ray()
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment.parse({**SETTING, "tracking": {**SETTING["tracking"], "directory": folder}})
        seconds, hashes, rows = {}, {}, {}
        killer = Killer(actor_pids)
        for name in ("in peace", "a random actor killed"):
            with Simulation(experiment) as simulation:
                if name != "in peace":
                    killer.start()
                began = time.perf_counter()
                rows[name] = [committed.row for committed in simulation]
                seconds[name] = time.perf_counter() - began
            if killer.is_alive():
                killer.end()
            hashes[name] = hashlib.sha256((simulation.directory / "model.safetensors").read_bytes()).hexdigest()
    same = len(set(hashes.values())) == 1
    lines = [
        f"{SETTING['rounds']} rounds of {SETTING['cohort']} clients on {SETTING['execution']['actors']} actors, "
        f"a SIGKILL every {EVERY:g} seconds on average.",
        "",
        "| | seconds | kills | calls lost | pieces given out again | SHA-256 of the model |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        kills = 0 if name == "in peace" else killer.kills
        lost, again = sum(row.lost for row in found), sum(row.retries for row in found)
        lines.append(f"| {name} | {seconds[name]:.1f} | {kills} | {lost} | {again} | `{hashes[name][:16]}…` |")
    peace, chaos = seconds.values()
    each = (chaos - peace) / max(1, killer.kills)
    lines += ["", f"Overhead: {100 * (chaos / peace - 1):.0f} %, {each:.1f} s a kill. The same bits: {same}."]
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
