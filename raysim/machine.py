"""What this machine has, as seen without starting Ray."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from raysim.config.running import ExecutionConfig

_OBJECT_STORE = 0.3
"""Share of the available memory that Ray takes for its object store unless it is told otherwise."""


def cores() -> float:
    """CPU cores that this process may use: fewer than the machine's inside a container or under a batch system."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _words("/sys/fs/cgroup/cpu.max")
    if len(quota) == 2 and quota[0].isdigit():
        return min(float(allowed), int(quota[0]) / int(quota[1]))
    return float(allowed)


def available_memory() -> int:
    """Bytes of memory that can be had now, within the limit of the container if there is one."""
    free = _meminfo("MemAvailable:")
    if free is None:  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, used = _words("/sys/fs/cgroup/memory.max"), _words("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdigit():
        free = min(free, max(0, int(limit[0]) - int(used[0]) + _reclaimable()))
    return free


def actors_memory(execution: ExecutionConfig) -> int:
    """Bytes that are left for actors once a Ray of our own has taken its object store."""
    available = available_memory()
    store = execution.object_store_memory or int(_OBJECT_STORE * available)
    return max(0, available - store)


def gpu_memory() -> int | None:
    """Bytes of memory of the smallest GPU; None where the driver's tool does not say. Starts no CUDA."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    sizes = [int(line) << 20 for line in lines if line.isdigit()]
    return min(sizes, default=None)


def name() -> str:
    """The machine's name."""
    return platform.node() or "localhost"


def _meminfo(key: str) -> int | None:
    words = _words("/proc/meminfo")
    return int(words[words.index(key) + 1]) * 1024 if key in words else None


def _reclaimable() -> int:
    """Bytes of the file cache that the container's limit counts but that would be given back."""
    words = _words("/sys/fs/cgroup/memory.stat")
    return int(words[words.index("inactive_file") + 1]) if "inactive_file" in words else 0


def _words(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
