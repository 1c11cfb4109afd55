"""Growth: the same tiny model with ever larger cohorts out of a million clients that exist only when they are sampled.

raysim alone. A client's 60 samples are made on the worker, so a client-step holds a sixth of the making of a shard.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

from peers.outcomes import Run, median, set_up
from peers.side import Meter, Task, say
from peers.workloads import SEED, Workload

ROUNDS = {10: 100, 100: 40, 1_000: 10, 10_000: 3}
"""Timed rounds by cohort."""
STEPS = 6
"""Local steps of a client."""


def workload(cohort: int) -> Workload:
    """The workload with a cohort of this size."""
    title = "softmax 60→10, cohorts of 1,000,000 virtual clients"
    return Workload(title, "virtual", "softmax", (60,), 1_000_000, cohort, 60, 0.1, ROUNDS[cohort], warmup=1)


def main() -> None:
    """Run the task."""
    import tempfile
    from importlib.metadata import version

    from peers.raysim import BEYOND, quiet
    from raysim import Experiment, Simulation

    task = Task.read()
    engine, executor = task.variant.split("-")
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment.parse(
            {
                "name": "growth",
                "seed": SEED,
                "rounds": task.all_rounds + BEYOND,
                "cohort": task.workload.cohort,
                "data": {
                    "source": {
                        "name": "synthetic_virtual",
                        "clients": task.workload.clients,
                        "samples": task.workload.samples,
                    }
                },
                "model": {"name": "softmax"},
                "client": {"optimizer": {"name": "sgd", "lr": task.workload.lr}, "batch_size": task.workload.batch},
                "training": {"engine": engine},
                "execution": {"executor": executor},
                "evaluation": {"every": 0},
                "tracking": quiet(folder),
            }
        )
        meter = Meter(task)
        with Simulation(experiment) as simulation:
            parameters = sum(parameter.numel() for parameter in simulation.model().parameters())
            before = _peak_mib()
            for committed in simulation:
                row = committed.row
                meter.round(row.samples, row.steps, row.steps)
                if committed.number == task.all_rounds:
                    break
            after = _peak_mib()
            chosen = simulation.experiment.training.to_dict()
    versions = {name: version(name) for name in ("torch", "raysim", "ray")}
    result = meter.result(parameters=parameters, versions=versions)
    say({**result, "engine": chosen, "driver_mib_before": before, "driver_mib": after})


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Markdown: a row for each cohort."""
    lines = [
        "| clients a round | set-up | s a round | µs a client-step | CPU µs a client-step | start-up s "
        "| driver's peak MiB before the first round | after the last |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cohort, several in runs.items():
        done = [run for run in several if "error" not in run]
        if not done:
            lines.append(f"| {int(cohort):,} | {several[0]['error'] if several else 'not run'} | | | | | | |")
            continue
        value = {key: median(done, key) or 0.0 for key in done[0] if isinstance(done[0][key], int | float)}
        each = 1e6 / (int(cohort) * STEPS)
        lines.append(
            f"| {int(cohort):,} | {set_up(done[0])} | {value['seconds_per_round']:.3g} "
            f"| {value['seconds_per_round'] * each:.1f} | {value['cpu_seconds_per_round'] * each:.1f} "
            f"| {value['startup_seconds']:.1f} | {value['driver_mib_before']:.0f} | {value['driver_mib']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def plot(runs: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Microseconds of a client-step, and the driver's memory, against the size of the cohort."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    done = {int(cohort): [r for r in several if "error" not in r] for cohort, several in runs.items()}
    cohorts = [cohort for cohort, several in sorted(done.items()) if several]
    if not cohorts:
        return

    def series(key: str) -> list[float]:
        return [median(done[cohort], key) or 0.0 for cohort in cohorts]

    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for key, label in (("seconds_per_round", "wall clock"), ("cpu_seconds_per_round", "processor time")):
        each = [1e6 * value / (cohort * STEPS) for value, cohort in zip(series(key), cohorts, strict=True)]
        time.plot(cohorts, each, "o-", label=label)
    time.set(xscale="log", yscale="log", xlabel="clients a round", title="µs a client-step")
    time.legend()
    memory.plot(cohorts, series("driver_mib"), "o-")
    ceiling = 1.2 * max(series("driver_mib"))
    memory.set(xscale="log", xlabel="clients a round", title="driver's peak memory, MiB", ylim=(0, ceiling))
    for axes in (time, memory):
        axes.grid(visible=True, which="major", alpha=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
