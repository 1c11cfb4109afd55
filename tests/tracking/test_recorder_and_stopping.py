from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from synthetic_runs import METRICS, make_clients, make_row

from raysim.config import Experiment
from raysim.errors import ConfigError, RunError
from raysim.tracking import CheckpointFolder, Fanout, Recorder, RunDirectory, Stopping, read_events, read_rounds


def fill(folder: Path) -> None:
    (folder / "server.json").write_text("{}")


def recorder(run: RunDirectory, after_round: int = 0) -> Recorder:
    experiment = Experiment(rounds=10).updated(["tracking.report=false", "tracking.keep=1"])
    return Recorder(run, experiment, METRICS, Fanout([]), after_round=after_round)


def test_a_recorded_run_can_be_read_and_resumed(run: RunDirectory) -> None:
    writing = recorder(run)
    with pytest.raises(RunError, match="is being written"):
        recorder(run)
    writing.start({"clients": 10}, {"torch": "2.6"})
    for round in range(1, 4):
        writing.commit(make_row(round), make_clients(round))
        if round == 2:
            writing.checkpoint(round, fill)
    writing.fail(RuntimeError("no power"))
    assert read_rounds(run)["round"].to_pylist() == [1, 2, 3]
    again = recorder(run, after_round=CheckpointFolder(run).latest()[0].round)
    again.commit(make_row(3), make_clients(3))
    summary = again.finish("all rounds are done")
    assert (summary.rounds, summary.reason, summary.report) == (3, "all rounds are done", None)
    assert summary.metrics == {"train/loss": 2 / 3}
    assert read_rounds(run)["round"].to_pylist() == [1, 2, 3]
    assert [event["event"] for event in read_events(run.log)] == ["started", "failed", "finished"]
    run.lock().release()


def test_a_configuration_that_somebody_removed_while_the_run_went_on_is_back_at_its_end(run: RunDirectory) -> None:
    writing = recorder(run)
    writing.commit(make_row(1), make_clients(1))
    run.config.unlink()
    writing.finish("all rounds are done")
    assert RunDirectory.open(run.path).experiment() == writing.experiment


def test_the_summary_is_of_the_time_until_the_last_commit_or_checkpoint(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("raysim.tracking.recorder.time", SimpleNamespace(monotonic=lambda: now[0]))
    writing = recorder(run)
    now[0] += 2
    writing.commit(make_row(1), make_clients(1))
    now[0] += 1
    writing.checkpoint(1, fill)
    now[0] += 50  # a report is drawn, Ray is shut down
    assert writing.seconds == 53
    assert writing.finish("all rounds are done").seconds == 3


def test_clients_left_out_are_named_in_the_log_and_aloud(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    writing = recorder(run)
    writing.commit(make_row(1, dropped=1, trained=3), make_clients(1, "its update is not finite"))
    writing.close()
    (event,) = read_events(run.log)
    assert (event["round"], event["client"], event["reason"]) == (1, 1, "its update is not finite")
    assert "client 1 (its update is not finite)" in capsys.readouterr().err


def test_a_target_ends_the_run_whichever_way_is_up() -> None:
    stopping = Stopping(Experiment().updated(["stop.target=0.9"]), ["train/loss", "test/accuracy"])
    stopping.see({"train/loss": 5.0, "test/accuracy": 0.8})
    assert stopping.reason(1.0) is None
    stopping.see({"test/accuracy": 0.9})
    assert stopping.reason(1.0) == "test/accuracy reached 0.9"
    loss = Stopping(Experiment().updated(["stop.target=0.9", "stop.metric=test/loss"]), ["test/loss"])
    loss.see({"test/loss": 1.0})
    assert loss.reason(1.0) is None
    loss.see({"test/loss": 0.5})
    assert loss.reason(1.0) is not None


def test_patience_counts_evaluations_without_improvement() -> None:
    stopping = Stopping(Experiment().updated(["stop.patience=2"]), ["test/accuracy"])
    for metrics in ({"test/accuracy": 0.5}, {}, {"test/accuracy": 0.4}, {}):
        stopping.see(metrics)
        assert stopping.reason(0.0) is None
    stopping.see({"test/accuracy": float("nan")})
    assert stopping.reason(0.0) == "no improvement of test/accuracy in 2 evaluations"


def test_the_clock_ends_the_run() -> None:
    stopping = Stopping(Experiment().updated(["stop.seconds=60"]), [])
    assert stopping.reason(59.0) is None
    assert stopping.reason(60.0) == "60 seconds are over"


def test_a_metric_that_is_not_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stop.metric: 'test/f1' is not measured; measured are test/accuracy"):
        Stopping(Experiment().updated(["stop.metric=test/f1", "stop.patience=3"]), ["test/accuracy"])
