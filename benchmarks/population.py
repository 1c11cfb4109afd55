"""What a large population costs the driver: peak resident memory and time to the first round.

    python benchmarks/population.py            # 1,000,000 virtual clients, then 100,000 on disk; 100 a round

Each case runs in a process of its own, so that its peak is its own. Writes `benchmarks/results/population.md`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "population.md"
CASES: dict[str, dict[str, Any]] = {
    "1,000,000 virtual clients": {"clients": 1_000_000},
    "100,000 clients on disk": {"clients": 100_000, "on_disk": True},
}


def main() -> None:
    """Run both cases and write the table."""
    lines = [
        "| population, cohort 100, 60 samples a client | shards | plan | start-up | first round | rounds 2 and 3 "
        "| driver's peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, source in CASES.items():
            spent = {what: measure(what, source, folder) for what in ("build", "plan", "run")}
            run = spent["run"]
            peak = max(one["peak_mib"] for one in spent.values())
            lines.append(
                f"| {name} | {spent['build']['seconds']:.1f} s | {spent['plan']['seconds']:.1f} s "
                f"| {run['start']:.1f} s | {run['rounds'][0]:.2f} s | {sum(run['rounds'][1:]):.2f} s | {peak:.0f} MiB |"
            )
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


def measure(what: str, source: dict[str, Any], folder: str) -> dict[str, Any]:
    """One step in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, what, json.dumps(source), folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    values: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return values


def step(what: str, source: dict[str, Any], folder: str) -> dict[str, Any]:
    """Build the shards, plan, or train three rounds."""
    began = time.perf_counter()
    from raysim import Experiment

    experiment = Experiment.parse(
        {
            "name": "population",
            "rounds": 3,
            "cohort": 100,
            "data": {"source": {"name": "synthetic_virtual", "samples": 60, **source}, "cache": f"{folder}/cache"},
            "tracking": {"directory": f"{folder}/runs", "report": False},
        }
    )
    values: dict[str, Any] = {}
    if what == "build":
        from raysim.data import prepare

        prepare(experiment.data, experiment.data_seed).open()
    elif what == "plan":
        experiment.to_yaml(f"{folder}/config.yaml")
        from raysim.cli.app import app

        app(["plan", f"{folder}/config.yaml", "--json"], standalone_mode=False)
    else:
        from raysim import Simulation

        with Simulation(experiment) as simulation:
            values["start"] = time.perf_counter() - began
            values["rounds"] = [committed.row.seconds["total"] for committed in simulation]
    values["seconds"] = time.perf_counter() - began
    values["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return values


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print("\n" + json.dumps(step(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])))
    else:
        main()
