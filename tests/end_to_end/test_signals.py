"""Ctrl-C and SIGTERM to a process that trains: it says so at once, saves, says how to go on, exits as shells expect.

No test waits for a time: a signal is sent when a line of the process says that it is where the signal shall meet it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from raysim.tracking import CheckpointFolder, RunDirectory

TINY = """\
name: tiny
rounds: 100000
cohort: 3
data: {source: digits, partition: {name: iid, clients: 6}, validation: 0.2}
client: {steps: 1}
execution: {executor: inprocess}
training: {engine: sequential}
tracking: {report: false, checkpoint_every: 0}
tuning: {space: {client.optimizer.lr: {low: 0.01, high: 1.0}}, trials: 1000, pruner: none, confirm: {seeds: 0}}
"""

MAIN = """\
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has its background processes ignore
from raysim.cli import main
main()
"""


@contextmanager
def raysim(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "tiny.yaml").write_text(TINY)
    command = [sys.executable, "-c", MAIN, *arguments, "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process: subprocess.Popen[str], seen: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first event like this."""
    assert process.stdout is not None
    for line in process.stdout:
        if seen(event := json.loads(line)):
            return event
    raise AssertionError(f"the process ended before: {process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_so_saves_and_names_the_command_that_goes_on(
    tmp_path: Path, kind: signal.Signals, code: int
) -> None:
    with raysim(tmp_path, "run", "tiny.yaml", "--directory", "out") as process:
        until(process, lambda event: event["event"] == "round" and event["round"] == 3)
        process.send_signal(kind)
        said = until(process, lambda event: event["event"] == "note")
        finish = until(process, lambda event: event["event"] == "finish")
        _, stderr = process.communicate()
    assert said["text"] == f"interrupted; saving round {finish['rounds']} (a second one stops at once)"
    assert stderr.splitlines()[-1] == "interrupted; continue with: raysim resume out"
    assert process.returncode == code
    assert CheckpointFolder(RunDirectory.open(tmp_path / "out")).latest()[0].round == finish["rounds"] >= 3


def test_a_study_that_is_stopped_says_so_and_names_the_command_that_goes_on(tmp_path: Path) -> None:
    with raysim(tmp_path, "tune", "tiny.yaml", "rounds=1", "--directory", "study") as process:
        until(process, lambda event: event["event"] == "trial" and event["number"] == 1)
        process.send_signal(signal.SIGTERM)
        said = until(process, lambda event: event["event"] == "note")
        _, stderr = process.communicate()
    assert said["text"] == "interrupted; ending the runs under way (a second one stops at once)"
    assert stderr.splitlines()[-1] == "interrupted; continue with: raysim tune study"
    assert process.returncode == 143
