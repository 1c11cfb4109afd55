"""What tuning is worth where the right answer is known: some clients' labels are wrong, and nobody says whose.

Parts, each by itself or all in turn:

- `weights`: configs/tune_weights.yaml, ten clients with digits, three of them with 60 % wrong labels.
- `law`: MNIST dealt to fifty unequal clients, fifteen of them with 60 % wrong labels, and the two numbers of the law.
- `learned`: configs/weights_learned.yaml against weights by samples and against the oracle that knows whose labels are
  wrong, round by round, with what a round takes.
- `pruning`: the study of `weights` with fewer trials, with and without the median pruner.
- `parallel`: that study with one and with two trials at once on Ray, by turns.

    RAYSIM_DATA=… python benchmarks/tuning.py weights learned

Studies lie in a folder that is given by `--studies`, and go on where they were. What came out is kept in
`benchmarks/results/tuning.json`; the tables are written to `benchmarks/results/tuning.md`, the picture beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tuning_page import report

from raysim import Experiment, Simulation, tune
from raysim.files import write_text
from raysim.tuning import Tuned
from raysim.tuning.progress import PlainStudy

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "tuning.json"
SEEDS = (1, 2, 3, 4, 5)
LAW = {
    "name": "tune-law-mnist",
    "rounds": 20,
    "cohort": 10,
    "data": {
        "source": "mnist",
        "partition": {"name": "quantity", "distribution": "lognormal", "sigma": 0.6, "clients": 50},
        "noise": {"clients": list(range(0, 45, 3)), "fraction": 0.6},
        "validation": 0.05,
    },
    "model": {"name": "mlp", "hidden": [100]},
    "client": {"optimizer": {"lr": 0.2}, "batch_size": 20, "steps": 100},
    "training": {"engine": "rows", "compile": False},
    "aggregation": {"weights": "law"},
    "execution": {"executor": "inprocess"},
    "tuning": {
        "space": {
            "aggregation.weights.samples": {"low": 0.0, "high": 2.0},
            "aggregation.weights.loss": {"low": 0.0, "high": 8.0},
        },
        "objective": {"metric": "validation/loss", "of": "mean", "last": 5},
        "pruner": {"name": "median", "startup": 5, "warmup": 5},
        "trials": 30,
    },
}


def main() -> None:
    """Do the parts that were asked for, and write the tables of all that is known."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("parts", nargs="*", metavar="PART", help="all by default")
    arguments.add_argument("--studies", type=Path, default=Path(tempfile.gettempdir()) / "raysim-tuning")
    arguments.add_argument("--set", nargs="*", default=[], help="key=value, for a quick look at the part")
    options = arguments.parse_args()
    for part in options.parts or PARTS:
        found = PARTS[part](options.studies, options.set)
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        write_text(RESULTS, json.dumps({**kept, part: found}, indent=1) + "\n")
        print(json.dumps(found, indent=1))
    write_text(RESULTS.with_suffix(".md"), report(json.loads(RESULTS.read_text()), RESULTS.with_suffix(".png")))


def of_weights(studies: Path, changes: list[str]) -> dict[str, Any]:
    """The study of weights: what the bad clients are left with, and what the winner is worth."""
    experiment = Experiment.from_yaml(ROOT / "configs" / "tune_weights.yaml", ["tracking.report=false", *changes])
    tuned, _ = study(experiment, studies / "weights")
    assert tuned.weights is not None
    bad = experiment.data.noise.clients
    found = list(tuned.weights.values())
    return {**confirmed(tuned), "bad": list(bad), "weights": found, "bad_total": sum(found[c] for c in bad)}


def of_law(studies: Path, changes: list[str]) -> dict[str, Any]:
    """The study of the law on MNIST."""
    experiment = Experiment.parse({**LAW, "tracking": {"report": False}}).updated(changes)
    tuned, _ = study(experiment, studies / "law")
    return {**confirmed(tuned), "params": tuned.trial.params}


def of_learned(studies: Path, changes: list[str]) -> dict[str, Any]:
    """Learned weights against samples and the oracle: accuracy of each round, by seed, and processor time a round."""
    path = ROOT / "configs" / "weights_learned.yaml"
    bad = Experiment.from_yaml(path).data.noise.clients
    table = {client: 1.0 for client in range(10) if client not in bad}
    ways: dict[str, list[str]] = {
        "samples": ["aggregation.weights=samples"],
        "learned": [],
        "oracle": [f"aggregation.weights={{name: explicit, table: {table}}}"],
    }
    found: dict[str, Any] = {way: {"accuracy": [], "loss": [], "cpu": [], "bad": []} for way in ways}
    for seed in SEEDS:
        for way, overrides in ways.items():  # by turns, since other work on the machine comes and goes
            experiment = Experiment.from_yaml(path, [f"seed={seed}", "data.seed=0", *changes, *overrides])
            one = curve(experiment, bad)
            for name, values in one.items():
                found[way][name].append(values)
    return found


