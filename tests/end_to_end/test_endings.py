"""How runs end: told to stop, interrupted, or by an error; and what stays of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from federations import digits, final_sha256, sha256

from raysim import Simulation
from raysim.algorithms import Algorithm
from raysim.errors import ClientError, ConfigError, RunError
from raysim.tracking import QuietObserver


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("{metric: test/accuracy, target: 0.01}", "test/accuracy reached 0.01"),
        ("{metric: train/loss, target: 100}", "train/loss reached 100"),
        ("{seconds: 1.0e-6}", "seconds are over"),
    ],
)
def test_a_run_stops_early_when_told_to(tmp_path: Path, stop: str, reason: str) -> None:
    with Simulation(digits(tmp_path, f"stop={stop}")) as simulation:
        summary = simulation.run()
    assert reason in summary.reason
    assert summary.rounds < 4


def test_patience_survives_a_resume(tmp_path: Path) -> None:
    still = ["client.optimizer.lr=0", "rounds=9", "stop={metric: test/loss, patience: 4}"]
    with Simulation(digits(tmp_path, *still)) as simulation:
        for committed in simulation:
            if committed.number == 3:
                break
    with Simulation.resume(simulation.directory) as resumed:
        assert resumed.run().rounds == 5


def test_a_metric_that_is_not_measured_cannot_be_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stop.metric: 'validation/accuracy' is not measured; measured are"):
        Simulation(digits(tmp_path, "stop.metric=validation/accuracy", "stop.patience=3"))


class Poisoned(Algorithm):
    """Client 2 sends a NaN, client 3 an infinity in the second layer."""

    paper = "none"

    def send(self, c):
        update = c.rows - c.broadcast
        for row, client in enumerate(c.clients.tolist()):
            if client in (2, 3):
                update[row, 0 if client == 2 else -32] = float("nan") if client == 2 else float("inf")
        return {"update": update}


def test_a_client_with_a_bad_update_is_left_out_counted_and_named(tmp_path: Path) -> None:
    poisoned = ["algorithm=test_endings:Poisoned", "cohort=1.0", "rounds=2"]
    with Simulation(digits(tmp_path, *poisoned)) as simulation:
        committed = next(iter(simulation))
        assert all(torch.isfinite(p).all() for p in simulation.model().parameters())
    assert (committed.row.cohort, committed.row.trained, committed.row.dropped) == (6, 4, 2)
    reasons = committed.clients["dropped"].to_pylist()
    assert reasons[2] == "update is not finite in hidden1.weight"
    assert reasons[3] == "update is not finite in output.weight"
    events = [json.loads(line) for line in (simulation.directory / "log.jsonl").read_text().splitlines()]
    assert {event["client"] for event in events if event["event"] == "client dropped"} == {2, 3}


class Failing(Algorithm):
    """Client 4's code raises."""

    paper = "none"

    def correct(self, grad, weights, b):
        if 4 in b.clients:
            raise ValueError("no such thing")


def test_an_error_in_a_clients_own_code_names_the_client_and_the_round(tmp_path: Path) -> None:
    with (
        pytest.raises(ClientError, match="client 4, round 1: ValueError: no such thing"),
        Simulation(digits(tmp_path, "algorithm=test_endings:Failing", "cohort=1.0")) as simulation,
    ):
        simulation.run()


class FailingLater(Algorithm):
    """Every client's code raises in round 3, until it is mended."""

    paper = "none"
    mended = False

    def correct(self, grad, weights, b):
        if b.setting.round == 3 and not FailingLater.mended:
            raise ValueError("no such thing")


