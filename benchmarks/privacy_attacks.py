"""What attacks on DP-FedAvg reach at some epsilons of `benchmarks/privacy_utility.py`, beside its accuracy.

The runs are those of its table, with the clip that was chosen there; nothing is tuned anew. Is a sample of the training
set (by its loss under the last model)? Did a client take part in round 50 (by what it would have sent, and how the
model changed)? Which images does a client give away, to the server and to those who see models alone?

    RAYSIM_DATA=… python benchmarks/privacy_attacks.py

Measurements are kept in `benchmarks/results/privacy_utility.json`; the table goes to `privacy_attacks.md` beside it,
reconstructed images to `docs/images/privacy-inversion.png`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from keeping import RESULTS, table
from privacy_utility import (
    ATTACKED,
    DELTA,
    FEDAVG,
    KEPT,
    PICTURE,
    SEEDS,
    attacked_runs,
    chosen,
    chosen_clip,
    key,
    setting,
)

from raysim import Simulation
from raysim.attacking import attack_model, attack_round, invert_update
from raysim.files import write_text
from raysim.privacy.attacks import advantage_bound
from raysim.tracking import RunDirectory, read_clients
from raysim.tracking.report.groups import interval

ROUND, SHOWN = 50, 8
INVERSIONS = PICTURE.with_name("privacy-inversion.png")


def main() -> None:
    """Measure what is missing, and write the table and the picture."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS), help="none: only the table")
    given = arguments.parse_args()
    for seed in given.seeds:
        for epsilon in ATTACKED:
            if (clip := chosen_clip(FEDAVG, epsilon)) is not None:
                attacked(epsilon, clip, seed)
    write_text(RESULTS / "privacy_attacks.md", attacks_page())
    print(attacks_page())
    if given.seeds:
        draw_inversions(given.seeds[0])


def attacked(epsilon: float, clip: float, seed: int) -> dict[str, float]:
    """What attacks on a run of DP-FedAvg reach."""

    def measure() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            run = finished(epsilon, clip, seed, folder)
            samples, clients = attack_model(run), attack_round(run, round=ROUND)
            public = invert_update(run, client=member(run), round=ROUND, method="linear", sees="model")
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
    cohorts = (batch.filter(pc.equal(batch["round"], ROUND))["client"].to_pylist() for batch in rows)
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
                found = invert_update(run, client=member(run), round=ROUND, method="linear", sees=sees, most=SHOWN)
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
    rows = []
    for epsilon in ATTACKED:
        found = attacked_runs(epsilon)
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


if __name__ == "__main__":
    main()
