"""Two nodes, of which one has no data, loses a reducer, and is lost itself; and an object store that must spill."""

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
    """All runs of `lost_nodes.py`, in a process of their own: they need a Ray of several nodes."""
    script, folder = Path(__file__).parent / "lost_nodes.py", tmp_path_factory.mktemp("nodes")
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return {one["name"]: one for one in found}


def faults_of(run: dict[str, Any], round_number: int) -> list[dict[str, Any]]:
    return [fault for fault in run["log"] if fault["round"] == round_number]


def in_peace(runs: Runs, name: str, rounds: list[int]) -> bool:
    """Whether these rounds came to the model and the metrics that they come to in process."""
    run, peace = runs[name], runs["peace"]
    return all(
        run["hashes"][key] == peace["hashes"][key] and run["rows"][key]["metrics"] == peace["rows"][key]["metrics"]
        for key in map(str, rounds)
    )


def test_actors_of_a_node_without_the_store_get_no_work(runs: Runs) -> None:
    assert in_peace(runs, "no store", [1, 2])
    (fault,) = runs["no store"]["log"]
    assert (fault["kind"], fault["reason"], fault["then"]) == ("data", "shards: no such folder", "it gets no more work")


def test_clients_whose_shards_a_node_cannot_read_are_trained_and_evaluated_on_another(runs: Runs) -> None:
    assert in_peace(runs, "no shards", [1, 2])
    who = {fault["who"] for fault in faults_of(runs["no shards"], 1)}
    assert len(who) == 2, "one for training, one for evaluating"
    assert runs["no shards"]["rows"]["1"]["retries"] == 2


def test_a_reducer_that_dies_with_its_call_in_hand_changes_nothing(runs: Runs) -> None:
    assert in_peace(runs, "nodes", [1, 2])
    (fault,) = faults_of(runs["nodes"], 2)
    assert fault["who"].startswith("the reducer of node ")


def test_an_object_store_that_must_spill_changes_nothing(runs: Runs) -> None:
    assert in_peace(runs, "nodes", [3])
    assert runs["store"]["spilled"] > 0


def test_finished_sums_that_are_lost_with_their_node_are_trained_again(runs: Runs) -> None:
    """While the next round's leases wait for the model of the step that cannot be taken."""
    assert in_peace(runs, "nodes", [4, 5])
    lost = faults_of(runs["nodes"], 4)
    assert {fault["reason"] for fault in lost} == {"a finished sum was lost with its node"}
    assert runs["nodes"]["rows"]["4"]["retries"] == len(lost) >= 1
