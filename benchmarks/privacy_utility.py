"""Privacy against accuracy where it costs something: DP-FedAvg against DP-FTRL on label-skewed MNIST.

1,000 clients of 54 images of about two digits each (sorted by label, two shards a client), 50 clients in a round, 200
rounds, softmax regression, one epoch of SGD with learning rate 0.1 on batches of 10. DP-FedAvg draws Poisson cohorts,
whose amplification is counted (PLD); DP-FTRL goes round, 20 rounds from one participation to the next, 10 in all,
with the banded square root of 20 bands, or a BLT of at most 4 buffers. delta is 1e-5, neighbours differ in one
client who is there or not. The noise multiplier is the smallest that keeps the last round's epsilon. Every method has
its clip chosen of `CLIPS` at each epsilon by the accuracy on 6,000 held-out images under a seed that is kept for it,
which costs privacy that is not counted, and is then run under the seeds of the table. Without privacy nothing is
clipped.

DP-FedAvg is attacked at some epsilons, without tuning anything anew: is a sample of the training set (by its loss under
the last model), did a client take part in round 50 (by what it would have sent, and how the model changed), and which
images does a client give away, to the server and to those who see models alone.

    RAYSIM_DATA=… python benchmarks/privacy_utility.py

Every finished run is kept in `benchmarks/results/privacy_utility.json`; the table goes beside it, and the picture to
`docs/images/privacy-utility.png`, reconstructed images to `docs/images/privacy-inversion.png`.
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
import pyarrow.compute as pc
from keeping import Kept, table

from raysim import Experiment, Simulation
from raysim.aggregation import Mechanism
from raysim.attacking import attack_model, attack_round, invert_update
from raysim.config.privacy import PrivacyConfig
from raysim.privacy import PrivacyAccount, account_for, sampling_of
from raysim.privacy.attacks import advantage_bound
from raysim.privacy.blt import Blt, optimal_blt
from raysim.privacy.factorisation import banded_square_root
from raysim.tracking import RunDirectory, read_clients
from raysim.tracking.report.groups import interval

KEPT = Kept("privacy_utility")
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "privacy-utility.png"
INVERSIONS = PICTURE.with_name("privacy-inversion.png")
ROUNDS, CLIENTS, COHORT, BANDS = 200, 1000, 50, 20
EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
CLIPS = (0.1, 0.2, 0.4)
TUNING_SEED, SEEDS = 100, (1, 2, 3)
DELTA = 1e-5
ATTACKED, ATTACKED_ROUND, SHOWN = (math.inf, 8.0, 1.0, 0.25), 50, 8
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
        for epsilon in ATTACKED:
            if (clip := chosen_clip(FEDAVG, epsilon)) is not None:
                attacked(epsilon, clip, seed)
    KEPT.page(page() + "\n" + attacks_page())
    draw()
    if given.seeds:
        draw_inversions(given.seeds[0])


def attacked(epsilon: float, clip: float, seed: int) -> dict[str, float]:
    """What attacks on a run of DP-FedAvg reach."""

    def measure() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            run = finished(epsilon, clip, seed, folder)
            samples, clients = attack_model(run), attack_round(run, round=ATTACKED_ROUND)
            public = invert_update(run, client=member(run), round=ATTACKED_ROUND, method="linear", sees="model")
        return {
            "samples_auc": samples.found.auc, "samples_advantage": samples.found.advantage,
            "clients_auc": clients.found.auc, "clients_advantage": clients.found.advantage,
            "clients_members": clients.members, "clients_others": clients.others,
            "error": float(public.error.mean()), "guess": public.guess,
        }  # fmt: skip

    found: dict[str, float] = KEPT.of(f"attacks; {key(FEDAVG, epsilon, clip, seed)}", measure)
    return found


def finished(epsilon: float, clip: float, seed: int, folder: str) -> Path:
    """A run that is attacked, with its table of clients."""
    experiment = setting(FEDAVG, epsilon, clip, seed, folder).updated(["tracking.clients=true"])
    with Simulation(experiment) as simulation:
        simulation.run()
        return Path(simulation.directory)


def member(run: Path) -> int:
    """The first client of the round that is attacked."""
    rows = read_clients(RunDirectory.open(run), ["client"])
    cohorts = (batch.filter(pc.equal(batch["round"], ATTACKED_ROUND))["client"].to_pylist() for batch in rows)
    return int(min(one for cohort in cohorts for one in cohort))


def draw_inversions(seed: int) -> None:
    """A client's images above what is made of its message, and of the change of the model at each epsilon."""
    import matplotlib
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows: list[tuple[str, Any]] = []
    for epsilon in ATTACKED:
        clip = chosen_clip(FEDAVG, epsilon)
        if clip is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            run = finished(epsilon, clip, seed, folder)
            for sees in ("message", "model") if math.isinf(epsilon) else ("model",):
                found = invert_update(
                    run, client=member(run), round=ATTACKED_ROUND, method="linear", sees=sees, most=SHOWN
                )
                rows += [] if rows else [("the client's images", found.originals)]
                whose = "its message" if sees == "message" else "the models"
                rows.append((f"{whose}, ε {'∞' if math.isinf(epsilon) else f'{epsilon:g}'}", found.found))
    figure, axes = pyplot.subplots(len(rows), SHOWN, figsize=(7.2, 0.8 * len(rows)), layout="constrained")
    for line, (label, images) in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
        for ax in line:
            ax.set_axis_off()
        line[0].text(-0.25, 0.5, label, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
    figure.savefig(INVERSIONS, dpi=110)
    Image.open(INVERSIONS).convert("L").save(INVERSIONS, optimize=True)


def attacks_page() -> str:
    """The table of attacks."""
    kept, rows = KEPT.all(), []
    for epsilon in ATTACKED:
        clip = chosen_clip(FEDAVG, epsilon)
        found = [kept[name] for seed in SEEDS
                 if clip is not None and (name := f"attacks; {key(FEDAVG, epsilon, clip, seed)}") in kept]  # fmt: skip
        accuracies = chosen(FEDAVG, epsilon)
        if not found or accuracies is None:
            continue

        def over_seeds(name: str, digits: int = 3, runs: list[Any] = found) -> str:
            values = [run[name] for run in runs]
            half = interval(np.array(values))
            return f"{statistics.mean(values):.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")

        bound = "1" if math.isinf(epsilon) else f"{advantage_bound(epsilon, DELTA):.3f}"
        rows.append([
            f"{epsilon:g}", f"{100 * statistics.mean(accuracies[1]):.1f}", over_seeds("samples_auc"),
            over_seeds("samples_advantage"), over_seeds("clients_auc"), over_seeds("clients_advantage"), bound,
            over_seeds("error"),
        ])  # fmt: skip
    head = ["ε", "test accuracy, %", "AUC, samples", "advantage, samples", "AUC, clients of a round",
            "advantage, clients", "most that ε allows", "error of images"]  # fmt: skip
    return table(head, rows)


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

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
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
    figure.savefig(PICTURE, dpi=120)


if __name__ == "__main__":
    main()
