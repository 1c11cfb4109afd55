"""Whatever dies, the run goes on: real signals and errors in real processes, and the bits of a run without them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from federations import digits, final_sha256, sha256

from raysim import Experiment, Simulation
from raysim.cluster import steps
from raysim.cluster.flights import Call
from raysim.cluster.pool import ClientPool
from raysim.cluster.steps import ServerSteps, StepCall
from raysim.cluster.training import Training
from raysim.errors import ClientError, RunError
from raysim.execution.scheduling import round_costs
from raysim.execution.scheduling.round_costs import RoundCosts
from raysim.rounds.rows import RoundRow
from raysim.tracking import RunDirectory
from raysim.tracking.log import read_events
from raysim.tracking.reading import read_clients, read_rounds

pytestmark = pytest.mark.ray

HERE = Path(__file__).parent
DEADLINE = 4.0
HANGS = ("loop", "stop", "stop for a while")
FAULTS: list[dict[str, Any]] = []
"""Those of the run under way."""
MARKS: list[Path] = []
"""Its folder of marks."""
HUNG: dict[Path, Call] = {}
"""By mark of a fault that has come, the call that it came to."""


def hangs(call: Call) -> bool:
    """Whether the answer is to stay away; that of a busy machine is only late."""
    if not isinstance(call.flight, Training):
        return False
    mine = set(call.piece.clients.tolist())
    for number, fault in enumerate(FAULTS):
        if fault["round"] == call.flight.round and fault["what"] in HANGS:
            if fault.get("client") in mine:
                return True
            for mark in MARKS[0].glob(f"{number}.[0-9]*"):
                clients = json.loads(mark.read_text() or "[]")
                if clients and mine.issuperset(clients) and HUNG.setdefault(mark, call) is call:
                    return True
    return False


def kill_the_hung(kill_the_late: Callable[[ClientPool], None]) -> Callable[[ClientPool], None]:
    """Calls that are merely slow have more time."""

    def kill(pool: ClientPool) -> None:
        now = time.monotonic()
        for call in pool._calls.values():
            if now + 1 > call.due and not hangs(call):
                call.given = now
        kill_the_late(pool)

    return kill


@pytest.fixture(autouse=True, scope="module")
def _shared_rounds() -> Iterator[None]:
    """Every round is cut over the actors, and the algorithm is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HERE)
        patch.setattr(ClientPool, "_kill_the_late", kill_the_hung(ClientPool._kill_the_late))
        patch.setattr(RoundCosts, "small", lambda self, work, *, among_small=False: False)
        yield


def troubled(folder: Path, faults: list[dict[str, Any]], *overrides: str) -> Experiment:
    """Digits whose algorithm gets into these faults; the marks are in `folder`."""
    marks = folder / "marks"
    marks.mkdir(parents=True, exist_ok=True)
    algorithm = {"name": "trouble:Trouble", "args": {"folder": str(marks), "faults": faults}}
    return digits(folder, *overrides).updated([f"algorithm={algorithm}"])


def on_ray(folder: Path, faults: list[dict[str, Any]], *overrides: str) -> Experiment:
    FAULTS[:], MARKS[:] = faults, [folder / "marks"]
    HUNG.clear()
    spread = ["execution.executor=ray", "execution.actors=2", f"execution.faults.deadline={DEADLINE}"]
    return troubled(folder, faults, *spread, *overrides)


def dropped(run: Path) -> list[tuple[int, int, str]]:
    """Round, client and reason of every client that was left out."""
    rows = [row for batch in read_clients(RunDirectory.open(run)) for row in batch.to_pylist()]
    return [(row["round"], row["client"], row["dropped"]) for row in rows if row["dropped"] is not None]


def log_of(run: Path) -> list[dict[str, Any]]:
    """What the log says of faults."""
    events = read_events(RunDirectory.open(run).log)
    return [event for event in events if event["event"] == "fault"]


@dataclass
class Outcome:
    """What a run came to: rows and hashes by round, and the log's faults."""

    rows: dict[int, RoundRow]
    hashes: dict[int, str]
    log: list[dict[str, Any]]
    directory: Path


