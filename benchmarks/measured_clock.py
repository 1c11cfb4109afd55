"""Two virtual clocks on the same federation: one that measures a step's seconds, and one that computes them.

    pip install --target FOLDER --no-deps appfl colorama omegaconf antlr4-python3-runtime==4.9.3 lz4 zstd blosc opacus
    PYTHONPATH=FOLDER python benchmarks/measured_clock.py

`vsim` of APPFL 1.12.0 takes the seconds of a local step from the trainer's own clock, unless `base_step_time` is given.
Both simulators train softmax regression on digits, 12 clients of equal size of which three, five and four are 1, 2 and
4 times slower, asynchronously with 6 clients in flight and mixing 0.6 / sqrt(1 + staleness), for 40 updates of 10
steps: on the machine as it is, and again beside four processes that do nothing but compute. Each run is a process of
its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from keeping import Kept, table

KEPT = Kept("measured_clock")
FACTORS = [1.0] * 3 + [2.0] * 5 + [4.0] * 4
UPDATES, STEPS, IN_FLIGHT, BATCH, RATE = 40, 10, 6, 10, 0.1
STEP_SECONDS = 1e-3
BUSY = 4
"""Processes that compute beside a run."""
MODEL = "import torch\n\n\nclass Softmax(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(64, 10)\n"
METRIC = "def accuracy(true, predicted):\n    return float((true == predicted.argmax(-1)).mean())\n"


def main() -> None:
    """Run each simulator twice, or one of them for the parent process."""
    if len(sys.argv) > 1:
        print(json.dumps(SIMULATORS[sys.argv[1]]()))
        return
    if importlib.util.find_spec("appfl") is None:
        print("skipped: appfl is not installed; see the first lines of this file")
        return
    found: dict[str, Any] = {}
    for name in SIMULATORS:
        alone = _run(name)
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
        try:
            found[name] = [alone, _run(name)]
        finally:
            for one in others:
                one.kill()
    KEPT.put("runs", found)
    KEPT.page(page(found))


def _run(name: str) -> Any:
    done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def page(found: dict[str, Any]) -> str:
    """What both runs of each came to."""
    rows = []
    for name, (alone, beside) in found.items():
        same = ["the same" if alone[key] == beside[key] else "others" for key in ("order", "model")]
        seconds = [f"{one['seconds']:.4f}" for one in (alone, beside)]
        rows.append([name, *seconds, *same])
    return table(["", "virtual seconds, first run", "second run", "order of arrivals", "model"], rows)


def _data() -> tuple[Any, Any]:
    """Digits dealt to the clients, `[clients, n, 64]` and `[clients, n]`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    n = len(digits.target) // len(FACTORS)
    order = np.random.default_rng(0).permutation(len(digits.target))[: n * len(FACTORS)].reshape(len(FACTORS), n)
    return (digits.data[order] / 16).astype(np.float32), digits.target[order]


def measured(step_seconds: float | None) -> Callable[[], dict[str, Any]]:
    """A run of APPFL's asynchronous driver; `step_seconds` None is what it measures."""

    def run() -> dict[str, Any]:
        for name in ("piq", "torchvision", "seaborn"):  # of reports and data sets that nothing here asks for
            if importlib.util.find_spec(name) is None:
                sys.modules[name] = types.ModuleType(name)
        import torch
        from appfl.agent import SimClientAgent, SimServerAgent
        from appfl.vsim import AsyncSimDriver, ClientProfile

        torch.manual_seed(0)
        logging.disable(logging.CRITICAL)
        x, y = _data()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "softmax.py"
            path.write_text(MODEL, encoding="utf-8")
            metric = Path(folder) / "metric.py"
            metric.write_text(METRIC, encoding="utf-8")
            config = _appfl_config(path, metric, folder)
            server = SimServerAgent(json.loads(json.dumps(config)), num_clients=len(FACTORS))
            clients, profiles = [], {}
            for client, factor in enumerate(FACTORS):
                own = torch.utils.data.TensorDataset(torch.from_numpy(x[client]), torch.from_numpy(y[client]))
                given = json.loads(json.dumps(config))
                clients.append(SimClientAgent(given, client_id=str(client), client_dataset=own))
                server.set_sample_size(str(client), len(own))
                profiles[str(client)] = ClientProfile(compute_factor=factor, bandwidth=0.0)
            driver = AsyncSimDriver(
                server, clients, profiles, IN_FLIGHT, logging.getLogger("vsim"), seed=0, base_step_time=step_seconds
            )
            driver.run()
            model = server.get_parameters(serial_run=True)
        values = np.concatenate([one.detach().numpy().ravel() for _, one in sorted(model.items())])
        arrivals = [one["cid"] for one in driver.history]
        return {"seconds": driver.virtual_time, "order": arrivals, "model": hashlib.sha256(values).hexdigest()}

    return run


