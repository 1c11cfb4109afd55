"""Real seconds of asynchronous steps beside those of synchronous rounds, on two Ray actors.

    RAYSIM_DATA=… python benchmarks/asynchronous_speed.py            McMahan's 2NN on shards of two digits
    RAYSIM_DATA=… python benchmarks/asynchronous_speed.py --blocks 30

Both sides run at once, each in a process with a Ray of its own, and take turns: one does some steps of ten updates
while the actors of the other are stopped, so that what else the machine does falls on both alike. A block's ratio is
that of two neighbours; the median of all blocks is what counts. The first steps are not counted: asynchronous ones
begin with as many clients as are in flight, and train more of them than each step takes in until results lie ready.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import virtual_time
from keeping import Kept, table

from raysim import Experiment, Simulation

KEPT = Kept("asynchronous_speed")
SIDES = ("synchronous", "FedBuff, 10 in flight", "FedBuff, 30 in flight")
STEPS, WARM_UP = 4, 10
"""Steps of a block, and those before the first one."""


def main() -> None:
    """Measure by turns, or be one of the sides."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--blocks", type=int, default=12, help="turns of each side")
    arguments.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments.add_argument("--against", choices=SIDES[1:], default=SIDES[2])
    arguments.add_argument("--dry", action="store_true", help="print, and keep nothing")
    given = arguments.parse_args()
    if given.side is not None:
        be(given.side)
        return
    names = SIDES[0], given.against
    sides = [Side(name) for name in names]
    try:
        found: dict[str, list[list[float]]] = {name: [] for name in names}
        for block in range(given.blocks):
            for side in sides[:: 1 if block % 2 else -1]:
                found[side.name].append(side.block())
            print(*(f"{name}: {found[name][-1]}" for name in names), sep="; ", file=sys.stderr, flush=True)
    finally:
        for side in sides:
            side.close()
    print(page({given.against: found}))
    if not given.dry:
        KEPT.put(given.against, found)
        KEPT.page(page(KEPT.all()))


class Side:
    """A process that trains when it is told to."""

    def __init__(self, name: str) -> None:
        """Start it, and wait until it is warm."""
        self.name = name
        command = [sys.executable, __file__, "--side", name]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()
        me = psutil.Process(self._process.pid)
        self._actors = [one for one in me.children(recursive=True) if one.name().startswith("ray::ClientActor")]
        self._send(signal.SIGSTOP)

    def block(self) -> list[float]:
        """Seconds and processor seconds of some steps."""
        assert self._process.stdin is not None
        self._send(signal.SIGCONT)
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        found = self._answer()
        self._send(signal.SIGSTOP)
        return found

    def close(self) -> None:
        """End it."""
        self._send(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("["):
            if not line:
                raise RuntimeError(f"{self.name}: it ended")
        return json.loads(line)

    def _send(self, what: signal.Signals) -> None:
        for actor in self._actors:
            actor.send_signal(what)


def be(name: str) -> None:
    """Do a block of steps for each line that arrives."""
    with tempfile.TemporaryDirectory() as folder:
        values = virtual_time.setting(name, 1.0, folder) | {"rounds": 10**6, "evaluation": {"every": 0}, "stop": {}}
        values["execution"] = {"executor": "ray", "actors": 2, "rounds_ahead": 0}
        values["training"] = {"engine": "sequential"}
        with Simulation(Experiment.parse(values)) as simulation:
            steps = iter(simulation)
            spent = _block(steps, WARM_UP)
            print(json.dumps(spent), flush=True)
            for _ in sys.stdin:
                print(json.dumps(_block(steps, STEPS)), flush=True)


def _block(steps: Iterator[object], count: int) -> list[float]:
    began, spent = time.perf_counter(), _processor_seconds()
    for _ in range(count):
        next(steps)
    return [round(time.perf_counter() - began, 4), round(_processor_seconds() - spent, 2)]


def _processor_seconds() -> float:
    """Of this process, and of those of the Ray that it started."""
    me = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (me, *me.children(recursive=True)))


def page(known: dict[str, Any]) -> str:
    """Milliseconds a step of both sides, and their ratios."""
    rows = []
    for name, found in known.items():
        plain, other = (np.array(found[one]) for one in (SIDES[0], name))
        ratios, each = other / plain, 1e3 / STEPS
        low, high = np.quantile(ratios[:, 0], (0.25, 0.75))
        real, processor = np.median(ratios, axis=0)
        times = [f"{each * np.median(side[:, 0]):.0f} / {each * np.median(side[:, 1]):.0f}" for side in (plain, other)]
        rows.append([name, *times, f"{real:.2f} ({low:.2f} to {high:.2f})", f"{processor:.2f}", f"{len(ratios)}"])
    head = ["ms a step, real / processor", "synchronous", "asynchronous", "ratio (quartiles)", "processor", "turns"]
    return "# Asynchronous steps on two actors\n\n" + table(head, rows)


if __name__ == "__main__":
    main()
