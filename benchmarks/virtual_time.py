"""Virtual time: published durations of timetables, what planning takes, and rounds against asynchronous steps on MNIST.

    python benchmarks/virtual_time.py plans         durations, staleness, seconds and memory of planning
    python benchmarks/virtual_time.py training      2NN on McMahan's non-IID MNIST to 95 %, needs $RAYSIM_DATA/mnist

NVFlare's edge example has 16 devices of three kinds (mean 100, 200 and 400 s, Gaussian with a standard deviation of 4)
and 5 s of communication: an asynchronous step waits (100 + 200 + 400) / 3 + 5 = 238.3 s in the mean, a synchronous
round for the largest of three slow devices, 400 + 3/2 π^-1/2 4 + 5 = 408.4 s. Mean staleness with M clients in flight
and K updates a step is (M - 1) / K. On MNIST a trip of the median device takes one virtual second; speeds are log-
normal. The model is evaluated after every 50 updates, with 400 clients after every 100. Of those each has 150 samples:
300 in flight take more than the 100 clients of the paper.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from keeping import Kept, table

from raysim import Experiment, Simulation
from raysim.config.systems import SystemsConfig
from raysim.execution.preparation.prepare import prepare_job
from raysim.systems import Buffered, Fleet, FleetTimetable, Load, Rounds, build_fleet

KEPT = Kept("virtual_time")
TARGET = 0.95
SIGMAS = (0.0, 0.5, 1.0)
IN_FLIGHT = (10, 30, 100)
MANY = 400
"""Clients of the federation that 300 in flight take."""
MOST_STEPS = {"fedasync": 4000}
SEEDS, TRIPS = 4_000, 20_000
EDGE = SystemsConfig.model_validate(
    {
        "fleet": {
            "name": "tiers",
            "tiers": [
                {"share": 1 / 3, "speed": 1 / mean, "latency": 2.5, "deviation": 4.0} for mean in (100.0, 200.0, 400.0)
            ],
        }
    }
)
TIMETABLES: dict[str, dict[str, Any]] = {
    "synchronous": {"name": "synchronous"},
    "over-selection 1.3": {"name": "over_selection", "factor": 1.3},
    **{f"FedBuff, {m} in flight": {"name": "fedbuff", "buffer": 10, "in_flight": m} for m in IN_FLIGHT},
    **{f"FedAsync, {m} in flight": {"name": "fedasync", "in_flight": m} for m in IN_FLIGHT[:2]},
    f"{MANY} clients: synchronous": {"name": "synchronous"},
    **{f"{MANY} clients: FedBuff, {m} in flight": {"name": "fedbuff", "buffer": 10, "in_flight": m} for m in (30, 300)},
}


def main() -> None:
    """Measure what is missing, and write the page."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "what", nargs="+", choices=["plans", "training", "page"], help="what to measure, or to write"
    )
    arguments.add_argument("--only", nargs="+", choices=list(TIMETABLES), default=list(TIMETABLES))
    given = arguments.parse_args()
    if "plans" in given.what:
        measure_plans()
    if "training" in given.what:
        for name in given.only:
            for sigma in SIGMAS:
                KEPT.of(key(name, sigma), lambda name=name, sigma=sigma: train(name, sigma))
                KEPT.page(page())
    KEPT.page(page())


def key(name: str, sigma: float) -> str:
    """What a training is kept under."""
    return f"{name}; sigma {sigma:g}"


def measure_plans() -> None:
    """Durations and staleness by planning alone, and what planning takes."""
    KEPT.of("edge", edge)
    for in_flight, buffer in ((30, 10), (50, 10), (10, 10), (30, 1), (300, 10)):
        KEPT.of(f"staleness {in_flight}/{buffer}", lambda m=in_flight, k=buffer: staleness(m, k))
    KEPT.put("planning", planning())
    KEPT.page(page())


