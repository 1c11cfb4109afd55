"""Configurations by hand and by keyed mutation: a line each, or accepted; no traceback, no memory, no time.

`RAYSIM_MUTATIONS=10 pytest tests/end_to_end/test_hostile_configurations.py tests/data/test_mutated_files.py` tries ten
times as many mutations: 500 configurations, 400 files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_yaml import CASES
from mutations import mutated_config

from raysim import Experiment, Simulation
from raysim.errors import RaysimError

TIMES = int(os.environ.get("RAYSIM_MUTATIONS", "1"))


def test_a_hundred_hostile_files_are_refused_in_a_line_each_in_little_memory_and_processor_time(tmp_path: Path) -> None:
    assert len(CASES) >= 100
    script = Path(__file__).with_name("hostile_yaml.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=280)
    assert (done.stdout, done.returncode) == (f"{len(CASES)} cases\n", 0), done.stdout + done.stderr


@pytest.mark.parametrize("number", range(50 * TIMES))
def test_a_mutated_configuration_runs_or_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        experiment = Experiment.parse(mutated_config(number))
        assert Experiment.parse(experiment.to_dict()) == experiment
        # Not in Ray, and not for a billion rounds: neither is what the mutation is about.
        changes = {"execution.executor": "inprocess", "rounds": min(experiment.rounds, 2)}
        with Simulation(experiment.updated([f"{key}={value}" for key, value in changes.items()])) as simulation:
            simulation.run()
    except RaysimError as error:
        lines = str(error).split("\n")
    else:
        lines = []
    assert all(len(line) < 2200 and line.isprintable() for line in lines), lines
