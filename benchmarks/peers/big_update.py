"""Big updates: a model of 25 or 100 million parameters, one client with one local step on each actor.

raysim alone. The time outside training is a round's time less that of the same step in as many bare torch processes at
once. It is set against a memcpy, by one thread, of the bytes that must move for every actor: the broadcast (float32),
its partial sum (int64), and one pass over that sum when all are added up (int64).
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from peers.outcomes import Run, median, set_up
from peers.side import Meter, Task, say
from peers.workloads import SEED, Workload

CASES = {"25M on 2": (5_000, 2), "25M on 8": (5_000, 8), "100M on 2": (10_000, 2)}
"""Width of the model's square layer, and actors, by label."""
BYTES_PER_PARAMETER = 4 + 8 + 8
"""That must move for each actor: broadcast, partial sum, one pass of the fold."""
_BARE_STEPS = 5


def workload(label: str) -> Workload:
    """The workload of a case: one client for each actor of a round."""
    width, actors = CASES[label]
    return Workload(f"{label}, one local step", "gaussian", "wide", (width,), 10 * actors, actors, 1, 0.01, 8, batch=1)


def main() -> None:
    """Run the task."""
    import tempfile
    from importlib.metadata import version

    import numpy as np
    import torch

    from peers.raysim import BEYOND, quiet
    from raysim import Experiment, Simulation

    task = Task.read()
    workload = task.workload
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    bare = _bare_step(workload.shape[0], workload.cohort)
    net = _model(workload.shape[0])
    parameters = sum(parameter.numel() for parameter in net.parameters())
    copied = _memcpy(BYTES_PER_PARAMETER * parameters * workload.cohort)
    clients = np.arange(workload.clients)
    random = np.random.default_rng(SEED)
    data = {
        "x": random.standard_normal((workload.clients, *workload.shape), dtype=np.float32),
        "y": clients % 10,
        "client": clients,
    }
    phases: list[Mapping[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment.parse(
            {
                "name": "big-update",
                "seed": SEED,
                "rounds": task.all_rounds + BEYOND,
                "cohort": workload.cohort,
                "data": {"partition": {"name": "natural"}, "test": 0.0, "cache": folder, "label_histograms": False},
                "client": {"optimizer": {"name": "sgd", "lr": workload.lr}, "batch_size": 1, "steps": 1},
                "training": {"engine": task.variant.split("-")[0]},
                "execution": {"executor": "ray", "actors": workload.cohort},
                "evaluation": {"every": 0},
                "tracking": quiet(folder),
            }
        )
        meter = Meter(task)
        with Simulation(experiment, model=net, data=data) as simulation:
            del net
            for committed in simulation:
                row = committed.row
                meter.round(row.samples, row.steps, row.steps)
                phases.append(row.seconds)
                if committed.number == task.all_rounds:
                    break
            chosen = simulation.experiment.training.to_dict()
    versions = {name: version(name) for name in ("torch", "raysim", "ray")}
    result = meter.result(parameters=parameters, versions=versions)
    timed = phases[task.warmup :]
    say(
        {
            **result,
            "engine": chosen,
            "bare_step_seconds": bare,
            "outside_seconds": result["seconds_per_round"] - bare,
            "bytes_to_move": BYTES_PER_PARAMETER * parameters * workload.cohort,
            "memcpy_seconds": copied,
            "phase_seconds": {name: statistics.median(row[name] for row in timed) for name in timed[0]},
        }
    )


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Markdown: a row for each case."""
    lines = [
        "| parameters on actors | set-up | ms a round | bare steps ms | outside training ms | to move | memcpy ms "
        "| outside / memcpy | peak private GiB | shared GiB | raysim's own account, ms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for label, several in runs.items():
        done = [run for run in several if "error" not in run]
        if not done:
            lines.append(f"| {label} | {several[0]['error'] if several else 'not run'} | | | | | | | | | |")
            continue
        value = {key: median(done, key) or 0.0 for key in done[0] if isinstance(done[0][key], int | float)}
        spent = done[-1]["phase_seconds"].items()
        phases = ", ".join(f"{name} {1e3 * seconds:.0f}" for name, seconds in spent if seconds)
        lines.append(
            f"| {label} | {set_up(done[0])} | {1e3 * value['seconds_per_round']:.0f} "
            f"| {1e3 * value['bare_step_seconds']:.0f} | {1e3 * value['outside_seconds']:.0f} "
            f"| {value['bytes_to_move'] / 2**30:.2f} GiB | {1e3 * value['memcpy_seconds']:.0f} "
            f"| {value['outside_seconds'] / value['memcpy_seconds']:.2f} "
            f"| {value.get('peak_private_bytes', 0.0) / 2**30:.1f} | {value.get('peak_shared_bytes', 0.0) / 2**30:.1f} "
            f"| {phases} |"
        )
    return "\n".join(lines) + "\n"


def _model(width: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def _bare_step(width: int, processes: int) -> float:
    """Median seconds until as many bare processes as there are actors have each made one step, all at once."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes + 1)
    others = [context.Process(target=_steps, args=(width, barrier), daemon=True) for _ in range(processes)]
    for other in others:
        other.start()
    seconds = []
    for _ in range(_BARE_STEPS):
        barrier.wait()
        began = time.perf_counter()
        barrier.wait()
        seconds.append(time.perf_counter() - began)
    for other in others:
        other.join()
    return statistics.median(seconds)


def _steps(width: int, barrier: Any) -> None:
    import torch

    net = _model(width)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    x, y = torch.randn(1, width), torch.zeros(1, dtype=torch.int64)
    for _ in range(_BARE_STEPS):
        barrier.wait()
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        barrier.wait()


def _memcpy(count: int, chunk: int = 256 * 2**20) -> float:
    """Median seconds in which one thread copies this many bytes, between two buffers that no cache holds."""
    import numpy as np

    source, target = np.ones(chunk, np.uint8), np.zeros(chunk, np.uint8)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        for start in range(0, count, chunk):
            size = min(chunk, count - start)
            np.copyto(target[:size], source[:size])
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
