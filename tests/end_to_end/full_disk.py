"""Run by a test in a process of its own: runs whose disk is full for a while. Prints what each came to as JSON.

`memory`: the disk is a small file system in memory, mounted in a namespace of this process, that a large file fills up.
`limit`, where nothing can be mounted: a limit on the size of files has the same calls refused.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from federations import digits, final_sha256, sha256
from warm_workers import warm_workers

from raysim import Experiment, Simulation
from raysim.errors import StorageError
from raysim.tracking import CheckpointFolder, RunDirectory, read_events, read_rounds

DISK_BYTES = 8 << 20
ROOM = 100 << 10
"""Bytes that are left on a full disk: enough for rows, not for a model."""


DEAR = ("torch._dynamo", "sympy", "sklearn", "optuna", "matplotlib")
"""What takes long to import, and what a run of one client at a time on digits without a report does without."""
STATES = ("algorithm=scaffold", "model.hidden=[96]")
"""A server that `ROOM` is enough for, and clients' rows for which it is not."""


class MemoryDisk:
    """A file system of its own."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"raysim", bytes(folder), b"tmpfs", 0, f"size={DISK_BYTES}".encode()):
            raise OSError(ctypes.get_errno(), "cannot mount")
        self._ballast = folder / "ballast"
        self.folder = folder

    def fill(self, room: int) -> None:
        """Leave this much."""
        usage = os.statvfs(self.folder)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, usage.f_bavail * usage.f_frsize - room)

    def free(self) -> None:
        """Make room."""
        self._ballast.unlink()


class LimitedFiles:
    """A limit on the size of any file of this process, and of an aggregator that it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, room: int) -> None:
        """No file may grow beyond this."""
        for process in [os.getpid(), *aggregators()]:
            resource.prlimit(process, resource.RLIMIT_FSIZE, (room or 1, self._before[1]))

    def free(self) -> None:
        """Files may be of any size again."""
        for process in [os.getpid(), *aggregators()]:
            resource.prlimit(process, resource.RLIMIT_FSIZE, self._before)


def aggregators() -> list[int]:
    """Aggregator actors below this process."""
    parents: dict[int, int] = {}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (entry / "cmdline").read_bytes().startswith(b"ray::Aggregator"):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended

    def below(process: int) -> bool:
        return process == os.getpid() or (process in parents and below(parents[process]))

    return [process for process in found if below(process)]


Disk = MemoryDisk | LimitedFiles


def experiment(disk: Disk, *overrides: str) -> Experiment:
    """A model of about 150 kB, a checkpoint every two of six rounds."""
    return digits(disk.folder, "rounds=6", "model.hidden=[512]", "cohort=2", *overrides)


def leftovers(run: Path) -> list[str]:
    """What is half-written."""
    return [path.name for path in run.rglob(".*.tmp")]


def rounds(run: Path) -> list[int]:
    return [int(one) for one in read_rounds(RunDirectory.open(run))["round"].to_pylist()]


def for_a_while(disk: Disk, *overrides: str, name: str = "while") -> dict[str, object]:
    """Full when round 4 wants its checkpoint, not any more after round 5."""
    run = disk.folder / name
    with Simulation(experiment(disk, *overrides), directory=run) as simulation:
        for done in simulation:
            if done.number == 3:
                disk.fill(ROOM)
            if done.number == 4:
                kept = CheckpointFolder(simulation._recorder.run).latest()[0].round
            if done.number == 5:
                disk.free()
        digest = sha256(simulation.model())
    events = [event for event in read_events(run / "log.jsonl") if event["event"] == "checkpoint failed"]
    return {
        "digest": digest,
        "kept": kept,
        "events": [(event["level"], event["round"], event["error"]) for event in events],
        "rounds": rounds(run),
        "leftovers": leftovers(run),
    }


def until_the_end(disk: Disk, room: int) -> dict[str, object]:
    """Full from round 3 on, then resumed with room again."""
    run = disk.folder / f"end-{room}"
    try:
        with Simulation(experiment(disk), directory=run) as simulation:
            for done in simulation:
                if done.number == 3:
                    disk.fill(room)
        error = ""
    except StorageError as refused:
        error = str(refused)
    half_written, model = leftovers(run), (run / "model.safetensors").exists()
    disk.free()
    recorded = rounds(run)
    resumed = Simulation.resume(run)
    resumed.run()
    return {
        "error": error,
        "leftovers": half_written,
        "model": model,
        "recorded": recorded,
        "digest": sha256(resumed.model()),
        "rounds": rounds(run),
    }


def main(folder: Path, kind: str, *overrides: str) -> None:
    """All of it; where it is to run elsewhere, what differs there."""
    disk: Disk = MemoryDisk(folder) if kind == "memory" else LimitedFiles(folder)
    found = {
        "expected": final_sha256(experiment(disk, "execution.executor=inprocess")),
        "for a while": for_a_while(disk, *overrides),
        "expected with states": final_sha256(experiment(disk, *STATES, "execution.executor=inprocess")),
        "with states for a while": for_a_while(disk, *STATES, *overrides, name="states"),
    }
    if not overrides:
        found["until the end"] = until_the_end(disk, ROOM)
        found["to the last byte"] = until_the_end(disk, 0)
    print(json.dumps({**found, "imported": [name for name in DEAR if name in sys.modules]}))


if __name__ == "__main__":
    with warm_workers() if len(sys.argv) > 3 else nullcontext():
        main(Path(sys.argv[1]), *sys.argv[2:])