def _appfl_config(model: Path, metric: Path, folder: str) -> dict[str, Any]:
    return {
        "model_configs": {"model_path": str(model), "model_name": "Softmax"},
        "log_configs": {"logging_output_dirname": folder},
        "server_configs": {"optimize_memory": False},
        "algorithm_configs": {
            "num_global_epochs": UPDATES,
            "scheduler": "AsyncScheduler",
            "scheduler_kwargs": {"num_clients": len(FACTORS), "same_init_model": True},
            "aggregator": "FedAsyncAggregator",
            "aggregator_kwargs": {
                "optimize_memory": False,
                "client_weights_mode": "equal",
                "alpha": 0.6,
                "staleness_fn": "polynomial",
                "staleness_fn_kwargs": {"a": 0.5},
            },
            "trainer": "VanillaTrainer",
            "trainer_kwargs": {
                "optimize_memory": False,
                "mode": "step",
                "num_local_steps": STEPS,
                "optim": "SGD",
                "optim_args": {"lr": RATE},
                "loss_fn": "CrossEntropyLoss",
                "train_batch_size": BATCH,
                "do_validation": False,
                "metric_path": str(metric),
                "metric_name": "accuracy",
            },
        },
    }


def computed() -> dict[str, Any]:
    """A run of raysim on the same clients."""
    import pyarrow.parquet as pq

    from raysim import Experiment, Simulation

    x, y = _data()
    with tempfile.TemporaryDirectory() as folder:
        devices = Path(folder) / "devices.csv"
        rows = [f"{client},{1 / (STEP_SECONDS * factor)}" for client, factor in enumerate(FACTORS)]
        devices.write_text("\n".join(["device,speed", *rows]), encoding="utf-8")
        experiment = Experiment.parse(
            {
                "name": "measured-clock",
                "rounds": UPDATES,
                "data": {"partition": {"name": "natural"}, "test": 0.0},
                "model": "softmax",
                "client": {"steps": STEPS, "batch_size": BATCH, "optimizer": {"name": "sgd", "lr": RATE}},
                "systems": {
                    "fleet": {"name": "trace", "path": str(devices), "assign": "in_order"},
                    "timetable": {"name": "fedasync", "mixing": 0.6, "in_flight": IN_FLIGHT},
                },
                "execution": {"executor": "inprocess"},
                "tracking": {"directory": folder, "report": False},
            }
        )
        owners = np.repeat(np.arange(len(FACTORS)), x.shape[1])
        data = {"x": x.reshape(-1, 64), "y": y.reshape(-1), "client": owners}
        with Simulation(experiment, data=data) as simulation:
            simulation.run()
            values = np.concatenate([one.detach().numpy().ravel() for one in simulation.model().parameters()])
        seconds = pq.read_table(simulation.directory / "rounds.parquet")["virtual/seconds"][-1].as_py()
        arrivals = pq.read_table(simulation.directory / "clients.parquet")["client"].to_pylist()
    return {"seconds": seconds, "order": arrivals, "model": hashlib.sha256(values).hexdigest()}


SIMULATORS: dict[str, Callable[[], dict[str, Any]]] = {
    "APPFL vsim, measured (the default)": measured(None),
    "APPFL vsim, base_step_time": measured(STEP_SECONDS),
    "raysim": computed,
}


if __name__ == "__main__":
    main()
