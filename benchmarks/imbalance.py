"""Methods for classes of unequal size against none: digits whose classes are 50:1, in a federation with skewed labels.

About 400 of the 1,797 digits are left for training, from some 140 of one class down to 3 of another, which classes
being drawn by the seed; 15 clients by a Dirichlet(0.5) draw, 10 a round, 60 rounds of two epochs; a network of one
hidden layer. The 359 test digits are as balanced as ever. All methods have the same learning rate and their default
strength; of one seed they have the same data, clients, cohorts and first weights, so differences are paired.

    python benchmarks/imbalance.py               every method, seeds 0 to 9
    python benchmarks/imbalance.py --methods fedlc fedrs --seeds 0 1

Every finished run is kept in `benchmarks/results/imbalance.json`, so that an interrupted script goes on where it was;
the table is written to `benchmarks/results/imbalance.md`. `smote` needs imbalanced-learn (`pip install
'raysim-fl[imbalance]'`).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from raysim import Experiment, Simulation
from raysim.files import write_text

RESULTS = Path(__file__).parent / "results" / "imbalance.json"
METRICS = ("macro_f1", "balanced_accuracy", "accuracy", "pr_auc")
SETTING: dict[str, Any] = {
    "name": "imbalance",
    "rounds": 60,
    "cohort": 10,
    "data": {
        "source": "digits",
        "imbalance": {"ratio": 50},
        "partition": {"name": "dirichlet", "clients": 15, "alpha": 0.5, "min_size": 5},
    },
    "model": {"name": "mlp", "hidden": [64]},
    "client": {"batch_size": 10, "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
    "training": {"engine": "sequential"},
    "evaluation": {"every": 60, "metrics": list(METRICS)},
    "execution": {"executor": "inprocess"},
}
METHODS: dict[str, tuple[str, ...]] = {
    "none": (),
    "inverse": ("training.class_weights=inverse",),
    "inverse, own counts": ("training.class_weights={name: inverse, scope: client}",),
    "effective": ("training.class_weights={name: effective, beta: 0.99}",),
    "focal": ("training.loss=focal",),
    "adjusted": ("training.logits=adjusted",),
    "fedlc": ("training.logits=fedlc",),
    "fedrs": ("training.logits=fedrs",),
    "balanced": ("client.resampling=balanced",),
    "capped": ("client.resampling={name: capped, ratio: 3}",),
    "images": ("data.augmentation=images",),
    "jitter": ("data.augmentation=jitter",),
    "smote": ("data.augmentation=smote",),
    "adjusted + images": ("training.logits=adjusted", "data.augmentation=images"),
}
"""Overrides of each."""


def main() -> None:
    """Run what was asked for and is not known, and write the table of all that is."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    given = arguments.parse_args()
    known: dict[str, dict[str, float]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in given.seeds:
            for method in given.methods:
                key = f"{method} seed={seed}"
                if key not in known:
                    known[key] = measured(method, seed, folder)
                    print(f"{key}: macro-F1 {known[key]['macro_f1']:.3f}", file=sys.stderr, flush=True)
                    write_text(RESULTS, json.dumps(known, indent=1) + "\n")
    text = f"`{shlex.join(['python', 'benchmarks/imbalance.py', *sys.argv[1:]])}`\n\n{table(known)}"
    write_text(RESULTS.with_suffix(".md"), text)
    print(text)


def measured(method: str, seed: int, folder: str) -> dict[str, float]:
    """The test metrics after the last round."""
    tracking = {"directory": folder, "checkpoint_every": 0, "clients": False, "report": False}
    experiment = Experiment.parse({**SETTING, "seed": seed, "tracking": tracking}).updated(METHODS[method])
    with Simulation(experiment) as simulation:
        found = simulation.run().metrics
    return {name: found[f"test/{name}"] for name in METRICS}


def table(known: dict[str, dict[str, float]]) -> str:
    """Means over the seeds, and paired differences from no method with their 95 % intervals, as Markdown."""
    seeds: dict[str, dict[int, dict[str, float]]] = {}
    for key, value in known.items():
        method, _, seed = key.rpartition(" seed=")
        seeds.setdefault(method, {})[int(seed)] = value
    count = {len(by_seed) for by_seed in seeds.values()}
    lines = [
        f"Means of {' or '.join(map(str, sorted(count)))} seeds after the last round, on the test set; differences "
        "from `none` of the same seed, with their 95 % intervals (Student's t).",
        "",
        "| method | overrides | macro-F1 | difference | balanced accuracy | difference | accuracy | PR-AUC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        by_seed = seeds.get(method, {})
        both = sorted(by_seed.keys() & seeds.get("none", {}).keys())
        if not both:
            continue

        def mean(name: str, runs: dict[int, dict[str, float]] = by_seed, among: list[int] = both) -> str:
            return f"{np.mean([runs[seed][name] for seed in among]):.3f}"

        f1, balanced = (
            "" if method == "none" else difference([by_seed[s][name] - seeds["none"][s][name] for s in both])
            for name in ("macro_f1", "balanced_accuracy")
        )
        options = " ".join(f"`{one}`" for one in METHODS[method])
        lines.append(
            f"| {method} | {options} | {mean('macro_f1')} | {f1} | {mean('balanced_accuracy')} | {balanced} "
            f"| {mean('accuracy')} | {mean('pr_auc')} |"
        )
    return "\n".join(lines) + "\n"


def difference(values: list[float]) -> str:
    """Mean and 95 % interval of paired differences."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return f"{mean:+.3f}"
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return f"{mean:+.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