def outcome(experiment: Experiment) -> Outcome:
    rows, hashes = {}, {}
    with Simulation(experiment) as simulation:
        for committed in simulation:
            rows[committed.number], hashes[committed.number] = committed.row, sha256(simulation.model())
    return Outcome(rows, hashes, log_of(simulation.directory), simulation.directory)


RETRIED: dict[str, dict[str, Any]] = {
    "an error on one actor only": {"what": "no such thing", "kind": "error"},
    "a shard that one actor cannot read": {"what": "data", "kind": "data"},
    "a kill": {"what": "kill", "kind": "died"},
    "memory that runs out": {"what": "hog", "kind": "memory"},
    "an endless loop": {"what": "loop", "kind": "hung"},
    "an actor stopped for good": {"what": "stop", "kind": "hung"},
    "an actor stopped whose answer comes late": {"what": "stop for a while", "kind": "hung"},
    "the aggregator killed in a step": {"what": "kill", "at": "apply", "kind": "died"},
    "the aggregator stopped in a step": {"what": "stop", "at": "apply", "kind": "hung"},
}
"""A round each, in this order."""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, ray_session: Any, _shared_rounds: None) -> tuple[Outcome, Outcome]:
    """A run in peace, in process, and one on Ray whose every round has another fault."""
    folder = tmp_path_factory.mktemp("faults")
    faults = [
        {key: value for key, value in fault.items() if key != "kind"} | {"round": number}
        for number, fault in enumerate(RETRIED.values(), 1)
    ]
    rounds, kill, get = f"rounds={len(faults) + 1}", ClientPool._kill, ServerSteps._get
    late = list(RETRIED).index("an actor stopped whose answer comes late") + 1
    stopped = list(RETRIED).index("the aggregator stopped in a step") + 1

    def kill_too_late(self: ClientPool, call: Call) -> None:
        """Where an actor is to answer late, the kill gets lost on the way."""
        if call.flight.round == late:
            self.actors.await_restart(call.worker)
        else:
            kill(self, call)

    def get_soon(self: ServerSteps, step: StepCall) -> Any:
        """Only where the aggregator is stopped is it given up early: one that was killed may take long to come back."""
        with pytest.MonkeyPatch.context() as limit:
            limit.setattr(steps, "RESTART_SECONDS", 1.0 if step.round == stopped else 600.0)
            return get(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientPool, "_kill", kill_too_late)
        patch.setattr(ServerSteps, "_get", get_soon)
        disturbed = outcome(on_ray(folder / "disturbed", faults, rounds))
    return outcome(troubled(folder / "peace", [], rounds)), disturbed


@pytest.mark.parametrize("name", RETRIED)
def test_the_round_comes_to_the_same_bits_and_says_what_happened(both: tuple[Outcome, Outcome], name: str) -> None:
    peace, disturbed = both
    number, fault = list(RETRIED).index(name) + 1, RETRIED[name]
    assert disturbed.hashes[number] == peace.hashes[number]
    row = disturbed.rows[number]
    assert row.hung >= 1 if fault["kind"] == "hung" else row.lost >= 1
    assert row.retries >= 1
    assert row.metrics == peace.rows[number].metrics
    told = [event for event in disturbed.log if event["round"] == number and event["kind"] == fault["kind"]]
    assert told
    assert ("server" in told[0]["who"] or "aggregator" in told[0]["who"]) == (fault.get("at") == "apply")


def test_rounds_in_peace_count_nothing_and_a_late_answer_is_ignored(both: tuple[Outcome, Outcome]) -> None:
    peace, disturbed = both
    last = max(peace.rows)
    assert all(row.lost == row.hung == row.retries == 0 for row in peace.rows.values())
    assert disturbed.hashes[last] == peace.hashes[last]
    assert "its answer came late" in [event["reason"] for event in disturbed.log]