def edge() -> dict[str, float]:
    """Mean trip and mean round of NVFlare's devices, over fleets of many seeds; and what planning takes."""
    kind = EDGE.to_dict()["fleet"]["tiers"][2] | {"share": 1.0}
    slow = SystemsConfig.model_validate({"fleet": {"name": "tiers", "tiers": [kind]}})
    trips, rounds, of_three, updates = [], [], [], []
    for seed in range(SEEDS):
        fleet = build_fleet(EDGE, seed, 16)
        trips.append(fleet.trips(np.arange(16), _ones(16), 1, 0.0).ends)
        rounds.append(_ends(_everyone(fleet), 1))
        of_three.append(_ends(_everyone(build_fleet(slow, seed, 3)), 1))
        if seed < SEEDS // 100:
            updates.append(_ends(Buffered(fleet, _ones(16), seed, 1, 16), 160) / 10)
    fleet = build_fleet(EDGE, 0, 16)
    trips += [build_fleet(EDGE, seed, 16).trips(np.arange(16), _ones(16), 1, 0.0).ends for seed in range(SEEDS, TRIPS)]
    return {
        "trip": float(np.mean(trips)),
        "round": float(np.mean(rounds)),
        "round of three slow": float(np.mean(of_three)),
        "sixteen updates": float(np.mean(updates)),
        "milliseconds of ten rounds": _milliseconds(_everyone(fleet), 10),
        "milliseconds of 160 updates": _milliseconds(Buffered(fleet, _ones(16), 0, 1, 16), 160),
    }


def _ones(population: int) -> Load:
    return Load(np.ones(population, dtype=np.int64))


def _everyone(fleet: Fleet) -> Rounds:
    everyone = np.arange(fleet.population)
    return Rounds(fleet, _ones(fleet.population), lambda step: everyone)


def _ends(timetable: FleetTimetable, steps: int) -> float:
    return next(islice(timetable.plans(), steps - 1, None)).at


def _milliseconds(timetable: FleetTimetable, steps: int) -> float:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        _ends(timetable, steps)
        took.append(1000 * (time.perf_counter() - began))
    return min(took)


def staleness(in_flight: int, buffer: int) -> dict[str, float]:
    """Mean and largest staleness over 3,000 steps after the first 1,000, log-normal speeds of sigma 1."""
    config = SystemsConfig.model_validate({"fleet": {"name": "log_normal", "speed": 1.0, "sigma": 1.0}})
    fleet = build_fleet(config, 0, 1000)
    timetable = Buffered(fleet, Load(np.ones(1000, dtype=np.int64)), 0, buffer, in_flight, cap=100_000)
    found = np.concatenate([plan.staleness for plan in islice(timetable.plans(1000), 3000)])
    return {"mean": float(found.mean()), "largest": int(found.max())}


