"""What stages cost that change nothing: processor time of a round with them, beside one without any.

    RAYSIM_DATA=… python benchmarks/identity_chain.py A B          # workloads of benchmarks/speed.py; minutes

Three runs are in this process, in rows: one without stages, another one like it, and one with a stage. They take turns
of a few rounds; each turn's ratios are taken apart, and their median is the figure. That of the two runs without stages
is the noise: it is zero but for what the machine did. Memory lies differently in each run, so all three are begun anew
several times.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from peers.workloads import WORKLOADS, Federation, prepare
from turns import Times, in_turns, spent, started, verdict

IDENTITY = "raysim.aggregation:UpdateStage"
"""A stage as it stands changes nothing."""
CHAINS: tuple[list[str], ...] = ([], [], [IDENTITY])
ANEW, TURNS, ROUNDS = 8, 60, 4


def main() -> None:
    """Print the cost for each workload."""
    for name in sys.argv[1:]:
        plain, same, staged = compare(name)
        print(
            f"{name}: an identity stage costs {verdict(staged, plain)}, another run without {verdict(same, plain)}; "
            f"medians of {plain.size} turns of {ROUNDS} rounds, 95 % intervals; {1e3 * np.median(plain) / ROUNDS:.2f} "
            "ms a round without",
            flush=True,
        )


def compare(name: str) -> Times:
    """Processor seconds of turns with each of the chains, `[chains, turns]`."""
    with tempfile.TemporaryDirectory() as folder:
        place, _ = prepare(WORKLOADS[name], Path(folder))
        federation = Federation.load(place)
        return np.concatenate([_turns(name, federation, f"{folder}/{again}") for again in range(ANEW)], axis=1)


def _turns(name: str, federation: Federation, folder: str) -> Times:
    runs = [
        started(
            WORKLOADS[name],
            federation,
            f"{folder}/{which}",
            (TURNS + 10) * ROUNDS,
            {"aggregation": {"stages": chain}},
        )
        for which, chain in enumerate(CHAINS)
    ]
    for run in runs:
        spent(run, 5 * ROUNDS)  # the first rounds find their memory
    return in_turns([partial(spent, run, ROUNDS) for run in runs], TURNS)


if __name__ == "__main__":
    main()
