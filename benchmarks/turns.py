"""Runs that take turns, and what the ratio of their processor times is worth.

Short turns of one run and the other, side by side in time, meet the same other work on the machine; the median of
their ratios hardly depends on it. A run compared with one like it shows how far the figures can be trusted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from peers.workloads import Federation, Workload

from raysim import Experiment, Simulation

Times = npt.NDArray[np.float64]


def started(
    workload: Workload, federation: Federation, folder: str, rounds: int, more: dict[str, Any]
) -> Iterator[Any]:
    """The rounds of a run in this process, in rows, with these sections beside those of the workload."""
    values = {
        "rounds": rounds,
        "cohort": workload.cohort,
        "data": {"partition": {"name": "natural"}, "test": 0.0, "cache": f"{folder}/shards", "label_histograms": False},
        "model": {"name": workload.model},
        "client": {"optimizer": {"name": "sgd", "lr": workload.lr}, "batch_size": workload.batch},
        "training": {"engine": "rows", "compile": False},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": folder, "report": False, "clients": False, "checkpoint_every": 0},
        **more,
    }
    owners = np.repeat(np.arange(workload.clients), np.diff(federation.bounds))
    data = {"x": federation.x, "y": federation.y, "client": owners}
    return iter(Simulation(Experiment.parse(values), data=data))


def spent(run: Iterator[Any], rounds: int) -> float:
    """Processor seconds of a turn."""
    began = time.process_time()
    for _ in range(rounds):
        next(run)
    return time.process_time() - began


def in_turns(runs: Sequence[Callable[[], float]], turns: int) -> Times:
    """What each run returns in each turn, `[runs, turns]`; in every turn they come in another order."""
    found, order = np.empty((len(runs), turns)), list(range(len(runs)))
    draw = random.Random(0)
    for turn in range(turns):
        draw.shuffle(order)
        for which in order:
            found[which, turn] = runs[which]()
    return found


def verdict(other: Times, plain: Times) -> str:
    """How much more the other costs, in per cent: the median ratio of the turns, and its 95 % interval.

    The interval is that of 2,000 bootstrap samples of the turns.
    """
    ratios = other / plain
    samples = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[samples], axis=1), (0.025, 0.975))
    cost, low, high = (100 * (float(one) - 1) for one in (np.median(ratios), low, high))
    return f"{cost:+.2f} % ({low:+.2f} to {high:+.2f})"
