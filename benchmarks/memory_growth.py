"""Memory of the driver over a long run, and over many simulations one after the other.

    python benchmarks/memory_growth.py                    # 2,000 rounds, 50 simulations, in process
    python benchmarks/memory_growth.py --ray              # the same on one Ray
    python benchmarks/memory_growth.py --rounds 5000

After a warm-up the resident memory must stay where it is: what grows with rounds or with runs is a leak. Adds a line
each to `benchmarks/results/memory_growth.md`.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from raysim import Experiment, Simulation

RESULTS = Path(__file__).parent / "results" / "memory_growth.md"
HEAD = "| | first, MiB | last, MiB | growth |\n|---|---|---|---|\n"
SETTING = {
    "name": "memory-growth",
    "rounds": 10,
    "cohort": 10,
    "data": {"partition": {"name": "dirichlet", "clients": 30, "alpha": 0.3}},
    "client": {"steps": 1},
    "training": {"engine": "sequential"},
    "tracking": {"report": False, "checkpoint_every": 10},
}


def main() -> None:
    """Both measurements, here or on one Ray."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--simulations", type=int, default=50)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    where = ["execution.executor=inprocess"]
    if options.ray:
        from raysim.cluster.runtime import import_ray

        import_ray().init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        where = ["execution.executor=ray", "execution.actors=2"]
    experiment = Experiment.parse(SETTING).updated(where)
    name = "on Ray" if options.ray else "in process"
    rounds = over_rounds(experiment.updated([f"rounds={options.rounds}"]))
    note(f"{options.rounds:,} rounds, a checkpoint every 10, {name}", rounds, options.rounds, "round")
    runs = over_simulations(experiment, options.simulations)
    note(f"{options.simulations} simulations of 10 rounds, {name}", runs, options.simulations, "simulation")


def over_rounds(experiment: Experiment) -> list[float]:
    """Resident MiB at ten moments of a run, the first after a tenth of it."""
    with tempfile.TemporaryDirectory() as folder, Simulation(experiment, directory=Path(folder, "run")) as simulation:
        every = experiment.rounds // 10
        return [resident() for done in simulation if done.number % every == 0]


def over_simulations(experiment: Experiment, count: int) -> list[float]:
    """Resident MiB after each simulation but the first few."""
    found = []
    for _ in range(count):
        with (
            tempfile.TemporaryDirectory() as folder,
            Simulation(experiment, directory=Path(folder, "run")) as simulation,
        ):
            simulation.run()
        del simulation
        found.append(resident())
    return found[count // 10 :]


def resident() -> float:
    """Memory of this process, MiB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def note(what: str, found: list[float], count: int, unit: str) -> None:
    """A line of the table, in place of an earlier one of the same name."""
    each = (found[-1] - found[0]) * 1024 / (0.9 * count)
    line = f"| {what} | {found[0]:.1f} | {found[-1]:.1f} | {each:.1f} KiB a {unit} |\n"
    words, _, table = (RESULTS.read_text() if RESULTS.exists() else "").partition(HEAD)
    kept = [one for one in table.splitlines(keepends=True) if not one.startswith(f"| {what} ")]
    RESULTS.write_text(words + HEAD + "".join([*kept, line]))
    print(line, end="", flush=True)


if __name__ == "__main__":
    main()
