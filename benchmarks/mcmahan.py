"""Rounds to a target test accuracy on MNIST, against McMahan et al. 2017 (AISTATS), tables 1 and 2.

100 clients of 600 samples. IID: shuffled. Non-IID: sorted by label, 200 shards of 300, two shards a client. Averages
are weighted by sample counts. As in the paper the client learning rate is tuned for each row, the curve of accuracy
is made monotone (best so far), and the crossing is found by linear interpolation.

    RAYSIM_DATA=… python benchmarks/mcmahan.py 2nn-iid 2nn-noniid cnn-iid

Every finished run is kept in `benchmarks/results/mcmahan.json`, so that an interrupted script goes on where it was;
the table is written to `benchmarks/results/mcmahan.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysim import Experiment, Simulation
from raysim.files import write_text

RESULTS = Path(__file__).parent / "results" / "mcmahan.json"


@dataclass(frozen=True)
class Row:
    """One row of the table: what is trained, to where, and what the paper needed."""

    title: str
    model: dict[str, Any]
    partition: dict[str, Any]
    epochs: int
    target: float
    paper: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    most_rounds: int


TWO_NN = {"name": "mlp", "hidden": [200, 200]}
IID = {"name": "iid", "clients": 100}
NON_IID = {"name": "shards", "clients": 100, "shards_per_client": 2}
ROWS = {
    "2nn-iid": Row("2NN, IID, E=1, B=10, C=0.1", TWO_NN, IID, 1, 0.97, 87, (0.05, 0.1, 0.2), (0, 1, 2), 400),
    "2nn-noniid": Row(
        "2NN, non-IID, E=1, B=10, C=0.1", TWO_NN, NON_IID, 1, 0.97, 664, (0.03, 0.05, 0.1), (0, 1, 2), 2000
    ),
    "cnn-iid": Row("CNN, IID, E=5, B=10, C=0.1", {"name": "cnn"}, IID, 5, 0.99, 20, (0.1, 0.2), (0,), 60),
}


def main() -> None:
    """Run the rows that were asked for, and write the table of all that is known."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("rows", nargs="*", choices=[*ROWS, []], help=f"of {', '.join(ROWS)}; none: only the table")
    arguments.add_argument("--lr", type=float, nargs="+", help="client learning rates to try instead of the row's")
    arguments.add_argument("--seeds", type=int, nargs="+", help="seeds instead of the row's")
    arguments.add_argument("--executor", default="ray", choices=["ray", "inprocess"])
    given = arguments.parse_args()
    for name in given.rows:
        row = ROWS[name]
        seeds = given.seeds or row.seeds
        rates = given.lr or row.learning_rates
        tried = {lr: measure(name, lr, seeds[0], given.executor) for lr in rates}
        best = min(tried, key=lambda lr: tried[lr]["rounds"] or float("inf"))
        for seed in seeds[1:]:
            measure(name, best, seed, given.executor)
    table = as_table()
    write_text(RESULTS.with_suffix(".md"), table)
    print(table)


def measure(name: str, lr: float, seed: int, executor: str) -> dict[str, Any]:
    """Rounds that this row needs with this learning rate and seed; from the file if it was measured before."""
    key = f"{name} lr={lr:g} seed={seed}"
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if key in known:
        return known[key]
    row = ROWS[name]
    began, best, crossing, rounds = time.perf_counter(), 0.0, None, 0
    with tempfile.TemporaryDirectory() as folder, Simulation(setting(row, lr, seed, executor, folder)) as simulation:
        for committed in simulation:
            accuracy, rounds = committed.metrics["test/accuracy"], committed.number
            if accuracy >= row.target:
                crossing = rounds - 1 + (row.target - best) / (accuracy - best)
                break
            best = max(best, accuracy)
            if rounds % 10 == 0 or row.epochs > 1:
                print(f"{key}: round {rounds}, best {best:.4f}", file=sys.stderr, flush=True)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[key] = {
        "rounds": crossing,
        "best": best if crossing is None else row.target,
        "rounds_run": rounds,
        "seconds_per_round": (time.perf_counter() - began) / rounds,
    }
    write_text(RESULTS, json.dumps(known, indent=1) + "\n")
    return known[key]


def setting(row: Row, lr: float, seed: int, executor: str, folder: str) -> Experiment:
    """The experiment of a row."""
    return Experiment.parse(
        {
            "name": "mcmahan",
            "seed": seed,
            "rounds": row.most_rounds,
            "cohort": 0.1,
            "data": {"source": "mnist", "partition": row.partition, "label_histograms": False},
            "model": row.model,
            "client": {"batch_size": 10, "epochs": row.epochs, "optimizer": {"name": "sgd", "lr": lr}},
            "training": {"engine": "auto"},
            "execution": {"executor": executor},
            "tracking": {"directory": folder, "checkpoint_every": 0, "clients": False, "report": False},
        }
    )


def as_table() -> str:
    """Everything measured so far, as Markdown."""
    known: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    lines = [
        "| setting | target | paper | raysim, median | of seeds | client lr | all learning rates tried (seed 0) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        runs: dict[float, dict[int, dict[str, Any]]] = {}
        for key, value in known.items():
            row_name, lr, seed = key.replace("lr=", "").replace("seed=", "").split()
            if row_name == name:
                runs.setdefault(float(lr), {})[int(seed)] = value
        if not runs:
            continue
        most = max(len(by_seed) for by_seed in runs.values())
        chosen = min((lr for lr in runs if len(runs[lr]) == most), key=lambda lr: _median(runs[lr]))
        seeds = ", ".join(_shown(runs[chosen][seed]) for seed in sorted(runs[chosen]))
        tried = "; ".join(f"{lr:g}: {_shown(runs[lr][min(runs[lr])])}" for lr in sorted(runs))
        median = _median(runs[chosen])
        shown = f"{median:.0f}" if median != float("inf") else "not reached"
        lines.append(f"| {row.title} | {row.target:.0%} | {row.paper} | {shown} | {seeds} | {chosen:g} | {tried} |")
    return "\n".join(lines) + "\n"


def _median(by_seed: dict[int, dict[str, Any]]) -> float:
    return statistics.median(run["rounds"] or float("inf") for run in by_seed.values())


def _shown(run: dict[str, Any]) -> str:
    if run["rounds"] is None:
        return f"> {run['rounds_run']} (best {run['best']:.2%})"
    return f"{run['rounds']:.0f}"


if __name__ == "__main__":
    main()
