"""q-FedAvg and TERM on Synthetic(1, 1) with 100 devices (Li, Sanjabi, Beirami & Smith 2020, table 1).

Softmax regression, SGD with learning rate 0.1 and batches of 10, one epoch, 10 devices a round. A tenth of each
device's samples is held out, and accuracy measured on it: mean over devices, mean of the worst tenth, variance over
devices (in points squared), after the last round. As in the authors' code, the devices of a round are drawn without
replacement in proportion to their samples, and count the same in the average; q = 0 is FedAvg.

    python benchmarks/fairness.py

The paper's numbers, as remembered, unverified: q=0 mean 80.8, worst tenth 18.8, variance 724; q=1 79.0, 31.1, 472.
What is tested is the ordering.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

from keeping import Kept, mean, signs, table

from raysim import Experiment, Simulation

KEPT = Kept("fairness")
SEEDS = (0, 1, 2)
HORIZONS = (500, 2000)
LAST = 5
ALGORITHMS: dict[str, Any] = {
    "FedAvg (q=0)": "fedavg",
    "q-FedAvg, q=1": {"name": "qfedavg", "q": 1.0},
    "q-FedAvg, q=2": {"name": "qfedavg", "q": 2.0, "low": 0.01},
    "TERM, t=1": {"name": "term", "t": 1.0},
}
FEDAVG = "FedAvg (q=0)"
PAPER = {FEDAVG: "80.8 / 18.8 / 724", "q-FedAvg, q=1": "79.0 / 31.1 / 472"}
MEASURED = ("mean", "worst10", "best10", "variance", "gini", "jain")


def main() -> None:
    """Measure what is missing, and write the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), help="none: only the table")
    arguments.add_argument("--rounds", type=int, default=HORIZONS[0], choices=HORIZONS)
    arguments.add_argument("--only", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    given = arguments.parse_args()
    for seed in given.seeds:
        for name in given.only:
            KEPT.of(key(name, given.rounds, seed), lambda name=name, seed=seed: measure(name, given.rounds, seed))
            KEPT.page(page())
    KEPT.page(page())


def key(name: str, rounds: int, seed: int) -> str:
    """What a measurement is kept under."""
    return f"{name}; {rounds} rounds; seed {seed}"


def measure(name: str, rounds: int, seed: int) -> dict[str, float]:
    """Accuracy over devices, mean of the last evaluations (they are ten rounds apart)."""
    with tempfile.TemporaryDirectory() as folder:
        setting = {
            "name": "fairness",
            "seed": seed,
            "rounds": rounds,
            "cohort": 10,
            # By size; as many candidates as take part, so that no loss decides.
            "selection": {"name": "power_of_choice", "candidates": 10},
            "data": {
                "source": {"name": "synthetic", "clients": 100, "alpha": 1.0, "beta": 1.0},
                "partition": "natural",
                "holdout": 0.1,
                "cache": folder,
            },
            "model": "softmax",
            "client": {"optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 10, "epochs": 1},
            "algorithm": ALGORITHMS[name],
            "aggregation": {"weights": "uniform"},
            "training": {"engine": "rows", "rows": 10, "compile": True},
            "evaluation": {"every": 0, "clients_every": 10},
            "execution": {"executor": "inprocess"},
            "tracking": {"directory": folder, "checkpoint_every": 0, "clients": False, "report": False},
        }
        with Simulation(Experiment.parse(setting)) as simulation:
            measured = [committed.metrics for committed in simulation]
    found = [metrics for metrics in measured if "clients/accuracy/mean" in metrics][-LAST:]
    values = {what: mean(one[f"clients/accuracy/{what}"] for one in found) for what in MEASURED if what != "variance"}
    values["variance"] = mean((100 * one["clients/accuracy/std"]) ** 2 for one in found)
    return values


def page() -> str:
    """Everything measured so far, as Markdown."""
    known, rows, pairs = KEPT.all(), [], []

    def of(name: str, rounds: int, what: str) -> dict[int, float]:
        found = {seed: known.get(key(name, rounds, seed)) for seed in SEEDS}
        return {seed: value[what] for seed, value in found.items() if value is not None}

    for rounds in HORIZONS:
        for name in ALGORITHMS:
            seeds = of(name, rounds, "mean")
            if not seeds:
                continue
            points = [f"{100 * mean(of(name, rounds, what).values()):.1f}" for what in ("mean", "worst10", "best10")]
            indices = [f"{mean(of(name, rounds, what).values()):.3f}" for what in ("gini", "jain")]
            variance = f"{mean(of(name, rounds, 'variance').values()):.0f}"
            rows.append([str(rounds), name, str(len(seeds)), *points, variance, *indices, PAPER.get(name, "–")])
            if name != FEDAVG:
                cells = []
                for what, factor in (("mean", 100), ("worst10", 100), ("variance", 1)):
                    mine, plain = of(name, rounds, what), of(FEDAVG, rounds, what)
                    differences = [factor * (mine[seed] - plain[seed]) for seed in mine if seed in plain]
                    cells.append(f"{mean(differences):+.1f} ({signs(differences)})")
                pairs.append([str(rounds), name, *cells])
    measured = ["mean", "worst 10 %", "best 10 %", "variance", "Gini", "Jain"]
    return "\n".join(
        [
            "# Fairness on Synthetic(1, 1), 100 devices",
            "",
            "`python benchmarks/fairness.py [--rounds 2000]`; the setting is in its first lines.",
            "",
            f"Accuracy over devices, in points: mean of the last {LAST} evaluations, ten rounds apart, and of seeds.",
            "",
            table(["rounds", "", "seeds", *measured, "paper: mean / worst / variance"], rows),
            "Against FedAvg on the same seed:",
            "",
            table(["rounds", "", "mean", "worst 10 %", "variance"], pairs),
            REMARKS,
        ]
    )


REMARKS = """\
The direction is the paper's in two of three: q=1 lowers the variance, at a cost to the mean. The third, a worst
tenth that gains, cannot be seen: it is at 0 either way (two fifths of the devices hold out six samples or fewer).
And the level is far below the paper's 80.8, after 500 rounds instead of the 20,000 that the authors suggest. More
rounds alone may not explain it: with uniform draws and averages weighted by samples, on seed 0, FedAvg came to 48.7
after 1000 rounds (variance 1439; q=1: 52.1 and 1356, so there the mean gained) and to 49.5 after 4000. Who counts
how much moves it: in that setting, after 500 rounds, accuracy over samples was 87.4 and over devices 49.9, from
22.5 for the fifth with the smallest devices to 89.9 for that with the largest; with uniform draws and uniform
averages 84.7 over samples and 77.6 over devices. So the ordering of mean and variance is reproduced, the level is
not.
"""

if __name__ == "__main__":
    main()
