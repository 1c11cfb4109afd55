"""What a finished round leaves in the object store: nothing but the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from raysim import Experiment, Simulation

pytestmark = pytest.mark.ray

SIZE = 1_000_000


def large_objects(ray: Any) -> int:
    """Objects of a megabyte and more that this driver keeps alive."""
    owned = ray._private.worker.global_worker.core_worker.get_all_reference_counts()
    return sum(size(ray, ray.ObjectRef(bytes.fromhex(name.decode()))) > SIZE for name in owned)


def size(ray: Any, kept: Any) -> int:
    """Bytes of one object; none of one that was given up since it was listed: Ray then knows no owner of it."""
    try:
        where = ray.experimental.get_object_locations([kept])
    except ValueError:
        return 0
    return where[kept]["object_size"] or 0


def test_the_partial_sums_of_finished_rounds_leave_the_object_store(tmp_path: Path, ray_session: Any) -> None:
    x = np.random.default_rng(0).standard_normal((8, 1000), dtype=np.float32)
    experiment = Experiment.parse(
        {
            "rounds": 6,
            "cohort": 4,
            "data": {"partition": {"name": "natural"}, "test": 0.0},
            "client": {"steps": 1},
            "training": {"engine": "sequential"},
            "execution": {"executor": "ray", "actors": 2},
            "evaluation": {"every": 0},
            "tracking": {"directory": str(tmp_path), "report": False, "checkpoint_every": 0},
        }
    )
    data = {"x": x, "y": np.arange(8) % 2, "client": np.arange(8)}
    with Simulation(
        experiment, model=nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 2)), data=data
    ) as simulation:
        counts = [large_objects(ray_session) for _ in simulation]
    assert len(counts) == 6
    assert max(counts) <= 8  # two rounds' models and sums, however many rounds there were