def test_under_drop_only_the_client_that_is_to_blame_leaves_the_round(tmp_path: Path, ray_session: Any) -> None:
    """A client that kills every actor, one that hangs, one whose code fails, and one that asks for too much memory."""
    blamed = [("kill", 2, "the actor died"), ("loop", 4, "no answer within 4 s"), ("oh no", 1, "ValueError: oh no")]
    blamed.append(("hog", 3, "MemoryError: Unable to allocate"))
    faults = [{"what": what, "client": client, "round": number} for number, (what, client, _) in enumerate(blamed, 1)]
    absent = [fault | {"at": "send"} for fault in faults]
    policies = [f"execution.faults.{kind}=drop" for kind in ("died", "hung", "error", "memory")]
    rounds = ["cohort=1.0", f"rounds={len(faults)}"]
    found = outcome(on_ray(tmp_path / "ray", faults, *rounds, *policies))
    assert found.hashes == outcome(troubled(tmp_path / "peace", absent, *rounds)).hashes
    left = dropped(found.directory)
    assert [(number, client) for number, client, _ in left] == [(n, c) for n, (_, c, _) in enumerate(blamed, 1)]
    for (_, _, reason), (_, _, expected) in zip(left, blamed, strict=True):
        assert reason.startswith(expected)
    assert [row.dropped for row in found.rows.values()] == [1, 1, 1, 1]


def test_an_error_on_every_actor_is_the_users_and_names_the_client(tmp_path: Path, ray_session: Any) -> None:
    experiment = on_ray(tmp_path, [{"what": "oh no", "client": 3, "round": 2}], "cohort=1.0", "execution.max_retries=9")
    with pytest.raises(ClientError) as caught, Simulation(experiment) as simulation:
        simulation.run()
    assert (str(caught.value), caught.value.client, caught.value.round) == (
        "client 3, round 2: ValueError: oh no",
        3,
        2,
    )
    assert [event["kind"] for event in log_of(simulation.directory)] == ["error", "error"]
    assert simulation.number == 1


def test_under_fail_the_first_death_ends_the_run_in_one_line(tmp_path: Path, ray_session: Any) -> None:
    experiment = on_ray(tmp_path, [{"what": "kill", "round": 2}], "execution.faults.died=fail")
    with (
        pytest.raises(RunError, match=r"^round 2: a lease of \d clients \(first \d\) was lost 1 times, .*$"),
        Simulation(experiment) as simulation,
    ):
        simulation.run()
    assert [event["then"] for event in log_of(simulation.directory)] == ["the run ends"]


def test_calls_with_several_rounds_survive_a_kill_a_hang_and_an_error_with_two_of_them_in_flight(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RoundCosts, "measured", True)
    monkeypatch.setattr(RoundCosts, "small", lambda self, work, *, among_small=False: True)
    monkeypatch.setattr(round_costs, "BATCH_ROUNDS", 3)
    monkeypatch.setattr(round_costs, "BATCH_SECONDS", 1e9)
    faults = [{"what": "kill", "round": 2}, {"what": "loop", "round": 6}, {"what": "no", "round": 9, "times": 2}]
    eleven = ["rounds=11", "tracking.checkpoint_every=0"]
    found = outcome(on_ray(tmp_path / "ray", faults, *eleven, "execution.faults.deadline=20"))
    assert found.hashes == outcome(troubled(tmp_path / "peace", [], *eleven)).hashes
    assert [event["kind"] for event in found.log] == ["died", "hung", "error"]
    assert sum(row.retries for row in found.rows.values()) == 3


def test_a_driver_killed_with_rounds_in_flight_resumes_to_the_same_bits_with_each_round_once(
    tmp_path: Path, ray_session: Any
) -> None:
    """In a process of its own, which joins the session's Ray."""
    address = ray_session.get_runtime_context().gcs_address
    many = ["rounds=100000", "execution.actors=1", "execution.executor=ray", f"execution.address={address}"]
    experiment = digits(tmp_path, *many)
    experiment.to_yaml(tmp_path / "c.yaml")
    command = "from raysim.cli import main; main()"
    arguments = ["run", str(tmp_path / "c.yaml"), "--directory", str(tmp_path / "run"), "--quiet"]
    with subprocess.Popen([sys.executable, "-c", command, *arguments]) as driver:
        run = RunDirectory(tmp_path / "run")
        while driver.poll() is None and (not run.path.exists() or read_rounds(run).num_rows < 7):
            time.sleep(0.01)
        driver.kill()
    assert driver.returncode == -signal.SIGKILL
    more = read_rounds(run).num_rows + 3
    here = ["execution.executor=inprocess", "execution.address=null", f"rounds={more}"]
    with Simulation.resume(run.path, overrides=here) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == final_sha256(experiment.updated(here))
    assert read_rounds(run)["round"].to_pylist() == list(range(1, more + 1))
