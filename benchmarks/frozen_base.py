"""Memory of a frozen base: private copies of each actor, or one file that all of a node map.

    python benchmarks/frozen_base.py                 # 200 MiB in process, and on 1 and 2 actors
    python benchmarks/frozen_base.py --mib 400 --actors 1 2 4
    python benchmarks/frozen_base.py --gpt --actors 1 2 4      # a GPT-2 of 102M parameters with LoRA

Each run trains three rounds of a module with a frozen base that its caller hands over, once as it is and once without
the base. Measured is the memory that a process has for itself (`Anonymous` of `smaps_rollup`; the pages of a mapped
file are not among it, unless the process wrote to them), of the process or actor with the most; the difference of the
two runs is what the base takes. Beside it is what `plan` counts. Writes `benchmarks/results/frozen_base.md`.

With `--gpt` a folder with a randomly drawn GPT-2 (9 layers of 768, 391 MiB) is trained with LoRA for a round of one
step on four clients. Measured is the unique memory of each actor, `Private_Clean` + `Private_Dirty`: when its worker is
built, and after the round. Beside it the same with private copies, and with a GPT of width 8, which has no base to
speak of. The SHA-256 of the base's file is taken when actors are built, and after the run. Writes
`benchmarks/results/frozen_base_gpt.md`. Needs Linux.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import numpy as np
import torch
from keeping import RESULTS, table
from torch import Tensor, nn

from raysim import Experiment, Simulation
from raysim.data import DataInfo, Dataset, Pool
from raysim.execution.placement import memory
from raysim.execution.preparation.prepare import prepare_job

WIDTH = 1024
MIB = 1024 * 1024
VOCABULARY, LENGTH = 50257, 16
GPT = {"small": {"n_embd": 8, "n_layer": 1, "n_head": 1}, "large": {"n_embd": 768, "n_layer": 9, "n_head": 12}}
NAMES = {"file": "one mapped file", "memory": "private copies"}


class Adapted(nn.Module):
    """Frozen layers of 4 MiB each, and a head that is trained."""

    def __init__(self, mib: int) -> None:
        super().__init__()
        layers = [nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(mib // 4)]
        self.base = nn.Sequential(*layers).requires_grad_(False)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.base(x))
        return found


def main() -> None:
    """All runs, each in a process of its own, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--gpt", action="store_true", help="a transformer with adapters")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure_one(*given.one)
    elif given.gpt:
        transformers_table(given.actors)
    else:
        layers_table(given.mib, given.actors)


def measure_one(size: str, actors: str, where: str, folder: str | None = None) -> None:
    """One run; prints its figures as JSON."""
    found: Any = layers(int(size), int(actors), where) if folder is None else gpt(size, int(actors), where, folder)
    print(json.dumps(found), flush=True)


def one(*what: object) -> Any:
    """The figures of a run in a process of its own."""
    command = [sys.executable, __file__, "--one", *map(str, what)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def layers_table(mib: int, numbers: list[int]) -> None:
    """What a base of plain layers takes, with and without a file."""
    head = [f"Frozen base of {mib} MiB", "of it private to an actor", "mapped by an actor"]
    head += ["`plan`: of an actor", "`plan`: of a node"]
    rows = []
    cases = [(0, "memory"), *((actors, where) for actors in numbers for where in ("memory", "file"))]
    for actors, where in cases:
        if where == "memory":
            plain, _, before, _ = one(0, actors, where)
        private, mapped, planned, shared = one(mib, actors, where)
        name = (
            "in process, the caller's module included"
            if actors == 0
            else f"{actors} actor{'s' * (actors > 1)}, base in {where}"
        )
        figures = (private - plain, mapped, planned - before, shared)
        rows.append([name, *(f"{figure / MIB:.0f} MiB" for figure in figures)])
        print(rows[-1], flush=True)
    (RESULTS / "frozen_base.md").write_text(table(head, rows), encoding="utf-8")


def layers(mib: int, actors: int, where: str) -> list[int]:
    """Bytes of a run: private, mapped, planned of an actor, planned once a node."""
    if where == "memory":
        memory.MAPPED_FROM = 1 << 60
    rng = np.random.default_rng(0)
    data = {"x": rng.standard_normal((100, WIDTH)).astype(np.float32), "y": rng.integers(0, 3, 100)}
    data |= {"x_test": data["x"][:20], "y_test": data["y"][:20]}
    module = Adapted(mib)
    with tempfile.TemporaryDirectory() as folder:
        execution: dict[str, Any] = {"executor": "ray", "actors": actors, "num_cpus": 0.5, "rounds_ahead": 0}
        experiment = Experiment.parse(
            {
                "rounds": 3,
                "cohort": 4,
                "data": {"partition": {"name": "iid", "clients": 8}, "cache": f"{folder}/cache"},
                "client": {"batch_size": 10},
                "training": {"engine": "sequential"},
                "execution": execution if actors else {"executor": "inprocess"},
                "tracking": {"report": False, "directory": f"{folder}/run"},
            }
        )
        planned = memory.actor_memory(prepare_job(experiment, model=module, data=data).job)
        with Simulation(experiment, model=module, data=data) as simulation:
            rounds = iter(simulation)
            for _ in range(3):
                next(rounds)
            gc.collect()
            private = [smaps(process)[0] for process in processes(actors)]
            mapped = [smaps(process)[1] for process in processes(actors)]
            return [max(private), max(mapped), planned.total, planned.base]


def transformers_table(numbers: list[int]) -> None:
    """What the base of a transformer takes, with one file for all actors and with private copies."""
    with tempfile.TemporaryDirectory() as folder:
        cases = [("small", 2, "file"), *(("large", n, where) for n in numbers for where in NAMES)]
        rows = []
        plain: dict[str, Any] = {}
        for size, actors, where in cases:
            found = one(size, actors, where, folder)
            plain = plain or found
            base = "none (width 8)" if size == "small" else NAMES[where]
            figures = [found["load"], found["load"] - plain["load"], found["step"], found["step"] - plain["step"]]
            same = {True: "the same", False: "CHANGED", None: ""}[found["same"]]
            rows.append([str(actors), base, *(f"{value / MIB:.1f}" for value in figures), same])
            print(rows[-1], flush=True)
    head = ["actors", "base", "MiB of an actor when built", "more than without a base", "after a step", "more"]
    found = table([*head, "SHA-256 of the file"], rows)
    (RESULTS / "frozen_base_gpt.md").write_text(found, encoding="utf-8")


def transformer(folder: Path, size: str) -> Path:
    """The folder of a GPT-2 with random weights; made once."""
    import transformers

    place = folder / size
    if not place.exists():
        torch.manual_seed(0)
        config = transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=64, **GPT[size])
        transformers.GPT2LMHeadModel(config).save_pretrained(place)
    return place


