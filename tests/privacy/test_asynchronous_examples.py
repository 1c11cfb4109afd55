"""Epsilon of single samples in asynchronous runs, beside trips that are counted one by one, and dp-accounting."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant

from raysim import Experiment, Simulation
from raysim.auditing import private_clients
from raysim.tracking import RunDirectory, read_clients, read_rounds

NOISE, BATCH, STEPS, DELTA = 4.0, 8, 2, 1e-5


def experiment(folder: Path, timetable: dict[str, Any]) -> Experiment:
    """Six clients of unlike speed: the fast ones make many trips, some twice in a step; slow ones come too late."""
    return Experiment.parse(
        {
            "rounds": 12,
            "cohort": 6,
            "data": {"source": "digits", "partition": {"name": "iid", "clients": 6}, "test": 0.1},
            "model": "softmax",
            "client": {"batch_size": BATCH, "steps": STEPS, "privacy": {"clip": 1.0, "noise_multiplier": NOISE}},
            "training": {"engine": "sequential"},
            "systems": {"fleet": {"name": "log_normal", "speed": 1.0, "sigma": 1.5}, "timetable": timetable},
            "evaluation": {"every": 0},
            "privacy": {"delta": DELTA},
            "execution": {"executor": "inprocess"},
            "tracking": {"directory": str(folder), "report": False, "checkpoint_every": 0},
        }
    )


@lru_cache
def epsilon(samples: int, trips: int) -> float:
    """Of one sample of a client, by dp-accounting's own accountant."""
    accountant = PLDAccountant()
    accountant.compose(PoissonSampledDpEvent(BATCH / samples, GaussianDpEvent(NOISE)), trips * STEPS)
    found: float = accountant.get_epsilon(DELTA)
    return found


@pytest.mark.parametrize(
    "timetable",
    [
        {"name": "fedbuff", "buffer": 5, "in_flight": 5, "max_staleness": 1},
        {"name": "fedasync", "in_flight": 4, "max_staleness": 4},
    ],
    ids=["fedbuff", "fedasync"],
)
def test_every_trip_of_a_client_counts_whatever_it_started_from(tmp_path: Path, timetable: dict[str, Any]) -> None:
    with Simulation(experiment(tmp_path, timetable)) as simulation:
        simulation.run()
    run, planned = RunDirectory.open(simulation.directory), simulation._prepared.timetable
    assert planned is not None
    sizes, arrived, twice = dict[int, int](), Counter[int](), False
    for batch in read_clients(run, ["client", "samples"]):
        sizes |= dict(zip(*(batch[name].to_pylist() for name in ("client", "samples")), strict=True))
    trips_after: list[int] = []
    for plan in islice(planned.plans(), 12):
        arrived.update(plan.clients.tolist())
        arrived.update(plan.late.tolist())
        twice |= len(set(plan.clients.tolist())) < len(plan.clients)
        trips_after.append(max(arrived.values()))
    late = sum(len(plan.late) for plan in islice(planned.plans(), 12))
    assert late, "what came too late has reached the server too"
    assert twice or timetable["name"] == "fedasync", "n trips of a client in one step count n, and not n²"
    recorded = read_rounds(run)["privacy/example_epsilon"].to_pylist()
    fewest = min(sizes.values())
    for number in (4, 11):
        assert recorded[number] == pytest.approx(epsilon(fewest, trips_after[number]), rel=5e-3), number
    each = private_clients(run.path, DELTA)
    assert dict(zip(each.clients.tolist(), each.rounds.tolist(), strict=True)) == dict(arrived)
    expected = [epsilon(n, arrived[c]) for c, n in zip(each.clients.tolist(), each.samples.tolist(), strict=True)]
    assert each.epsilon == pytest.approx(expected, rel=5e-3)
    assert recorded[-1] >= each.epsilon.max() * (1 - 5e-3), "before the run it holds for every client"