def planning(population: int = 10**6, steps: int = 10**4) -> dict[str, float]:
    """Seconds and memory of a timetable of many steps over many devices."""
    config = SystemsConfig.model_validate({"fleet": {"name": "log_normal", "speed": 1.0, "sigma": 1.0}})
    before, began = _memory(), time.perf_counter()
    fleet = build_fleet(config, 0, population)
    built, work = time.perf_counter() - began, Load(np.ones(population, dtype=np.int64))
    timetable = Buffered(fleet, work, 0, 10, 300)
    plans = timetable.plans()
    began = time.perf_counter()
    next(islice(plans, steps // 10 - 1, None))
    early = _memory()
    next(islice(plans, steps - steps // 10 - 1, None))
    return {
        "fleet seconds": built,
        "seconds": time.perf_counter() - began,
        "MiB before": before,
        "MiB after a tenth": early,
        "MiB after all": _memory(),
    }


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def setting(name: str, sigma: float, folder: str) -> dict[str, Any]:
    """The experiment: McMahan's 2NN on shards of two digits."""
    timetable, many = TIMETABLES[name], name.startswith(f"{MANY} clients")
    clients, speed = (MANY, 15.0) if many else (100, 60.0)
    every = 10 if many else 50 if timetable["name"] == "fedasync" else 5
    return {
        "name": "virtual-time",
        "rounds": MOST_STEPS.get(timetable["name"], 2000 if many else 600),
        "cohort": 10,
        "data": {"source": "mnist", "partition": {"name": "shards", "clients": clients, "shards_per_client": 2}},
        "model": {"name": "mlp", "hidden": [200, 200]},
        "client": {"optimizer": {"name": "sgd", "lr": 0.05}, "batch_size": 10, "epochs": 1},
        "systems": {"fleet": {"name": "log_normal", "speed": speed, "sigma": sigma}, "timetable": timetable},
        "training": {"engine": "rows", "rows": 10, "compile": False},
        "evaluation": {"every": every},
        "stop": {"metric": "test/accuracy", "target": TARGET},
        "execution": {"executor": "inprocess"},
        "tracking": {"directory": folder, "checkpoint_every": 0, "clients": False, "report": False},
    }


def train(name: str, sigma: float) -> dict[str, Any]:
    """Steps, virtual seconds and client trips until the target; the last accuracy where it is not reached."""
    if name.endswith("synchronous") and (known := _trained_already(name, sigma)) is not None:
        return known
    with tempfile.TemporaryDirectory() as folder:
        trips, last, accuracy = 0.0, {}, 0.0
        with Simulation(Experiment.parse(setting(name, sigma, folder))) as simulation:
            for committed in simulation:
                last = committed.metrics
                trips += committed.row.cohort + last["virtual/late"]
                accuracy = last.get("test/accuracy", accuracy)
            number = committed.number
    return {
        "reached": accuracy >= TARGET,
        "accuracy": accuracy,
        "steps": number,
        "virtual seconds": last["virtual/seconds"],
        "trips": trips,
    }


def _trained_already(name: str, sigma: float) -> dict[str, Any] | None:
    """The same rounds with other devices: where all wait for all, devices change the time alone, and no bit."""
    known = [KEPT.all()[key(name, one)] for one in SIGMAS if key(name, one) in KEPT.all()]
    if not known:
        return None
    with tempfile.TemporaryDirectory() as folder:
        timetable = prepare_job(Experiment.parse(setting(name, sigma, folder))).timetable
    assert timetable is not None
    return known[0] | {"virtual seconds": _ends(timetable, known[0]["steps"])}


def page() -> str:
    """The tables of what there is."""
    known = KEPT.all()
    return "\n".join(["# Virtual time\n", *_edge_page(known), *_planning_page(known), *_training_page(known)])


def _edge_page(known: dict[str, Any]) -> Iterator[str]:
    if "edge" not in known:
        return
    found = known["edge"]
    rows = [
        ["mean trip, asynchronous", "238.3", f"{found['trip']:.1f}"],
        ["synchronous round, largest of three slow devices", "408.4", f"{found['round of three slow']:.1f}"],
        ["synchronous round of 16 devices, a kind drawn for each", "408.4", f"{found['round']:.1f}"],
        ["16 updates of 16 devices that never wait", "–", f"{found['sixteen updates']:.1f}"],
    ]
    yield table(
        ["NVFlare's edge example, seconds", "published", f"mean over {SEEDS:,} fleets ({TRIPS:,} for trips)"], rows
    )
    rounds, updates = found["milliseconds of ten rounds"], found["milliseconds of 160 updates"]
    yield f"Ten rounds are planned in {rounds:.1f} ms, 160 asynchronous updates in {updates:.1f} ms.\n"
    rows = []
    for pair, one in ((name.removeprefix("staleness "), one) for name, one in known.items()):
        if "/" in pair:
            in_flight, buffer = map(int, pair.split("/"))
            rows.append([pair, f"{(in_flight - 1) / buffer:.3f}", f"{one['mean']:.3f}", str(one["largest"])])
    yield table(["in flight / updates a step", "(M - 1) / K", "mean staleness", "largest"], rows)


def _planning_page(known: dict[str, Any]) -> Iterator[str]:
    if (found := known.get("planning")) is None:
        return
    memory = ", ".join(f"{found[f'MiB {when}']:.0f} MiB {when}" for when in ("before", "after a tenth", "after all"))
    yield (
        "10,000 steps of ten updates, 300 in flight, over a million devices: "
        f"{found['fleet seconds']:.2f} s for the fleet, {found['seconds']:.2f} s for the plans; {memory}.\n"
    )


def _training_page(known: dict[str, Any]) -> Iterator[str]:
    rows = [[name, *_figures(known, name)] for name in TIMETABLES]
    head = [f"sigma {sigma:g}: {what}" for sigma in SIGMAS for what in ("virtual seconds", "trips")]
    yield table([f"2NN on non-IID MNIST to {TARGET:.0%}", *head], rows)


def _figures(known: dict[str, Any], name: str) -> Iterable[str]:
    for sigma in SIGMAS:
        found = known.get(key(name, sigma))
        if found is None:
            yield from ("", "")
        elif found["reached"]:
            yield from (f"{found['virtual seconds']:.1f}", f"{found['trips']:,.0f}")
        else:
            yield from (f"{found['accuracy']:.3f} after {found['virtual seconds']:.1f}", f"{found['trips']:,.0f}")


if __name__ == "__main__":
    sys.exit(main())
