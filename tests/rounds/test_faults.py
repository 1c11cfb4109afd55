"""What becomes of a lost lease: again, in pieces, without a client, or not at all."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import digits, final_sha256

from raysim import Simulation
from raysim.config.faults import Policy
from raysim.errors import ClientError, DataError, RunError
from raysim.rounds.faults import CallFailure, Fault, elsewhere, judge, left_out
from raysim.rounds.lease import Lease
from raysim.rounds.task import RoundTask

DIED = CallFailure("died", "the actor died", RuntimeError("gone"), gone=True)


def lease(count: int, attempt: int = 0) -> Lease:
    """Clients 10, 11, … at positions 0, 1, …"""
    ones = np.ones(count, dtype=np.int64)
    task = RoundTask.synchronous(3, 0.1, np.arange(10, 10 + count), ones / count, ones)
    found = Lease.of(task, range(count))
    return replace(found, attempt=attempt)


def sizes(leases: tuple[Lease, ...]) -> list[int]:
    return [len(one.clients) for one in leases]


def test_a_lost_lease_is_given_out_whole_then_in_pieces_and_the_last_time_one_client_at_a_time() -> None:
    pieces = [judge(lease(9, attempt), DIED, "retry", 3) for attempt in range(4)]
    assert [sizes(one.again) for one in pieces] == [[9], [3, 3, 3], [1] * 9, []]
    assert [one.ends for one in pieces] == [False, False, False, True]
    for attempt, verdict in enumerate(pieces):
        assert {one.attempt for one in verdict.again} <= {attempt + 1}
        together = np.concatenate([one.positions for one in verdict.again] or [np.arange(9)])
        assert sorted(together.tolist()) == list(range(9))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_without_retries_the_first_loss_ends_the_run(count: int) -> None:
    assert judge(lease(count), DIED, "retry", 0).ends
    assert judge(lease(count), DIED, "fail", 9).ends


def test_under_drop_each_of_several_is_tried_by_itself_and_one_alone_leaves() -> None:
    verdict = judge(lease(4), DIED, "drop", 0)
    assert (sizes(verdict.again), verdict.dropped) == ([1, 1, 1, 1], None)
    verdict = judge(verdict.again[2], DIED, "drop", 0)
    assert verdict.again == ()
    assert verdict.dropped is not None
    assert verdict.dropped.clients.tolist() == [12]
    assert verdict.text == "client 12 leaves the round"


def test_under_drop_a_client_that_is_known_to_be_to_blame_leaves_at_once() -> None:
    blamed = CallFailure(
        "error", "ValueError: no", ClientError("client 11, round 3: ValueError: no", client=11), client=11
    )
    verdict = judge(lease(3), blamed, "drop", 3)
    assert verdict.dropped is not None
    assert verdict.dropped.clients.tolist() == [11]
    assert [one.clients.tolist() for one in verdict.again] == [[10, 12]]


def test_what_would_happen_everywhere_ends_the_run() -> None:
    assert judge(lease(3), DIED, "retry", 9, hopeless=True).ends
    assert not judge(lease(3), DIED, "retry", 9).ends


def test_a_piece_goes_to_another_node_else_to_another_worker_else_anywhere() -> None:
    nodes = ["a", "a", "b", "b"]
    assert elsewhere({0, 1, 2, 3}, {0}, nodes.__getitem__) == {2, 3}
    assert elsewhere({0, 1}, {0}, nodes.__getitem__) == {1}
    assert elsewhere({0}, {0}, nodes.__getitem__) == {0}
    assert elsewhere({0, 1, 2, 3}, {0, 2}, nodes.__getitem__) == {1, 3}


def test_clients_that_are_left_out_are_rows_without_steps_or_weight() -> None:
    (report,) = left_out(lease(2), lambda clients: clients - 5, "the actor died")
    rows = report.facts.to_pylist()
    assert [(row["client"], row["samples"], row["steps"], row["weight"]) for row in rows] == [
        (10, 5, 0, 0),
        (11, 6, 0, 0),
    ]
    assert {(row["dropped"], row["worker"]) for row in rows} == {("the actor died", -1)}


def test_a_fault_is_a_line_that_names_who_had_whom_in_hand() -> None:
    fault = Fault("died", "actor 1", "the actor died", "given out again", 3, 1, (4, 7), 9)
    assert fault.text == "round 3: actor 1 with clients 4, 7, …, attempt 2: the actor died; given out again"
    assert (
        Fault("data", "actor 1", "no store", "it gets no more work", 0).text
        == "actor 1: no store; it gets no more work"
    )


def test_errors_keep_their_client_and_round_on_the_way_between_processes() -> None:
    error = ClientError("client 4, round 2: OSError: no", client=4, round=2, reason="OSError: no", memory=True)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.client, again.round, again.reason, again.memory) == (
        "client 4, round 2: OSError: no", 4, 2, "OSError: no", True,
    )  # fmt: skip
    missing = DataError("shards: gone")
    missing.client = 3
    assert pickle.loads(pickle.dumps(missing)).client == 3


MODULE = """\
from raysim.algorithms import Algorithm
from raysim.errors import DataError

