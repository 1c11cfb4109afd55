from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim import Experiment, Simulation, debug
from raysim.errors import ClientError, RunError

Raysim = Callable[..., Result]

FAILING = """\
from raysim.algorithms import Algorithm

class Failing(Algorithm):
    def correct(self, grad, weights, b):
        if b.setting.round == {round} and {client} in b.clients:
            secret = 4711
            raise ValueError("boom")
"""
FIVE = ["rounds=5", "cohort=1.0", "tracking.checkpoint_every=2", "--directory", "out", "--quiet"]


@pytest.fixture
def failed(raysim: Raysim, folder: Path) -> Result:
    """A run whose client 4 fails in round 4."""
    (folder / "faulty.py").write_text(FAILING.format(round=4, client=4))
    return raysim("run", "tiny.yaml", "algorithm=faulty:Failing", *FIVE)


def test_a_failed_run_says_how_to_see_the_error_and_its_log_has_the_traceback(failed: Result, folder: Path) -> None:
    assert failed.exit_code == 2
    *_, hint, line = failed.stderr.splitlines()
    assert hint == "to see it in this process: raysim debug out --client 4 --round 4"
    assert line == "error: client 4, round 4: ValueError: boom (--debug shows the traceback)"
    event = json.loads((folder / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert event["event"] == "failed"
    assert "faulty.py" in event["traceback"]


def test_debug_shows_the_traceback_of_that_client_and_trains_others(failed: Result, raysim: Raysim) -> None:
    result = raysim("debug", "out", "--client", "4", "--round", "4")
    assert result.exit_code == 2
    assert "replaying" not in result.stderr, "the last committed round was saved when the run failed"
    shutil.rmtree(Path("out/checkpoints/round-000003"))
    result = raysim("debug", "out", "--client", "4", "--round", "4")
    assert "replaying round 3" in result.stderr
    assert "replaying round 2" not in result.stderr, "the checkpoint of round 2 is nearer than the start"
    assert "faulty.py" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: client 4, round 4: ValueError: boom"
    result = raysim("debug", "out", "--client", "3", "--round", "4")
    assert result.exit_code == 0
    assert result.stdout.startswith("client 3, round 4: ")
    assert result.stdout.endswith("no error here\n")


def test_under_pdb_the_values_at_the_error_can_be_looked_at(failed: Result, raysim: Raysim) -> None:
    command = ["debug", "out", "--client", "4"]
    done = raysim(*command, "--round", "4", "--pdb", input="continue\np secret\nquit\n")
    assert "(Pdb) 4711" in done.stdout
    assert done.exit_code == 2
    done = raysim(*command, "--round", "3", "--pdb", input="quit\n")
    assert (done.exit_code, "Traceback" in done.stderr) == (1, False)


@pytest.mark.parametrize(
    ("client", "round", "message"),
    [
        (9, 1, "there is no client 9; clients are 0 to 5"),
        (1, 0, "there is no round 0; the run's rounds are 1 to 2"),
        (1, 3, "there is no round 3; the run's rounds are 1 to 2"),
    ],
)
def test_a_client_or_a_round_that_does_not_exist_is_one_line(
    raysim: Raysim, client: int, round: int, message: str
) -> None:
    assert raysim("run", "tiny.yaml", "--directory", "out", "--quiet").exit_code == 0
    result = raysim("debug", "out", "--client", str(client), "--round", str(round))
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


def test_a_client_that_was_not_drawn_and_a_run_that_is_none_are_one_line(raysim: Raysim, folder: Path) -> None:
    with Simulation(Experiment.from_yaml("tiny.yaml"), directory="out") as simulation:
        drawn = next(iter(simulation)).clients["client"].to_pylist()
    absent = next(client for client in range(6) if client not in drawn)
    cohort = ", ".join(map(str, drawn))
    with pytest.raises(RunError) as caught:
        debug("out", client=absent, round=1)
    assert str(caught.value) == f"client {absent} is not in the cohort of round 1, which is {cohort}"
    with pytest.raises(RunError, match="nowhere: no such run directory"):
        debug("nowhere", client=1, round=1)


def test_an_algorithm_that_mixes_clients_is_found_out_where_one_of_them_is_looked_at(
    raysim: Raysim, folder: Path
) -> None:
    (folder / "mixing.py").write_text(
        "from raysim.algorithms import Algorithm\n"
        "class Mixing(Algorithm):\n"
        "    paper = 'none'\n"
        "    def correct(self, grad, weights, b):\n"
        "        grad.sub_(grad.mean(0), alpha=0.5)\n"
    )
    overrides = ["algorithm=mixing:Mixing", "cohort=1.0", "training.engine=sequential"]
    assert raysim("run", "tiny.yaml", *overrides, "--directory", "out", "--quiet").exit_code == 0
    result = raysim("debug", "out", "--client", "3", "--round", "1")
    assert result.exit_code == 0
    assert "warning: algorithm mixing:Mixing: 'update' of a client is not the same alone as among five" in result.stderr
    assert result.stdout.endswith("no error here\n")


@pytest.mark.parametrize("every", [0, 2])
def test_the_client_trains_to_what_the_run_recorded_of_it(folder: Path, every: int) -> None:
    """Also past clients that the run left out, which fail again when the round is replayed."""
    (folder / "faulty_client.py").write_text(FAILING.format(round=3, client=1))
    overrides = ["rounds=5", f"tracking.checkpoint_every={every}", "algorithm=faulty_client:Failing", "cohort=1.0"]
    experiment = Experiment.from_yaml("tiny.yaml", [*overrides, "execution.faults.error=drop", "tracking.keep=9"])
    with Simulation(experiment, directory="out") as simulation:
        rounds = [(r.row.dropped, r.clients.to_pylist()) for r in simulation]
    assert [dropped for dropped, _ in rounds] == [0, 0, 1, 0, 0]
    assert rounds[2][1][1]["dropped"] == "ValueError: boom"
    for number, client in ((1, 0), (4, 5), (5, 2)):
        found = debug("out", client=client, round=number)
        recorded = rounds[number - 1][1][client]
        assert (found.loss, found.steps, found.samples) == (recorded["loss"], recorded["steps"], recorded["samples"])
        assert found.replayed == (number - 1 if every == 0 else (number - 1) % 2)
    with pytest.raises(ClientError) as caught:
        debug("out", client=1, round=3)
    assert isinstance(caught.value.__cause__, ValueError)