def test_an_error_loses_no_committed_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = digits(tmp_path, "algorithm=test_endings:FailingLater", "tracking.checkpoint_every=0")
    with pytest.raises(ClientError, match="round 3"), Simulation(experiment) as simulation:
        simulation.run()
    events = [json.loads(line) for line in (simulation.directory / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events[-2:]] == [
        f"round 2 is saved; `raysim resume {simulation.directory}` goes on after it",
        "failed",
    ]
    monkeypatch.setattr(FailingLater, "mended", True)
    with Simulation.resume(simulation.directory) as resumed:
        assert resumed.number == 2
        resumed.run()
    assert sha256(resumed.model()) == final_sha256(experiment)


def test_an_error_of_the_callers_own_loses_no_committed_round(tmp_path: Path) -> None:
    simulation = Simulation(digits(tmp_path, "tracking.checkpoint_every=0"))

    def look() -> None:
        with simulation:
            for committed in simulation:
                if committed.number == 3:
                    raise LookupError

    with pytest.raises(LookupError):
        look()
    with Simulation.resume(simulation.directory) as resumed:
        assert resumed.number == 3


def test_what_an_error_broke_besides_does_not_hide_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    experiment = digits(tmp_path, "algorithm=test_endings:FailingLater", "tracking.checkpoint_every=0")
    simulation = Simulation(experiment)
    monkeypatch.setattr(simulation._executor, "save", broken)
    with pytest.raises(ClientError, match="no such thing"), simulation:
        simulation.run()
    assert not list((simulation.directory / "checkpoints").iterdir())


def test_a_diverging_run_says_that_every_client_was_dropped(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"every client was dropped; the first, .* because update"),
        Simulation(digits(tmp_path, "client.optimizer.lr=1e30")) as simulation,
    ):
        simulation.run()


def test_an_interrupt_within_a_round_keeps_the_last_committed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = final_sha256(digits(tmp_path))
    simulation = Simulation(digits(tmp_path))
    worker, seen = simulation._executor.worker, []
    evaluate = worker.evaluate

    def interrupted(*arguments: object) -> object:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(worker, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulation.run()
    with Simulation.resume(simulation.directory) as resumed:
        assert resumed.number == 2
        resumed.run()
    assert sha256(resumed.model()) == expected


def test_a_closed_simulation_gives_its_model_and_refuses_to_train(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path)) as simulation:
        next(iter(simulation))
        expected = sha256(simulation.model())
    assert sha256(simulation.model()) == expected
    with pytest.raises(RunError, match="this simulation is closed"):
        simulation.run()


class Interrupted(QuietObserver):
    """Ctrl-C while the run is shown for the first time."""

    def start(self, *arguments: object, **more: object) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_before_the_first_round_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Simulation(digits(tmp_path / "runs"), progress=Interrupted())
    assert not list((tmp_path / "runs").iterdir())
    simulation = Simulation(digits(tmp_path), directory=tmp_path / "mine")

    def look() -> None:
        with simulation:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look()
    assert not (tmp_path / "mine").exists()
    with Simulation(digits(tmp_path), directory=tmp_path / "mine") as again:
        assert again.run().rounds == 4


def test_an_interrupt_of_a_resumed_run_before_its_next_round_loses_nothing(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path)) as simulation:
        next(iter(simulation))
    with pytest.raises(KeyboardInterrupt):
        Simulation.resume(simulation.directory, progress=Interrupted())
    resumed = Simulation.resume(simulation.directory)

    def look() -> None:
        with resumed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look()
    with Simulation.resume(simulation.directory) as again:
        assert again.number == 1
        assert again.run().rounds == 4


def test_an_interrupt_saves_the_last_round_although_nothing_can_be_shown_any_more(tmp_path: Path) -> None:
    class Closed(QuietObserver):
        def note(self, *arguments: object, **more: object) -> None:
            raise BrokenPipeError("no terminal")

    simulation = Simulation(digits(tmp_path), progress=Closed())

    def look() -> None:
        with simulation:
            next(iter(simulation))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look()
    assert simulation.saved_round == 1
    with Simulation.resume(simulation.directory) as again:
        assert again.run().rounds == 4


class Misshapen(Algorithm):
    """Sends one number where the record has one for each column."""

    paper = "none"

    def send(self, c):
        return {"update": c.rows[:, :1]}


def test_an_algorithm_that_sends_another_shape_is_told_so(tmp_path: Path) -> None:
    with (
        pytest.raises(ClientError, match=r"the algorithm sends shape \[1\] for its field 'update' of \d+ values"),
        Simulation(digits(tmp_path, "algorithm=test_endings:Misshapen")) as simulation,
    ):
        simulation.run()
