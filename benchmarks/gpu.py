"""What raysim does on one GPU: engines, clients at once, bits, memory, and the share of the card that is used.

    python benchmarks/gpu.py                          # the GPU that torch sees; at most six minutes
    python benchmarks/gpu.py --only engines,rows      # some of the parts
    python benchmarks/gpu.py --device cpu --toy       # does it run?

Parts:

- `engines`: milliseconds a round of workloads A to D of `speed.py` (synthetic samples) and of a GPT of 4 layers of 256
  with LoRA: one client after the other, in rows, in compiled rows, and what `auto` chooses.
- `rows`: milliseconds a round by the number of clients at once, beside the number that `auto` chooses.
- `bits`: the SHA-256 of the model after a few rounds with 2 and with all clients at once, and once more; and on Ray
  with 1 and 2 actors that share the card.
- `memory`: the most that torch allocated in a run, beside what `raysim plan` counts.
- `peak`: floating-point operations a second in rounds of D, beside those of a large matrix product in float32.

Times are wall seconds, since a GPU computes while the process waits: medians of the rounds behind the first two. A part
that finds too little of its time left says so and is left out. The page goes to `benchmarks/results/gpu.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_subjects import Subject, subjects
from keeping import RESULTS, table
from torch.utils.flop_counter import FlopCounterMode

from raysim import Simulation
from raysim.execution.placement.memory import CUDA_CONTEXT
from raysim.execution.placement.slots import Node
from raysim.execution.preparation.estimate import make_plan
from raysim.execution.preparation.prepare import prepare_job

SECONDS = 360.0
ROUNDS = 8
"""Rounds of a run; the first two are not timed."""
ENGINES: dict[str, dict[str, Any]] = {
    "one after the other": {"engine": "sequential"},
    "rows": {"engine": "rows", "compile": False},
    "compiled rows": {"engine": "rows", "compile": True},
    "auto": {"engine": "auto"},
}


class Card:
    """The device, and how much of the time is left."""

    def __init__(self, device: str, seconds: float) -> None:
        self.device, self._end = device, time.perf_counter() + seconds
        self.inprocess = {"executor": "inprocess", "device": device}

    def left(self) -> float:
        """Seconds."""
        return self._end - time.perf_counter()

    def name(self) -> str:
        """What it is called."""
        return torch.cuda.get_device_name() if self.device == "cuda" else "a CPU"

    def wait(self) -> None:
        """Until everything is computed that was asked for."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self) -> int:
        """The most that torch had allocated since `forget_peak`."""
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else 0

    def forget_peak(self) -> None:
        """Begin anew."""
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


@dataclass(frozen=True, slots=True)
class Ran:
    """A run: seconds a round, local steps a round, what it took and what it ended in."""

    seconds: float
    steps: int
    rows: int | None
    engine: str
    bytes: int
    sha256: str


def ran(subject: Subject, training: dict[str, Any], card: Card, execution: dict[str, Any] | None = None) -> Ran:
    """Train, and measure."""
    card.forget_peak()
    with tempfile.TemporaryDirectory() as folder:
        experiment = subject.experiment(training, folder, execution or card.inprocess, ROUNDS)
        with Simulation(experiment, data=subject.data) as simulation:
            times, steps = [], 0
            rounds = iter(simulation)
            while True:
                began = time.perf_counter()
                if (committed := next(rounds, None)) is None:
                    break
                card.wait()
                times.append(time.perf_counter() - began)
                steps = committed.row.steps
            chosen = simulation.experiment.training
            digest = hashlib.sha256()
            for tensor in simulation.model().state_dict().values():
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    engine = f"{chosen.engine}{', compiled' if chosen.compile is True else ''}"
    return Ran(statistics.median(times[2:]), steps, chosen.rows, engine, card.peak_bytes(), digest.hexdigest())


def engines(subject: Subject, card: Card) -> list[list[str]]:
    """A line an engine."""
    lines = []
    for name, training in ENGINES.items():
        found = ran(subject, training, card)
        at_once = "" if found.rows is None else f"{found.rows}"
        label = name if found.engine.startswith(training["engine"]) else f"{name}: {found.engine}"
        rate = f"{found.steps / found.seconds:,.0f}"
        lines.append([subject.name, label, at_once, f"{1e3 * found.seconds:.2f}", rate])
    return lines


def rows(subject: Subject, card: Card) -> list[list[str]]:
    """A line a number of clients at once."""
    chosen = ran(subject, {"engine": "rows", "compile": False}, card).rows
    tried = sorted({2, 4, 8, 16, 32, 64, subject.cohort, chosen or 2})
    lines = []
    for k in [k for k in tried if 2 <= k <= subject.cohort]:
        found = ran(subject, {"engine": "rows", "compile": False, "rows": k}, card)
        lines.append([subject.name, f"{k}{' (chosen)' if k == chosen else ''}", f"{1e3 * found.seconds:.2f}"])
    return lines


