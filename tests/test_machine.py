from __future__ import annotations

import pytest

from raysim import machine
from raysim.config.running import ExecutionConfig

MEMINFO = ["MemTotal:", "16000000", "kB", "MemFree:", "1000000", "kB", "MemAvailable:", "8000000", "kB"]


def pretend(monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """These files of the container's limits, and nothing else but /proc/meminfo."""
    content = {f"/sys/fs/cgroup/{name.replace('_', '.')}": text.split() for name, text in files.items()}
    monkeypatch.setattr(machine, "_words", lambda file: {"/proc/meminfo": MEMINFO, **content}.get(file, []))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)


def test_without_a_container_all_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, memory_max="max", memory_current="5", cpu_max="max 100000")
    assert machine.available_memory() == 8_000_000 * 1024
    assert machine.cores() == 8


def test_a_containers_limits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = "anon 100 inactive_file 250 active_file 7"
    pretend(monkeypatch, memory_max="2000", memory_current="1500", memory_stat=stat, cpu_max="250000 100000")
    assert machine.available_memory() == 2000 - 1500 + 250
    assert machine.cores() == 2.5


def test_a_ray_of_our_own_takes_its_object_store_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 1000 << 20)
    assert machine.actors_memory(ExecutionConfig()) == pytest.approx(700 << 20, abs=1)
    assert machine.actors_memory(ExecutionConfig(object_store_memory=100 << 20)) == 900 << 20
