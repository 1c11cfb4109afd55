"""What `raysim plan` says that a client's local step takes, beside what it takes in a run.

    python benchmarks/plan_prediction.py        # four algorithms, one client at a time and in rows; some minutes

Both are processor seconds: the clock that raysim measures with is replaced by the processor's. Both are the fastest of
several, a plan's of three series and a run's of its rounds, since other work on a machine only adds to them. Of the run
it is the time for batches, steps and folding over the local steps. A plan and a run take turns, and the medians of five
are compared. Writes `benchmarks/results/plan_prediction.md`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from raysim import Experiment, Simulation
from raysim.execution.placement.slots import Node
from raysim.execution.preparation.estimate import make_plan
from raysim.execution.preparation.prepare import prepare_job

RESULTS = Path(__file__).parent / "results" / "plan_prediction.md"
TIMES = 5
SETTING = {
    "name": "plan-prediction",
    "rounds": 12,
    "cohort": 10,
    "data": {"partition": {"name": "dirichlet", "clients": 30, "alpha": 0.5}},
    "model": {"name": "mlp", "hidden": [100]},
    "client": {"batch_size": 10, "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.05}},
    "evaluation": {"every": 0},
    "execution": {"executor": "inprocess"},
    "tracking": {"report": False, "checkpoint_every": 0},
}
ALGORITHMS = ("fedavg", "scaffold", "ifca", "mime")
ENGINES = {"one at a time": "{engine: sequential}", "8 rows": "{engine: rows, rows: 8, compile: false}"}


def predicted(experiment: Experiment) -> float:
    """Seconds of a local step, of a plan."""
    return make_plan(prepare_job(experiment), [Node("here", 1.0, 0.0, 16 << 30)]).round.a_step


def measured(experiment: Experiment) -> float:
    """The same of a run: in the fastest of its rounds with local steps, but the first."""
    with tempfile.TemporaryDirectory() as folder, Simulation(experiment, directory=Path(folder, "run")) as simulation:
        rows = [done.row for done in simulation if done.row.steps][1:]
    return min(sum(row.seconds[f"train/{part}"] for part in ("batches", "steps", "fold")) / row.steps for row in rows)


def main() -> None:
    """The table."""
    torch.set_num_threads(1)
    time.perf_counter = time.process_time
    lines = [
        "# A local step: planned and measured",
        "",
        "Processor time, medians of five plans and five runs that take turns.",
        "",
    ]
    lines += ["| algorithm | engine | planned, µs | measured, µs | measured / planned |", "|---|---|---|---|---|"]
    for algorithm in ALGORITHMS:
        for name, training in ENGINES.items():
            experiment = Experiment.parse({**SETTING, "algorithm": algorithm}).updated([f"training={training}"])
            pairs = [(predicted(experiment), measured(experiment)) for _ in range(TIMES)]
            planned, found = (median(values) for values in zip(*pairs, strict=True))
            ratio = median(b / a for a, b in pairs)
            lines.append(f"| {algorithm} | {name} | {1e6 * planned:.0f} | {1e6 * found:.0f} | {ratio:.2f} |")
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
