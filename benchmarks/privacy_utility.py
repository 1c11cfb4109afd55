"""Privacy against accuracy where it costs something: DP-FedAvg against DP-FTRL on label-skewed MNIST.

1,000 clients of 54 images of about two digits each (sorted by label, two shards a client), 50 clients in a round, 200
rounds, softmax regression, one epoch of SGD with learning rate 0.1 on batches of 10. DP-FedAvg draws Poisson cohorts,
whose amplification is counted (PLD); DP-FTRL goes round, 20 rounds from one participation to the next, 10 in all,
with the banded square root of 20 bands, or a BLT of at most 4 buffers. delta is 1e-5, neighbours differ in one
client who is there or not. The noise multiplier is the smallest that keeps the last round's epsilon. Every method has
its clip chosen of `CLIPS` at each epsilon by the accuracy on 6,000 held-out images under a seed that is kept for it,
which costs privacy that is not counted, and is then run under the seeds of the table. Without privacy nothing is
clipped.

    RAYSIM_DATA=… python benchmarks/privacy_utility.py

Every finished run is kept in `benchmarks/results/privacy_utility.json`; the table goes beside it, and the picture to
`docs/images/privacy-utility.png`, with what `benchmarks/privacy_attacks.py` measured.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from keeping import Kept, table

from raysim import Experiment, Simulation
from raysim.aggregation import Mechanism
from raysim.config.privacy import PrivacyConfig
from raysim.privacy import PrivacyAccount, account_for, sampling_of
from raysim.privacy.blt import Blt, optimal_blt
from raysim.privacy.factorisation import banded_square_root
from raysim.tracking.report.groups import interval

KEPT = Kept("privacy_utility")
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "privacy-utility.png"
ROUNDS, CLIENTS, COHORT, BANDS = 200, 1000, 50, 20
EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
CLIPS = (0.1, 0.2, 0.4)
TUNING_SEED, SEEDS = 100, (1, 2, 3)
DELTA = 1e-5
ATTACKED = (math.inf, 8.0, 1.0, 0.25)
FEDAVG = "DP-FedAvg (Poisson)"
METHODS = {
    FEDAVG: ("poisson", {"name": "gaussian"}),
    "DP-FTRL, BLT": ("round_robin", {"name": "blt", "buffers": 4}),
    "DP-FTRL, BSR": ("round_robin", {"name": "bsr", "bands": BANDS}),
    "DP-FTRL, tree": ("round_robin", {"name": "tree"}),
}


def main() -> None:
    """Measure what is missing, and write the table and the picture."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), help="none: only table and picture")
    given = arguments.parse_args()
    for seed in given.seeds:
        for method, epsilon in product(METHODS, EPSILONS):
            clips = (0.0,) if math.isinf(epsilon) else CLIPS
            tuned = {clip: accuracy(method, epsilon, clip, TUNING_SEED)["validation"] for clip in clips}
            accuracy(method, epsilon, max(tuned, key=lambda clip: tuned[clip]), seed)
    KEPT.page(page())
    draw()


def chosen_clip(method: str, epsilon: float) -> float | None:
    """The clip that tuning found; None where something is missing."""
    found = chosen(method, epsilon)
    return None if found is None else found[0]


def accuracy(method: str, epsilon: float, clip: float, seed: int) -> dict[str, float]:
    """Accuracies on the server's sets after the last round."""

    def measure() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder, Simulation(setting(method, epsilon, clip, seed, folder)) as run:
            *_, last = run
        return {part: last.metrics[f"{part}/accuracy"] for part in ("validation", "test")}

    found: dict[str, float] = KEPT.of(key(method, epsilon, clip, seed), measure)
    return found


def key(method: str, epsilon: float, clip: float, seed: int) -> str:
    """What a measurement is kept under."""
    return f"{method}; epsilon {epsilon:g}; clip {clip:g}; seed {seed}"


