"""What it gains to compile a correction by vectors of the server and of the clients along with the step.

    RAYSIM_DATA=… python benchmarks/compiled_corrections.py B      # workloads of benchmarks/speed.py; two minutes

Each algorithm runs three times in this process, in rows, which take turns of some rounds: with its whole step compiled;
with its gradient compiled alone, as that of an algorithm whose correction looks at anything else; and not compiled.
Processor seconds of a round are compared at the median of the turns. FedAvg's are beside them.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from peers.workloads import WORKLOADS, Federation, prepare
from torch import Tensor
from turns import spent, started

from raysim.algorithms import ALGORITHMS, Algorithm
from raysim.training import Some

NAMES = ("fedavg", "scaffold", "feddyn", "mimelite")
KINDS = ("whole", "gradient", "eager")
TURNS, ROUNDS = 20, 10


def main() -> None:
    """Print milliseconds of a round for each workload and algorithm."""
    for name in sys.argv[1:]:
        for algorithm in NAMES:
            whole, gradient, eager = (float(np.median(one)) / ROUNDS * 1e3 for one in compare(name, algorithm))
            print(
                f"{name} {algorithm}: {whole:.2f} ms a round compiled whole, {gradient:.2f} ms with the gradient alone "
                f"({gradient / whole:.2f} times), {eager:.2f} ms not compiled ({eager / whole:.2f} times)",
                flush=True,
            )


def compare(name: str, algorithm: str) -> list[list[float]]:
    """Processor seconds of turns of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        workload = WORKLOADS[name]
        place, _ = prepare(workload, Path(folder))
        federation = Federation.load(place)
        runs = [run(workload, federation, f"{folder}/{kind}", algorithm, kind) for kind in KINDS]
        for one in runs:
            spent(one, ROUNDS)
        found: list[list[float]] = [[] for _ in KINDS]
        for turn in range(TURNS):
            for which in range(len(KINDS))[:: 1 if turn % 2 else -1]:
                found[which].append(spent(runs[which], ROUNDS))
        return found


def run(workload: Any, federation: Federation, folder: str, algorithm: str, kind: str) -> Iterator[Any]:
    """The rounds of a run of this kind."""
    known = ALGORITHMS[algorithm]
    if kind == "gradient":
        ALGORITHMS[algorithm] = looking_elsewhere(known)
    try:
        rounds = (TURNS + 2) * ROUNDS
        more = {"algorithm": {"name": algorithm}, "training": {"engine": "rows", "compile": kind != "eager"}}
        return started(workload, federation, folder, rounds, more)
    finally:
        ALGORITHMS[algorithm] = known


def looking_elsewhere(known: type[Algorithm]) -> type[Algorithm]:
    """The algorithm, with a correction that looks at what no compiled code is given."""

    class Elsewhere(known):  # type: ignore[misc, valid-type]  # a base that is chosen at run time
        def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
            assert b.number >= 0
            if known.correct is not None:
                super().correct(grad, weights, b)

    return Elsewhere


if __name__ == "__main__":
    main()
