"""A disk that is full for a while costs a checkpoint, one that is full at the end an error; neither costs a bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "full_disk.py"
REASONS = {"memory": "No space left on device", "limit": "File too large"}


def own_namespace() -> list[str] | None:
    """How to start a process that may mount a file system for itself alone; None where there is no way."""
    for way in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        if shutil.which("unshare") and subprocess.run([*way, "true"], capture_output=True).returncode == 0:
            return way
    return None


def outcome(folder: Path, way: list[str] | None, *overrides: str) -> tuple[dict[str, Any], str]:
    """What the script prints, and why its disk refuses."""
    folder.mkdir()
    kind = "limit" if way is None else "memory"
    command = [*(way or []), sys.executable, SCRIPT, folder, kind, *overrides]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "said": done.stderr}, REASONS[kind]


def check_for_a_while(found: dict[str, Any], reason: str) -> None:
    """The run goes on, says so, keeps the checkpoint before, and comes to the same bits."""
    for whiled, expected in (
        (found["for a while"], found["expected"]),
        (found["with states for a while"], found["expected with states"]),
    ):
        assert whiled["digest"] == expected
        assert whiled["kept"] == 2
        ((level, round, error),) = whiled["events"]
        assert (level, round) == ("warning", 4)
        assert f"round-000004: cannot write the checkpoint ({reason});" in error
        assert f"warning: {error}. The run goes on; older checkpoints are kept" in found["said"]
        assert whiled["rounds"] == [1, 2, 3, 4, 5, 6]
        assert whiled["leftovers"] == []


def check_stopped(found: dict[str, Any], stopped: dict[str, Any], message: str) -> None:
    """One line with the remedy, nothing half-written, and the same bits once there is room."""
    assert "\n" not in stopped["error"]
    assert message in stopped["error"]
    assert "then: raysim resume" in stopped["error"]
    assert "it goes on after round 2" in stopped["error"]
    assert (stopped["leftovers"], stopped["model"]) == ([], False)
    assert stopped["digest"] == found["expected"]
    assert stopped["rounds"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("limited", [False, True])
def test_a_full_disk_costs_no_bit_in_process(tmp_path: Path, limited: bool) -> None:
    found, reason = outcome(tmp_path / "disk", None if limited else own_namespace())
    check_for_a_while(found, reason)
    assert found["imported"] == [], "a run starts a second faster without"
    message = f"round-000006: cannot write the checkpoint ({reason});"
    check_stopped(found, found["until the end"], message)
    check_stopped(found, found["to the last byte"], f".arrows: cannot be written ({reason});")
    recorded = found["to the last byte"]["recorded"]  # a row or two may fit into a page that the file has already
    assert [1, 2, 3] <= recorded < [1, 2, 3, 4, 5, 6], "the rounds before can be read"
    assert recorded == list(range(1, len(recorded) + 1))


@pytest.mark.ray
def test_a_full_disk_costs_no_bit_on_ray_where_the_aggregator_writes(tmp_path: Path) -> None:
    ray = ["execution.executor=ray", "execution.actors=1", f"execution.object_store_memory={100 << 20}"]
    check_for_a_while(*outcome(tmp_path / "disk", own_namespace(), *ray))
