"""raysim, by its public interface: an `Experiment`, a `Simulation`, arrays in memory.

Variants `ENGINE-EXECUTOR`, such as `auto-ray` (an actor on every core), `compiled-ray` or `sequential-inprocess` (one
process, one core). Nothing is evaluated or written during the timing but what the workload asks for: no report, no
clients' table, no checkpoint before the end.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from peers import models
from peers.side import Meter, Task, say
from peers.workloads import SEED, Federation
from raysim import Experiment, Simulation, __version__

BEYOND = 200
"""Rounds that the experiment has beyond those that are timed. Rounds may be worked on ahead: with more to come, as many
are under way when the timing ends as when it begins, and the span between holds the work of the timed rounds."""


def setting(task: Task, folder: str) -> dict[str, Any]:
    """The experiment of a task."""
    workload = task.workload
    engine, executor = task.variant.split("-")
    return {
        "name": "speed",
        "seed": SEED,
        "rounds": task.all_rounds + BEYOND,
        "cohort": workload.cohort,
        "data": {
            "partition": {"name": "natural"},
            "test": 0.0,
            "cache": f"{task.folder}/shards",
            "label_histograms": False,
        },
        "model": {"name": workload.model},
        "client": {"optimizer": {"name": "sgd", "lr": workload.lr}, "batch_size": workload.batch},
        "training": training(engine),
        "execution": {"executor": executor},
        "evaluation": {"every": int(workload.evaluated)},
        "tracking": quiet(folder),
    }


def training(engine: str) -> dict[str, Any]:
    """A `training` section: `auto`, `sequential`, `rows`, or `compiled`, which is rows compiled."""
    if engine == "compiled":
        return {"engine": "rows", "compile": True}
    return {"engine": engine, "compile": "auto" if engine == "auto" else False}


def quiet(folder: str) -> dict[str, Any]:
    """A `tracking` section that writes as little as possible."""
    return {"directory": folder, "report": False, "clients": False, "checkpoint_every": 0}


def main() -> None:
    """Run the task."""
    task = Task.read()
    federation = task.federation()
    data: dict[str, Any] = {
        "x": federation.x,
        "y": federation.y,
        "client": np.repeat(np.arange(task.workload.clients), np.diff(federation.bounds)),
    }
    if len(federation.y_test):
        data |= {"x_test": federation.x_test, "y_test": federation.y_test}
    meter = Meter(task)
    with tempfile.TemporaryDirectory() as folder:
        simulation = Simulation(Experiment.parse(setting(task, folder)), data=data)
        with simulation:
            for committed in simulation:
                _check_cohort(federation, committed)
                samples = committed.clients["samples"].to_numpy()
                batches = int(np.sum(-(-samples // task.workload.batch)))
                meter.round(int(samples.sum()), batches, committed.row.steps, committed.metrics.get("test/accuracy"))
                if committed.number == task.all_rounds:
                    break
            net = simulation.model()
            engine = simulation.experiment.training
        x_test, y_test = torch.from_numpy(federation.x_test), torch.from_numpy(federation.y_test)
        final = models.accuracy(net, x_test, y_test) if len(y_test) else None
    versions = {"torch": version("torch"), "raysim": __version__, "ray": version("ray")}
    result = meter.result(parameters=models.parameters(net), versions=versions, accuracy=final)
    say({**result, "engine": engine.to_dict()})


def _check_cohort(federation: Federation, committed: Any) -> None:
    drawn = committed.clients["client"].to_numpy()
    if not np.array_equal(drawn, federation.cohorts[committed.number - 1]):
        raise SystemExit(f"round {committed.number}: raysim drew another cohort than the one that all sides train")


if __name__ == "__main__":
    main()