def curve(experiment: Experiment, bad: tuple[int, ...]) -> dict[str, Any]:
    """A run's test accuracy and loss by round, median processor seconds of a round, and the bad clients' last share."""
    accuracy, loss, spent, share = [], [], [], 0.0
    quiet = experiment.updated(["tracking.report=false"])
    with (
        tempfile.TemporaryDirectory() as folder,
        Simulation(quiet, directory=Path(folder) / "run") as simulation,
    ):
        began = time.process_time()
        for r in simulation:
            spent.append(time.process_time() - began)
            accuracy.append(r.metrics["test/accuracy"])
            loss.append(r.metrics["test/loss"])
            weights = dict(zip(r.clients["client"].to_pylist(), r.clients["weight"].to_pylist(), strict=True))
            share = sum(weights.get(client, 0.0) for client in bad)
            began = time.process_time()
    return {"accuracy": accuracy, "loss": loss, "cpu": statistics.median(spent[1:]), "bad": share}


def of_pruning(studies: Path, changes: list[str]) -> dict[str, Any]:
    """The same study with and without a pruner: the best value, and the local steps that were spent."""
    found = {}
    for pruner in ("none", "{name: median, startup: 10, warmup: 3}"):
        experiment = small(changes, f"tuning.pruner={pruner}")
        tuned, _ = study(experiment, studies / f"pruning-{experiment.tuning.pruner.name}")
        trials = tuned.study.get_trials(deepcopy=False)
        found[experiment.tuning.pruner.name] = {
            "best": tuned.trial.value,
            "steps": sum(trial.user_attrs.get("steps", 0) for trial in trials),
            "pruned": sum(trial.state.name == "PRUNED" for trial in trials),
            "trials": len(trials),
        }
    return found


def of_parallel(studies: Path, changes: list[str]) -> dict[str, Any]:
    """Trials a minute with one and two at once on a Ray that is up, twice each, by turns."""
    from raysim.cluster.runtime import Runtime

    base = small([*changes, "execution.executor=ray", "tuning.pruner=none", "execution.actors=1"])
    runtime = Runtime.start(base.execution)
    found: dict[str, list[float]] = {"1": [], "2": []}
    try:
        for turn in range(2):
            for parallel in found:
                folder = studies / f"parallel-{parallel}-{turn}-{os.getpid()}"
                tuned, seconds = study(base.updated([f"tuning.parallel={parallel}"]), folder)
                found[parallel].append(len(tuned.study.get_trials(deepcopy=False)) / seconds * 60)
    finally:
        runtime.close()
    return {"trials_per_minute": found}


def small(changes: list[str], *more: str) -> Experiment:
    """The study of weights with fewer trials, and no confirmation."""
    overrides = ["tracking.report=false", "tuning.trials=60", "tuning.confirm.seeds=0", *more, *changes]
    return Experiment.from_yaml(ROOT / "configs" / "tune_weights.yaml", overrides)


def study(experiment: Experiment, folder: Path) -> tuple[Tuned, float]:
    """The study, run or gone on with, and the seconds that this took."""
    began = time.monotonic()
    return tune(experiment, directory=folder, progress=PlainStudy()), time.monotonic() - began


def confirmed(tuned: Tuned) -> dict[str, Any]:
    """What the confirmation says; the test accuracy of its runs besides the metric that was tuned for."""
    found = tuned.confirmed
    assert found is not None, "the experiment as it stands won"
    accuracy = {who: test_accuracies(tuned.directory, who, found.seeds) for who in ("baseline", "winner")}
    differences = np.subtract(accuracy["winner"], accuracy["baseline"])
    from raysim.tuning.confirming import compared

    by_accuracy = compared("test/accuracy", found.seeds, accuracy["baseline"], accuracy["winner"], found.level)
    states = [trial.state.name for trial in tuned.study.get_trials(deepcopy=False)]
    return {
        "metric": found.metric,
        "baseline": found.baseline,
        "winner": found.winner,
        "difference": found.difference,
        "interval": found.interval,
        "accuracy": accuracy,
        "accuracy_difference": float(differences.mean()),
        "accuracy_interval": by_accuracy.interval,
        "trials": len(states),
        "pruned": states.count("PRUNED"),
        "steps": sum(trial.user_attrs.get("steps", 0) for trial in tuned.study.get_trials(deepcopy=False)),
    }


def test_accuracies(study_folder: Path, who: str, seeds: tuple[int, ...]) -> list[float]:
    """Test accuracy after the last round of each run of the confirmation."""
    from raysim.tracking import RunDirectory, read_rounds

    folders = [study_folder / "confirm" / f"{who}-{seed}" for seed in seeds]
    return [read_rounds(RunDirectory.open(folder))["test/accuracy"][-1].as_py() for folder in folders]


PARTS: dict[str, Callable[[Path, list[str]], dict[str, Any]]] = {
    "weights": of_weights,
    "law": of_law,
    "learned": of_learned,
    "pruning": of_pruning,
    "parallel": of_parallel,
}


if __name__ == "__main__":
    main()
