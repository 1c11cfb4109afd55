"""Is a round as fast as in another checkout? Both by turns, in processes of their own.

    git worktree add ../before COMMIT
    RAYSIM_DATA=… python benchmarks/by_turns.py ../before A B C                       # workloads of benchmarks/speed.py
    RAYSIM_DATA=… python benchmarks/by_turns.py ../before A --engine compiled --anew 6

Three processes run the workload in process: the other checkout, this one, and the other one again. They take turns of
a few rounds, in which the others wait; each turn's ratios of processor time are taken apart, and their median is the
figure. That of the two processes of the other checkout is the noise. Memory lies differently in each process, so all
three are begun anew several times. The other checkout needs the interface of `Experiment` and `Simulation`, and the
packages of this environment.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from peers.workloads import WORKLOADS, Federation, prepare
from turns import Times, in_turns, spent, started, verdict

ROWS = {"rows": False, "compiled": True}
WARM_UP = 30
"""Rounds before the first turn."""


def main() -> None:
    """Print the cost of each workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, metavar="CHECKOUT", help="what this checkout is compared with")
    parser.add_argument("workloads", nargs="+", metavar="WORKLOAD", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--engine", choices=list(ROWS), default="rows")
    parser.add_argument("--anew", type=int, default=3, help="times that the processes are begun (%(default)s)")
    parser.add_argument("--turns", type=int, default=60, help="of each process (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="of a turn (%(default)s)")
    given = parser.parse_args()
    other, this = given.other.resolve(), Path(__file__).resolve().parent.parent
    for name in given.workloads:
        with tempfile.TemporaryDirectory() as folder:
            place, _ = prepare(WORKLOADS[name], Path(folder))
            times = np.concatenate(
                [
                    _turns([other, this, other], [name, given.engine, str(place)], given.turns, given.rounds)
                    for _ in range(given.anew)
                ],
                axis=1,
            )
        print(
            f"{name} {given.engine}: this checkout costs {verdict(times[1], times[0])}, the other one again "
            f"{verdict(times[2], times[0])}; medians of {times.shape[1]} turns of {given.rounds} rounds, 95 % "
            f"intervals; {1e3 * np.median(times[0]) / given.rounds:.2f} ms a round in the other",
            flush=True,
        )


def _turns(checkouts: list[Path], task: list[str], turns: int, rounds: int) -> Times:
    """Processor seconds of the turns of each checkout, `[checkouts, turns]`."""
    sides = [_Side(checkout, task) for checkout in checkouts]
    try:
        for side in sides:
            side.turn(WARM_UP)
        return in_turns([partial(side.turn, rounds) for side in sides], turns)
    finally:
        for side in sides:
            side.end()


class _Side:
    """A process that runs the workload in a checkout, some rounds at a time."""

    def __init__(self, checkout: Path, task: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--side", str(checkout), *task]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def turn(self, rounds: int) -> float:
        """Processor seconds of these rounds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{rounds}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def side(checkout: str, workload: str, engine: str, place: str) -> None:
    """Be such a process: read numbers of rounds, answer with processor seconds."""
    import raysim

    if not Path(raysim.__file__).is_relative_to(checkout):
        raise SystemExit(f"raysim is imported from {raysim.__file__}, not from {checkout}")
    answers, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as folder:
        more = {"training": {"engine": "rows", "compile": ROWS[engine]}}
        run = started(WORKLOADS[workload], Federation.load(place), folder, 1_000_000, more)
        for line in sys.stdin:
            print(spent(run, int(line)), file=answers, flush=True)


if __name__ == "__main__":
    side(*sys.argv[2:]) if sys.argv[1:2] == ["--side"] else main()
