"""Compression: what it costs a client's processor, and what it saves on the wire.

    python benchmarks/compression.py speed                     ms a client, beside the fold that follows
    RAYSIM_DATA=… python benchmarks/compression.py mnist       rounds and megabytes to 97 % on MNIST

`speed` takes the least processor time of interleaved repetitions on one thread, of 199,210 values (the 2NN of McMahan
et al. 2017) and of 1,663,370 (their CNN). `mnist` is table 2 of that paper, 2NN with E = 1, B = 10, C = 0.1, IID and in
shards of two digits, with learning rate 0.05. Every finished run is kept in `benchmarks/results/compression.json`, so
that an interrupted script goes on where it was; the table goes beside it, the picture to
`docs/images/compression.png`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import Kept, table
from torch import nn

from raysim import Experiment, Simulation
from raysim.aggregation import Field, SendContext, build_aggregation
from raysim.config.server import AggregationConfig
from raysim.training import ParameterLayout

KEPT = Kept("compression")
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "compression.png"
TARGET = 0.97

CODECS: dict[str, Any] = {
    "top-k 1 %": {"name": "topk", "fraction": 0.01},
    "QSGD s=7": "qsgd",
    "int8": "int8",
    "int4": "int4",
    "sign": "sign",
    "majority": "majority",
    "fp16": "fp16",
    "bf16": "bf16",
    "PowerSGD r=4": "powersgd",
}
SPEED: dict[str, dict[str, Any]] = {
    **{name: {"name": "compress", "codec": codec} for name, codec in CODECS.items()},
    "top-k 1 %, EF14": {"name": "compress", "codec": CODECS["top-k 1 %"], "feedback": "ef14"},
    "random-k 10 %": {"name": "randk"},
    "sketch 5 x n/250": {"name": "sketch", "rows": 5},
    "rotation": {"name": "rotate"},
}
METHODS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "top-k 1 %, no feedback": [SPEED["top-k 1 %"]],
    "top-k 1 %, EF14": [SPEED["top-k 1 %, EF14"]],
    "QSGD s=7": [SPEED["QSGD s=7"]],
    "int8": [SPEED["int8"]],
    "sign, EF14": [{**SPEED["sign"], "feedback": "ef14"}],
    "PowerSGD r=4, EF14": [{**SPEED["PowerSGD r=4"], "feedback": "ef14"}],
    "sketch 5 x 8,000": [{"name": "sketch", "rows": 5, "width": 8000, "fraction": 0.002}],
    "top-k 1 %, EF14; int8 down": [SPEED["top-k 1 %, EF14"], {"name": "downlink", "codec": "int8"}],
}
DATA: dict[str, tuple[dict[str, Any], int]] = {
    "IID": ({"name": "iid", "clients": 100}, 300),
    "two digits": ({"name": "shards", "clients": 100, "shards_per_client": 2}, 1500),
}
"""How clients have their samples, and how many rounds are tried."""


def main() -> None:
    """Measure what is asked for."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("what", choices=["speed", "mnist"])
    arguments.add_argument("--only", nargs="*", default=list(DATA), choices=list(DATA), help="mnist: these partitions")
    arguments.add_argument("--show", action="store_true", help="mnist: only the table and the picture")
    given = arguments.parse_args()
    if given.what == "speed":
        print(speed())
        return
    for partition, method in product(given.only, METHODS) if not given.show else ():
        KEPT.of(f"{partition}; {method}", lambda partition=partition, method=method: run(partition, method))
    KEPT.page(page())
    draw()


def speed() -> str:
    """Milliseconds of each stage for one client, and of the fold of its record, as a table."""
    torch.set_num_threads(1)
    networks = [
        nn.Sequential(nn.Linear(784, 200), nn.Linear(200, 200), nn.Linear(200, 10)),
        nn.Sequential(nn.Conv2d(1, 32, 5), nn.Conv2d(32, 64, 5), nn.Linear(3136, 512), nn.Linear(512, 10)),
    ]
    columns = [_speeds(ParameterLayout(network)) for network in networks]
    rows = [
        [name, *(cell for found in columns for cell in (f"{found[name]:.3f}", f"{found[name] / found['a fold']:.2f}"))]
        for name in columns[0]
    ]
    return table(["", "2NN, ms", "folds", "CNN, ms", "folds"], rows)