class Bad(Algorithm):
    paper = "none"
    def __init__(self, config, layout, error="ValueError"):
        super().__init__(config, layout)
        self.error = {"ValueError": ValueError, "DataError": DataError, "MemoryError": MemoryError}[error]
    def correct(self, grad, weights, b):
        if b.setting.round == 2 and not {1, 4}.isdisjoint(b.clients.tolist()):
            raise self.error("no")

class Absent(Algorithm):
    paper = "none"
    def send(self, c):
        update = c.rows - c.broadcast
        if c.setting.round == 2:
            update[[client in (1, 4) for client in c.clients.tolist()]] = float("nan")
        return {"update": update}
"""


@pytest.mark.parametrize("engine", ["sequential", "rows"])
@pytest.mark.parametrize(("error", "kind"), [("ValueError", "error"), ("DataError", "data"), ("MemoryError", "memory")])
def test_in_process_too_only_the_clients_that_fail_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, kind: str, engine: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad_algorithms.py").write_text(MODULE)
    three = ["rounds=3", "cohort=1.0"]
    if engine != "sequential":
        three.append("training={engine: rows, rows: 3}")
    bad = f"algorithm={{name: 'bad_algorithms:Bad', args: {{error: {error}}}}}"
    expected = final_sha256(digits(tmp_path, *three, "algorithm=bad_algorithms:Absent"))
    dropping = digits(tmp_path, *three, bad, f"execution.faults.{kind}=drop")
    assert final_sha256(dropping) == expected
    with Simulation(dropping) as simulation:
        rows = [row for r in simulation for row in r.clients.to_pylist() if row["dropped"] is not None]
    assert [(row["round"], row["client"]) for row in rows] == [(2, 1), (2, 4)]
    assert all("no" in row["dropped"] for row in rows)
    policies: tuple[Policy, ...] = ("retry", "fail")
    for policy in policies:
        with (
            pytest.raises((ClientError, DataError)) as caught,
            Simulation(digits(tmp_path, *three, bad, f"execution.faults.{kind}={policy}")) as simulation,
        ):
            simulation.run()
        assert (caught.value.client in (1, 4), caught.value.round) == (True, 2)


def test_a_round_that_everybody_is_dropped_from_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "worse_algorithms.py").write_text(MODULE.replace("{1, 4}", "{0, 1, 2, 3, 4, 5}"))
    worse: list[Any] = ["algorithm=worse_algorithms:Bad", "execution.faults.error=drop"]
    message = "round 2: every client was dropped; the first, .*, because ValueError: no; see log.jsonl"
    with pytest.raises(RunError, match=message), Simulation(digits(tmp_path, *worse)) as simulation:
        simulation.run()
