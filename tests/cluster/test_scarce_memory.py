"""Memory that really runs out: an actor that Ray's monitor kills, and an object store with nowhere to spill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ray

Runs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """All runs of `scarce_memory.py`, in a process of their own: they need a Ray that is set up for it."""
    script, folder = Path(__file__).parent / "scarce_memory.py", tmp_path_factory.mktemp("memory")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return {one["name"]: one for one in found}


def test_an_actor_that_takes_all_memory_is_killed_and_its_clients_train_elsewhere(runs: Runs) -> None:
    assert runs["hog"]["hashes"] == runs["peace"]["hashes"]
    assert {fault["round"] for fault in runs["hog"]["faults"]} == {2}
    assert runs["hog"]["faults"][0]["kind"] in ("died", "memory")


def test_an_object_store_with_no_room_for_a_sum_and_nowhere_to_spill_ends_the_run_and_says_so(runs: Runs) -> None:
    run = runs["full store"]
    assert not run["hashes"]
    assert {(fault["kind"], fault["reason"]) for fault in run["faults"]} == {("memory", "the object store is full")}
    assert "because the object store is full" in run["error"]