def bits(subject: Subject, card: Card) -> list[list[str]]:
    """A line a way of running it; those with rows must end in one SHA-256."""
    share = 0.5 if card.device == "cuda" else 0.0
    rows_of = [(f"{k} at once", {"engine": "rows", "compile": False, "rows": k}, None) for k in (2, subject.cohort)]
    on_ray = [
        (
            f"{actors} actors on Ray",
            {"engine": "rows", "compile": False, "rows": 2},
            {"executor": "ray", "actors": actors, "num_gpus": share, "num_cpus": 1, "device": card.device},
        )
        for actors in (1, 2)
    ]
    found = [
        (name, ran(subject, training, card, execution).sha256)
        for name, training, execution in [*rows_of, (f"{rows_of[0][0]}, again", *rows_of[0][1:]), *on_ray]
    ]
    return [[subject.name, name, sha[:16], "same" if sha == found[0][1] else "**another**"] for name, sha in found]


def memory(subject: Subject, card: Card) -> list[list[str]]:
    """Counted and seen, of two clients at once and of all of them."""
    lines = []
    for k in (2, subject.cohort):
        training = {"engine": "rows", "compile": False, "rows": k}
        with tempfile.TemporaryDirectory() as folder:
            prepared = prepare_job(subject.experiment(training, folder, card.inprocess, ROUNDS), data=subject.data)
            plan = make_plan(prepared, [Node("here", 1.0, 1.0, 1 << 36)])
        counted = max(0, plan.memory.gpu - CUDA_CONTEXT) or plan.memory.total - plan.memory.process
        seen = ran(subject, training, card).bytes
        lines.append([subject.name, str(k), f"{counted / 2**20:,.1f}", f"{seen / 2**20:,.1f}" if seen else "no GPU"])
    return lines


def peak(subject: Subject, card: Card) -> list[list[str]]:
    """What a round of D computes, and what the card does in a large product."""
    with tempfile.TemporaryDirectory() as folder:
        experiment = subject.experiment({"engine": "sequential"}, folder, card.inprocess, ROUNDS)
        with Simulation(experiment, data=subject.data) as simulation:
            next(iter(simulation))
            model = simulation.model().to(card.device)
    batch = experiment.client.batch_size
    assert isinstance(batch, int)
    x = torch.from_numpy(subject.data["x"][:batch]).to(card.device)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    found = ran(subject, {"engine": "auto"}, card)
    size = 4096 if card.device == "cuda" else 256
    a = torch.randn(size, size, device=card.device)
    fastest = min(_seconds(lambda: a @ a, card) for _ in range(10))
    reached, possible = counter.get_total_flops() * found.steps / found.seconds, 2 * size**3 / fastest
    return [[subject.name, f"{reached / 1e9:,.1f}", f"{possible / 1e9:,.1f}", f"{reached / possible:.1%}"]]


def _seconds(work: Callable[[], Any], card: Card) -> float:
    card.wait()
    began = time.perf_counter()
    work()
    card.wait()
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Part:
    """A table: of which subjects, its columns, and the seconds that a subject may take."""

    title: str
    measure: Callable[[Subject, Card], list[list[str]]]
    of: str
    columns: tuple[str, ...]
    seconds: float


PARTS = {
    "engines": Part(
        "Engines", engines, "A B C D GPT", ("workload", "engine", "clients at once", "ms a round", "steps a second"), 30
    ),
    "rows": Part("Clients at once", rows, "A B C D GPT", ("workload", "clients at once", "ms a round"), 20),
    "bits": Part("Bits", bits, "A C GPT", ("workload", "run", "SHA-256", ""), 40),
    "memory": Part("Memory (MiB)", memory, "A C D GPT", ("workload", "clients at once", "counted", "seen"), 15),
    "peak": Part("Share of the card", peak, "D", ("workload", "GFLOP/s", "of a product", "share"), 15),
}


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--toy", action="store_true", help="a few tiny clients: whether the script runs")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated (%(default)s)")
    parser.add_argument("--subjects", default="A,B,C,D,GPT", help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="in all (%(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --device cpu --toy tries the script without one")
    card = Card(given.device, given.seconds)
    with tempfile.TemporaryDirectory() as folder:
        found = [one for one in subjects(folder, toy=given.toy) if one.name in given.subjects.split(",")]
        lines = [f"# On {card.name()}", "", f"torch {torch.__version__}; `python benchmarks/gpu.py`", ""]
        for part in (PARTS[name] for name in names):
            cells: list[list[str]] = []
            for subject in [one for one in found if one.name in part.of.split()]:
                if card.left() < part.seconds and not given.toy:
                    cells.append([subject.name, "no time left", *[""] * (len(part.columns) - 2)])
                    continue
                cells += part.measure(subject, card)
                print(*(" | ".join(one) for one in cells[-4:]), sep="\n", flush=True)
            lines += [f"## {part.title}", "", table(part.columns, cells)]
        given.results.mkdir(parents=True, exist_ok=True)
        (given.results / "gpu.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
