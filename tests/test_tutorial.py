"""The tutorial's commands, typed as they stand."""

from __future__ import annotations

import glob
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raysim.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
SHORT = {"quickstart": "rounds=2", "experiment.yaml": "rounds=2"}
"""Added to what is trained, so that it takes no minute."""


def commands() -> list[str]:
    """Lines after a dollar sign, in order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        found += [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    return found


def test_the_commands_of_the_tutorial_work_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysim.execution.inprocess.executor import InProcessExecutor

    monkeypatch.setattr("raysim.opening._executor", InProcessExecutor)  # to the same bits as on Ray
    monkeypatch.setattr("raysim.tracking.recorder.write_report", lambda runs: runs[0] / "report.html")
    monkeypatch.chdir(tmp_path)
    lines = commands()
    assert len(lines) == 12
    try:
        for line in lines:
            words = [name for word in shlex.split(line) for name in (sorted(glob.glob(word)) or [word])]
            if words[0] == "cd":
                monkeypatch.chdir(words[1])
                monkeypatch.syspath_prepend(os.getcwd())
                continue
            assert words[0] == "raysim", line
            if words[1] == "run":
                words.append(SHORT[words[2]])
            if words[1] == "resume":  # the page's own name has a date
                (words[2],) = [
                    run for run in glob.glob("runs/*") if "rounds: 2" in Path(run, "config.yaml").read_text()
                ][:1]
                words.append("rounds=3")
            done = CliRunner().invoke(app, words[1:])
            assert done.exit_code == 0, f"{line}\n{done.output}"
    finally:
        for name in ("data", "network"):
            sys.modules.pop(name, None)
