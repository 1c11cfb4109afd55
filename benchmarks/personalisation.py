"""What personal models are worth where every client has two labels: MNIST, mean and worst tenth of clients' accuracies.

100 clients of 600 images of about two digits each (sorted by label, 200 shards of 300, two a client), of which 120 are
trained on and 480 held out; 20 clients in a round, 60 rounds, an epoch of 12 local steps on batches of 10. The model is
an MLP of 100 hidden units with group normalisation, whose scales are what FedBN keeps. Clients are judged by the models
that they would use, on their own holdouts. Every method has its client learning rate chosen of `RATES` by the mean
accuracy under a seed that is kept for it, and is then run under the seeds of the table; other knobs are those of
`ALGORITHMS`. Weights are uniform.

    RAYSIM_DATA=… python benchmarks/personalisation.py

Every finished run is kept in `benchmarks/results/personalisation.json`, so that an interrupted script goes on where it
was; the table is written to `benchmarks/results/personalisation.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raysim import Experiment, Simulation
from raysim.errors import ConfigError, RunError
from raysim.files import write_text

RESULTS = Path(__file__).parent / "results" / "personalisation.json"

BASE: dict[str, Any] = {
    "name": "personalisation",
    "rounds": 60,
    "cohort": 20,
    "data": {"source": "mnist", "partition": {"name": "shards", "clients": 100}, "holdout": 0.8},
    "client": {"batch_size": 10, "epochs": 1},
    "training": {"engine": "rows", "rows": 20, "compile": False},
    "aggregation": {"weights": "uniform"},
    "evaluation": {"every": 0, "clients_every": 60},
    "execution": {"executor": "inprocess"},
    "tracking": {"checkpoint_every": 0, "report": False, "clients": False},
}
RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
TUNING_SEED = 100
SEEDS = (1, 2, 3)
TUNED = {"epochs": 2}
"""Fine-tuning, with the learning rate of training."""
ALGORITHMS: dict[str, dict[str, Any]] = {
    "fedavg": {"name": "fedavg"},
    "local": {"name": "local"},
    "fedper": {"name": "fedper"},
    "fedrep": {"name": "fedrep", "head_epochs": 2},
    "fedbn": {"name": "fedbn"},
    "ditto-0.1": {"name": "ditto", "strength": 0.1},
    "ditto-1": {"name": "ditto", "strength": 1.0},
    "pfedme": {"name": "pfedme", "strength": 5.0, "local_lr": 0.1, "inner_steps": 5},
    "apfl": {"name": "apfl", "alpha": 0.5},
    "apfl-adaptive": {"name": "apfl", "alpha": 0.5, "adaptive": True},
    "perfedavg": {"name": "perfedavg", "adapt_lr": 0.1},
}
METHODS: dict[str, tuple[str, str]] = {
    "FedAvg: the global model": ("fedavg", "untuned_"),
    "local: every client alone": ("local", ""),
    "FedAvg, fine-tuned for 2 epochs": ("fedavg", ""),
    "FedPer: own head": ("fedper", ""),
    "FedRep: own head, trained first (2 + 1 epochs)": ("fedrep", ""),
    "FedBN: own normalisation": ("fedbn", ""),
    "Ditto, λ = 0.1": ("ditto-0.1", ""),
    "Ditto, λ = 1": ("ditto-1", ""),
    "pFedMe, λ = 5, K = 5, η = 0.1": ("pfedme", ""),
    "APFL, α = 0.5": ("apfl", ""),
    "APFL, adaptive α from 0.5": ("apfl-adaptive", ""),
    "Per-FedAvg, α = 0.1, one step": ("perfedavg", ""),
}
"""Lines of the table: the algorithm, and `untuned_` where its models count as they were before fine-tuning."""

Results = dict[str, dict[str, float]]


def main() -> None:
    """Run what is not known yet, and write the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.parse_args()
    torch.set_num_threads(1)
    for algorithm, state in METHODS.values():
        for lr in RATES:
            found(algorithm, lr, TUNING_SEED)
        for seed in SEEDS:
            found(algorithm, best_rate(known(), algorithm, state), seed)
        write_text(RESULTS.with_suffix(".md"), report(known()))


