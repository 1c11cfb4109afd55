"""Rounds with a deadline and with over-selection on actors: the bits of one process, after deaths and a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from federations import digits, sha256

from raysim import Experiment, Simulation

FLEET = "systems.fleet={name: log_normal, speed: 10, sigma: 1, upload: 20000, latency: 0.5}"
TIMETABLES = [
    "{name: deadline, seconds: 3, keep_partial: true}",
    "{name: over_selection, factor: 1.5}",
]

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("timetable", TIMETABLES)
def test_two_actors_that_die_before_and_after_a_resume_come_to_the_bits_of_one_process(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch, timetable: str
) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    marks = tmp_path / "marks"
    marks.mkdir()

    def uneven(folder: str, faults: list[dict[str, Any]], *more: str) -> Experiment:
        experiment = digits(
            tmp_path / folder, FLEET, f"systems.timetable={timetable}", "systems.dropout=0.3", "cohort=3", *more
        )
        algorithm = {"name": "trouble:Trouble", "args": {"folder": str(marks), "faults": faults}}
        return experiment.updated([f"algorithm={algorithm}"])

    with Simulation(uneven("peace", [])) as peaceful:
        peaceful.run()
    deaths = [{"what": "kill", "round": 1}, {"what": "kill", "round": 3}]
    on_ray = "execution.executor=ray", "execution.actors=2"
    with Simulation(uneven("ray", deaths, "rounds=2", *on_ray)) as broken:
        broken.run()
    with Simulation.resume(broken.directory, overrides=["rounds=4"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == sha256(peaceful.model())
    assert len(list(marks.iterdir())) == len(deaths), "both have died"
    one, other = (pq.read_table(run.directory / "rounds.parquet") for run in (peaceful, resumed))
    assert sum(one["virtual/late"].to_pylist()) > 0
    for name in one.column_names:
        if name.startswith("virtual/"):
            assert one[name].equals(other[name]), name