def private(place: Path) -> Any:
    """The same model and adapters as a module in memory."""
    import peft
    import transformers

    base = transformers.GPT2LMHeadModel.from_pretrained(place)
    for parameter in base.parameters():
        parameter.data = parameter.data.clone()
    return peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=16, fan_in_fan_out=True))


def gpt(size: str, actors: int, where: str, into: str) -> dict[str, Any]:
    """Unique bytes of the actor with the most, when built and after a round, and whether the file stayed as it was."""
    folder = Path(into)
    if where == "memory":
        memory.MAPPED_FROM = 1 << 60
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (32, LENGTH + 1)).astype(np.int32)
    ids[0, 0] = VOCABULARY - 1
    info = DataInfo("classification", (LENGTH,), "tokens", (LENGTH,), VOCABULARY, VOCABULARY)
    data = Dataset(Pool(ids[:, :-1], ids[:, 1:], "tokens", "random ids"), None, info)
    cache = folder / f"cache-{where}"
    values = {
        "rounds": 1,
        "cohort": 4,
        "data": {"partition": {"name": "iid", "clients": 4}, "test": 0, "cache": str(cache)},
        "client": {"batch_size": 2, "steps": 1},
        "training": {"engine": "sequential"},
        "evaluation": {"every": 0},
        "execution": {"executor": "ray", "actors": actors, "num_cpus": 0.5, "rounds_ahead": 0},
        "tracking": {"report": False, "directory": str(folder / "runs")},
    }
    given = None
    if where == "memory":  # a folder is mapped by who opens it, a module that is handed over is not
        given = private(transformer(folder, size))
    else:
        values["model"] = {"name": "hugging_face", "path": str(transformer(folder, size)), "peft": "lora"}
    with Simulation(Experiment.parse(values), data=data, model=given) as simulation:
        loaded, before = settled(actors), hashes(cache)
        next(iter(simulation))
        stepped = settled(actors)
    return {"load": max(loaded), "step": max(stepped), "same": before == hashes(cache) if before else None}


def hashes(cache: Path) -> list[str]:
    """SHA-256 of the bases in a cache."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(cache.glob("bases/*/base.safetensors"))]


def settled(actors: int) -> list[int]:
    """Unique bytes of each actor, when they no longer change."""
    found = [0] * actors
    while True:
        time.sleep(3)
        last, found = found, [unique(process) for process in processes(actors)]
        if max(abs(a - b) for a, b in zip(last, found, strict=True)) < MIB / 10:
            return found


def unique(process: Path) -> int:
    """Bytes that no other process has."""
    totals = (process / "smaps_rollup").read_text()
    return 1024 * sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", totals, re.MULTILINE))


def processes(actors: int) -> list[Path]:
    """Of the client actors; without any, this one."""
    if not actors:
        return [Path("/proc/self")]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ClientActor" in (process / "cmdline").read_bytes() and owned(process):
                found.append(process)
        except OSError:
            continue
    assert len(found) == actors, f"found {len(found)} actors, not {actors}; is another run on this machine?"
    return found


def owned(process: Path) -> bool:
    """Whether a process descends from this one."""
    number = process.name
    while number not in ("0", "1", str(os.getpid())):
        number = re.findall(r"^PPid:\s+(\d+)$", Path(f"/proc/{number}/status").read_text(), re.MULTILINE)[0]
    return number == str(os.getpid())


def smaps(process: Path) -> tuple[int, int]:
    """Bytes that this process has for itself, and bytes of a base that it maps."""
    totals = (process / "smaps_rollup").read_text()
    (private,) = re.findall(r"^Anonymous:\s+(\d+)", totals, re.MULTILINE)
    maps = re.findall(r"base\.safetensors\nSize:\s+(\d+)", (process / "smaps").read_text())
    return 1024 * int(private), 1024 * sum(int(kib) for kib in maps)


if __name__ == "__main__":
    main()
