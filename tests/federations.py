"""Small federations that the end-to-end tests share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raysim import Experiment, Simulation
from raysim.config.loading import apply_overrides

DIGITS: dict[str, Any] = {
    "name": "digits",
    "rounds": 4,
    "cohort": 4,
    "data": {"partition": {"name": "dirichlet", "clients": 6, "alpha": 0.3, "min_size": 5}, "holdout": 0.2},
    "model": {"name": "mlp", "hidden": [16]},
    "client": {"batch_size": 10, "optimizer": {"name": "sgd", "lr": 0.1}},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
    "tracking": {"checkpoint_every": 2, "report": False},
}


def digits(tmp_path: Path, *overrides: str) -> Experiment:
    """Six uneven clients on digits."""
    values = apply_overrides(DIGITS, [f"tracking.directory={tmp_path}", *overrides])
    return Experiment.parse(values)


def mnist_shaped(sizes: list[int], seed: int = 0) -> dict[str, Any]:
    """Random uint8 images of MNIST's shape, dealt to natural clients of these sizes, with a test set."""
    generator = np.random.default_rng(seed)
    count = sum(sizes)
    return {
        "x": generator.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8),
        "y": np.concatenate([np.arange(10), generator.integers(0, 10, count - 10)]),
        "x_test": generator.integers(0, 256, (40, 1, 28, 28), dtype=np.uint8),
        "y_test": generator.integers(0, 10, 40),
        "client": np.repeat(np.arange(len(sizes)), sizes),
    }


def sha256(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(
            name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()


def final_sha256(experiment: Experiment, **handed_over: Any) -> str:
    """Train to the end and hash the model."""
    with Simulation(experiment, **handed_over) as simulation:
        simulation.run()
        return sha256(simulation.model())


def broken_off(experiment: Experiment, *, after: int, directory: Path | None = None) -> tuple[Path, str]:
    """Leave a run after a round, resume it to its end, and hash the model; the run directory comes with it."""
    with Simulation(experiment, directory=directory) as simulation:
        for committed in simulation:
            if committed.number == after:
                break
    with Simulation.resume(simulation.directory) as resumed:
        assert resumed.number == after
        resumed.run()
        return resumed.directory, sha256(resumed.model())