def known() -> Results:
    """What is kept of earlier runs."""
    kept: Results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return kept


def found(algorithm: str, lr: float, seed: int) -> None:
    """Run what is not known, and keep what came out."""
    kept, key = known(), key_of(algorithm, lr, seed)
    if key not in kept:
        kept[key] = run(algorithm, lr, seed)
        write_text(RESULTS, json.dumps(kept, indent=1) + "\n")
        print(key, kept[key], flush=True)


def key_of(algorithm: str, lr: float, seed: int) -> str:
    """The name of a run."""
    return f"{algorithm} lr={lr} seed={seed}"


def best_rate(kept: Results, algorithm: str, state: str) -> float:
    """The learning rate with the best mean accuracy under the seed that is kept for it."""
    return max(RATES, key=lambda lr: kept[key_of(algorithm, lr, TUNING_SEED)][f"{state}mean"])


def run(algorithm: str, lr: float, seed: int) -> dict[str, float]:
    """Train once: accuracies over the clients at the end, processor seconds, kilobytes of the sum that is sent."""
    client = {**BASE["client"], "optimizer": {"lr": lr}}
    values = {**BASE, "seed": seed, "algorithm": ALGORITHMS[algorithm], "client": client}
    if algorithm == "fedavg":
        values["evaluation"] = {**BASE["evaluation"], "fine_tune": TUNED}
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        try:
            with Simulation(Experiment.parse(values), model=mlp(seed), directory=Path(folder) / "run") as simulation:
                *_, last = simulation
        except (ConfigError, RunError):  # the algorithm refuses the rate, or no client's update is finite
            return {f"{state}mean": 0.0 for state in ("", "untuned_")}
        spent = time.process_time() - began
    names = {
        f"{state}{of}": f"clients/accuracy/{state}{of}" for state in ("", "untuned_") for of in ("mean", "worst10")
    }
    accuracies = {of: last.metrics[name] for of, name in names.items() if name in last.metrics}
    return {**accuracies, "cpu": spent, "kb_up": last.row.transport_up / 1e3}


def mlp(seed: int) -> nn.Module:
    """The model, with first weights of this seed."""
    torch.manual_seed(seed)
    layers = nn.Linear(784, 100), nn.GroupNorm(10, 100), nn.ReLU(), nn.Linear(100, 10)
    return nn.Sequential(nn.Flatten(), *layers)


def report(kept: Results) -> str:
    """The table in Markdown, of all methods that are known under all seeds."""
    lines = [
        "# Personal models on MNIST, two labels a client",
        "",
        *(__doc__ or "").split("\n\n")[1].splitlines(),
        "",
        "    RAYSIM_DATA=… python benchmarks/personalisation.py",
        "",
        f"Accuracies in percent under seeds {', '.join(map(str, SEEDS))}: their mean, lowest and highest.",
        f"Learning rates are the best of {', '.join(map(str, RATES))}; the ends might be surpassed beyond.",
        "CPU is seconds of a whole run on one core, start and evaluation included; KB up is the sum that a lease of 20",
        "clients sends.",
        "",
        "| method | learning rate | mean of clients | worst 10 % of clients | CPU s | KB up |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for title, (algorithm, state) in METHODS.items():
        if not all(key_of(algorithm, lr, TUNING_SEED) in kept for lr in RATES):
            continue
        lr = best_rate(kept, algorithm, state)
        runs = [kept[key] for seed in SEEDS if (key := key_of(algorithm, lr, seed)) in kept]
        if len(runs) == len(SEEDS):
            cells = [percent(runs, f"{state}{of}") for of in ("mean", "worst10")]
            cells += [f"{statistics.mean(one[of] for one in runs):.3g}" for of in ("cpu", "kb_up")]
            lines.append(f"| {title} | {lr} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def percent(runs: list[dict[str, float]], of: str) -> str:
    """Mean, lowest and highest of an accuracy."""
    values = [100 * one[of] for one in runs]
    return f"{statistics.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