def _speeds(layout: ParameterLayout) -> dict[str, float]:
    rows = torch.zeros(1, layout.size)
    generator = np.random.default_rng(0)
    for one in layout.segments:
        rows[:, one.start : one.start + one.size] = torch.from_numpy(1e-3 * generator.standard_normal(one.size))
    row = rows.clone()
    calls: dict[str, Callable[[], object]] = {}
    fields = (Field("update", layout.size),)
    plain = build_aggregation(AggregationConfig(), fields, layout)
    weight, place = np.array([0.1]), np.arange(1)
    folding = plain.rule.accumulator(1, torch.device("cpu"))
    folding.fold(place, weight, {"update": rows})  # the first fold of a lease writes, all others add
    number = iter(range(1, 10**9))
    calls["a fold"] = lambda: folding.fold(np.array([next(number)]), weight, {"update": rows})
    for name, options in SPEED.items():
        stage = {**options, "width": layout.count // 250} if options["name"] == "sketch" else options
        calls[name] = _client(stage, layout, row)
    best = dict.fromkeys(calls, np.inf)
    for _ in range(25):
        for name, call in calls.items():
            row.copy_(rows)
            began = time.thread_time()
            call()
            best[name] = min(best[name], 1e3 * (time.thread_time() - began))
    return best


def _client(stage: dict[str, Any], layout: ParameterLayout, row: torch.Tensor) -> Callable[[], object]:
    """The client half of a stage for one client `[1, P]`, all that it keeps included."""
    config = AggregationConfig.model_validate({"stages": [stage]})
    aggregation = build_aggregation(config, (Field("update", layout.size),), layout)
    state = {one.name: torch.zeros(1, one.size) for one in aggregation.client_state()}
    context = SendContext(0, 1, np.arange(1), np.ones(1, np.int64), state=state)
    return lambda: aggregation.client({"update": row}, context)


def run(partition: str, method: str) -> dict[str, list[float]]:
    """Accuracy, and bytes up and down, of each round until the target."""
    split, rounds = DATA[partition]
    found: dict[str, list[float]] = {"accuracy": [], "up": [], "down": []}
    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment.parse(
            {
                "name": "compression",
                "seed": 1,
                "rounds": rounds,
                "cohort": 10,
                "data": {"source": "mnist", "partition": split},
                "model": {"name": "mlp", "hidden": [200, 200]},
                "client": {"optimizer": {"name": "sgd", "lr": 0.05}, "batch_size": 10, "epochs": 1},
                "aggregation": {"stages": METHODS[method]},
                "stop": {"metric": "test/accuracy", "target": TARGET},
                "execution": {"executor": "inprocess"},
                "tracking": {"directory": folder, "report": False, "checkpoint_every": 0},
            }
        )
        with Simulation(experiment) as simulation:
            for committed in simulation:
                found["accuracy"].append(committed.metrics["test/accuracy"])
                found["up"].append(committed.row.wire_up)
                found["down"].append(committed.row.wire_down)
    return found


def page() -> str:
    """Rounds and megabytes to the target of every finished run."""
    rows = []
    for partition, method in product(DATA, METHODS):
        found = KEPT.all().get(f"{partition}; {method}")
        if found is None:
            continue
        accuracy, up, down = (np.array(found[name]) for name in ("accuracy", "up", "down"))
        there = np.flatnonzero(accuracy >= TARGET)
        rounds = f"{there[0] + 1}" if len(there) else f"not in {len(accuracy)} ({accuracy.max():.4f})"
        stop = there[0] + 1 if len(there) else len(accuracy)
        rows.append([partition, method, rounds, *(f"{one[:stop].sum() / 1e6:,.1f}" for one in (up, down))])
    return table(["clients", "method", "rounds to 97 %", "MB up", "MB down"], rows)


def draw() -> None:
    """Accuracy against megabytes up."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    kept = KEPT.all()
    measured = [partition for partition in DATA if any(name.startswith(f"{partition};") for name in kept)]
    figure, axes = plt.subplots(1, len(measured), figsize=(5 * len(measured) + 2, 4), sharey=True, squeeze=False)
    for axis, partition in zip(axes[0], measured, strict=True):
        for method in METHODS:
            if (found := kept.get(f"{partition}; {method}")) is not None:
                axis.plot(np.cumsum(found["up"]) / 1e6, np.maximum.accumulate(found["accuracy"]), label=method)
        axis.axhline(TARGET, color="grey", linewidth=0.5)
        axis.set(title=f"MNIST, 2NN, {partition}", xlabel="megabytes up", xscale="log", ylim=(0.8, 0.98))
    axes[0, 0].set_ylabel("best test accuracy so far")
    axes[0, -1].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
