"""Processor time and memory of a process and of everything that it started, from /proc alone.

Processes of one run are known by a mark in their environment, which children inherit: also those that were handed to
another parent, as some of Ray's are.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

MARK = "RAYSIM_BENCHMARK_RUN"
_TICK = os.sysconf("SC_CLK_TCK")


def new_mark() -> str:
    """A mark for the environment of a new run."""
    return uuid.uuid4().hex


def marked(mark: str) -> list[int]:
    """Ids of the processes that run with this mark in the environment that they were started with.

    A process that has ended has no environment any more: remember its id from before.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:  # it ended meanwhile, or is somebody else's
                continue
            if wanted in environment.split(b"\0"):
                found.append(int(entry.name))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Processor time of these processes so far, user and system, with that of children that they have waited for.

    One that has ended counts for as long as nobody has waited for it, and then in whoever has.
    """
    return sum(map(_cpu_seconds, pids))


def memory(pids: list[int]) -> tuple[int, int]:
    """Bytes that these processes hold: private memory, summed, and the largest share of memory that they share."""
    private, shared = [0], [0]
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        values = {name: text for name, _, text in (line.partition(":") for line in lines)}
        if "RssAnon" in values:
            private.append(int(values["RssAnon"].split()[0]) * 1024)
            shared.append(int(values["RssShmem"].split()[0]) * 1024)
    return sum(private), max(shared)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = (int(fields[13]) + int(fields[14])) / _TICK
        # The processor clock of another process, in nanoseconds; /proc counts in hundredths of a second.
        return time.clock_gettime((~pid << 3) | 2) + children
    except OSError:
        return 0.0