def setting(method: str, epsilon: float, clip: float, seed: int, folder: str) -> Experiment:
    """The experiment; with an infinite epsilon nothing is clipped or noised."""
    selection, noise = METHODS[method]
    stages: list[dict[str, Any]] = []
    if math.isfinite(epsilon):
        noise = {**noise, "noise_multiplier": multiplier(method, epsilon)}
        stages = [{"name": "clip", "max_norm": clip}, noise]
    return Experiment.parse({
        "name": "privacy-utility",
        "seed": seed,
        "rounds": ROUNDS,
        "cohort": COHORT,
        "selection": selection,
        "data": {"source": "mnist", "partition": {"name": "shards", "clients": CLIENTS}, "validation": 0.1},
        "model": "softmax",
        "client": {"batch_size": 10, "epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        "training": {"engine": "rows", "rows": COHORT, "compile": False},
        "aggregation": {"weights": "uniform", "stages": stages},
        "privacy": {"delta": DELTA} if stages else {},
        "evaluation": {"every": ROUNDS},
        "execution": {"executor": "inprocess"},
        "tracking": {"checkpoint_every": 0, "report": False, "clients": False, "directory": folder},
    })  # fmt: skip


def account(method: str, noise: float) -> PrivacyAccount:
    """What a noise multiplier is worth."""
    selection, _ = METHODS[method]
    experiment = Experiment.parse(
        {"rounds": ROUNDS, "cohort": COHORT, "selection": selection, "data": {"source": "mnist"}}
    )
    sampling = sampling_of(experiment, CLIENTS, COHORT)
    found = account_for([mechanism(method, noise)], sampling, PrivacyConfig(delta=DELTA))
    assert isinstance(found, PrivacyAccount), found
    return found


def mechanism(method: str, noise: float) -> Mechanism:
    """The release of a round."""
    name = METHODS[method][1]["name"]
    if name == "bsr":
        return Mechanism("banded", noise, coefficients=tuple(banded_square_root(BANDS).tolist()))
    if name == "blt":
        blt = matrix()
        return Mechanism("blt", noise, output_scale=blt.output_scale, buf_decay=blt.buf_decay)
    return Mechanism("tree" if name == "tree" else "gaussian", noise)


@cache
def matrix() -> Blt:
    """The BLT of the run, as `blt` finds it."""
    return optimal_blt(ROUNDS, 4, CLIENTS // COHORT, ROUNDS * COHORT // CLIENTS)


@cache
def multiplier(method: str, epsilon: float) -> float:
    """The smallest noise multiplier, to a thousandth, that keeps the last round's epsilon."""
    low, high = 0.4, 400.0
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if account(method, middle).epsilon(ROUNDS) <= epsilon else (middle, high)
    return float(f"{high:.5g}")


def chosen(method: str, epsilon: float) -> tuple[float, list[float]] | None:
    """The clip that tuning found, and the test accuracies of the seeds; None where something is missing."""
    kept = KEPT.all()
    clips = (0.0,) if math.isinf(epsilon) else CLIPS
    tuned = {clip: kept.get(key(method, epsilon, clip, TUNING_SEED)) for clip in clips}
    if any(one is None for one in tuned.values()):
        return None
    best = max(clips, key=lambda clip: tuned[clip]["validation"])
    found = [kept[name]["test"] for seed in SEEDS if (name := key(method, epsilon, best, seed)) in kept]
    return (best, found) if found else None


def page() -> str:
    """The table."""
    rows = []
    for epsilon in EPSILONS:
        cells = [f"{epsilon:g}"]
        for method in METHODS:
            found = chosen(method, epsilon)
            if found is None:
                cells.append("–")
                continue
            clip, values = found
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            how = "" if math.isinf(epsilon) else f" (z {multiplier(method, epsilon):.3g}, S {clip:g})"
            cells.append(f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}{how}")
        rows.append(cells)
    return table(["ε", *METHODS], rows)


def draw() -> None:
    """The picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (axes, attacks) = pyplot.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", width_ratios=(3, 2))
    finite = [epsilon for epsilon in EPSILONS if math.isfinite(epsilon)]
    for number, method in enumerate(METHODS):
        points = [(epsilon, found[1]) for epsilon in finite if (found := chosen(method, epsilon)) is not None]
        means = [100 * statistics.mean(values) for _, values in points]
        spreads = [100 * statistics.pstdev(values) for _, values in points]
        axes.errorbar([epsilon for epsilon, _ in points], means, spreads, marker="o", label=method, color=f"C{number}")
        if (without := chosen(method, math.inf)) is not None and number < 2:
            axes.axhline(100 * statistics.mean(without[1]), color=f"C{number}", linestyle=":", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks(finite, [f"{epsilon:g}" for epsilon in finite])
    axes.set_xlabel("ε (δ = 1e-5); dotted: the same clients without noise")
    axes.set_ylabel("test accuracy, %")
    axes.legend(fontsize=8)
    draw_attacks(attacks)
    figure.savefig(PICTURE, dpi=120)


def draw_attacks(axes: Any) -> None:
    """AUC of attacks on DP-FedAvg, with the interval of the mean over seeds."""
    shown = [epsilon for epsilon in ATTACKED[::-1] if attacked_runs(epsilon)]
    for name, label in (("clients_auc", "clients of a round"), ("samples_auc", "samples")):
        values = [np.array([run[name] for run in attacked_runs(epsilon)]) for epsilon in shown]
        halves = [np.nan_to_num(interval(one)) for one in values]
        axes.errorbar(range(len(shown)), [one.mean() for one in values], halves, marker="o", label=label)
    axes.axhline(0.5, color="0.6", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(shown)), ["∞" if math.isinf(epsilon) else f"{epsilon:g}" for epsilon in shown])
    axes.set_ylim(0.4, 1.05)
    axes.set_xlabel("ε of DP-FedAvg; dotted: chance")
    axes.set_ylabel("AUC of attacks")
    axes.legend(fontsize=8)


def attacked_runs(epsilon: float) -> list[dict[str, float]]:
    """What attacks reached, seed by seed."""
    kept, clip = KEPT.all(), chosen_clip(FEDAVG, epsilon)
    names = [f"attacks; {key(FEDAVG, epsilon, clip, seed)}" for seed in SEEDS if clip is not None]
    return [kept[name] for name in names if name in kept]


if __name__ == "__main__":
    main()
