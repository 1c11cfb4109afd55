"""One configuration of each family of algorithms: the same model in process, on 1, 2 and 3 actors and after a resume.

    python benchmarks/families.py         # on one Ray of this machine; about ten minutes

A family is a file of `raysim/algorithms`. Each trains four rounds of digits on six uneven clients; the resume goes on
after the second. Writes `benchmarks/results/families.md`; exits with 1 if two models of a line differ.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from raysim import Experiment, Simulation
from raysim.algorithms import ALGORITHMS

RESULTS = Path(__file__).parent / "results" / "families.md"
ACTORS = (1, 2, 3)
SETTING = {
    "name": "families",
    "rounds": 4,
    "cohort": 4,
    "data": {"partition": {"name": "dirichlet", "clients": 6, "alpha": 0.3, "min_size": 5}, "holdout": 0.2},
    "model": {"name": "mlp", "hidden": [16]},
    "client": {"batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.05}},
    "training": {"engine": "sequential"},
    "tracking": {"checkpoint_every": 2, "report": False},
}
SUITABLE = {
    "afl": ["aggregation.weights=uniform"],
    "cocoa": ["model=softmax"],
    "fedex_lora": ["model=mlp_lora"],
    "fedit": ["model=mlp_lora"],
}
"""What an algorithm wants besides."""


def families() -> dict[str, str]:
    """The first algorithm of each file, by the file's name."""
    found: dict[str, str] = {}
    for name, algorithm in ALGORITHMS.items():
        found.setdefault(algorithm.__module__.rpartition(".")[2], name)
    return found


def model_of(simulation: Simulation) -> str:
    """SHA-256 of the parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(simulation.model().state_dict().items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def models(experiment: Experiment, folder: Path) -> Iterator[str]:
    """In process, on each number of actors, and after a resume from the middle on one more process."""
    for where in [
        ["execution.executor=inprocess"],
        *(["execution.executor=ray", f"execution.actors={n}"] for n in ACTORS),
    ]:
        with Simulation(
            experiment.updated(where), directory=folder / f"run-{len(list(folder.iterdir()))}"
        ) as simulation:
            simulation.run()
            yield model_of(simulation)
    with Simulation(experiment.updated(["execution.executor=inprocess"]), directory=folder / "broken") as simulation:
        for done in simulation:
            if done.number == 2:
                break
    with Simulation.resume(folder / "broken") as simulation:
        simulation.run()
        yield model_of(simulation)


def main() -> None:
    """The table, family by family."""
    from raysim.cluster.runtime import import_ray

    import_ray().init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    names = ["in process", *(f"{n} actor{'s' * (n > 1)}" for n in ACTORS), "after a resume"]
    lines = ["# One model of each family of algorithms", "", f"| family | algorithm | {' | '.join(names)} |"]
    lines.append("|---" * (2 + len(names)) + "|")
    apart = 0
    for family, name in families().items():
        experiment = Experiment.parse({**SETTING, "algorithm": name}).updated(SUITABLE.get(name, ()))
        with tempfile.TemporaryDirectory() as folder:
            found = list(models(experiment, Path(folder)))
        apart += len(set(found)) > 1
        lines.append(f"| {family} | {name} | {' | '.join(found)} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.exit(apart > 0)


if __name__ == "__main__":
    main()
