"""Hierarchies from the configuration: what they record of their edges, in bytes and in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from federations import broken_off, digits, sha256

from raysim import Experiment, Simulation
from raysim.errors import ConfigError, RunError
from raysim.execution.preparation.prepare import prepare_job
from raysim.selection.edges import edges_of

FLEET = "systems.fleet={name: log_normal, speed: 10, sigma: 1, upload: 20000, download: 50000, latency: 0.5}"
LINKS = "systems.backhaul={upload: 1000, download: 4000, latency: 0.25}"


def hierarchy(folder: Path, *overrides: str) -> Experiment:
    algorithm = "algorithm={name: hierfavg, edges: 3, edge_rounds: 2}"
    return digits(folder, "model=softmax", "cohort=5", algorithm, *overrides)


def recorded(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(run / "rounds.parquet").to_pylist()
    return found


def test_a_resume_between_rounds_of_the_cloud_ends_in_the_bits_of_an_unbroken_run(tmp_path: Path) -> None:
    with Simulation(hierarchy(tmp_path / "whole", "rounds=6")) as whole:
        whole.run()
        expected, parameters = sha256(whole.model()), whole.parameters
    run, found = broken_off(hierarchy(tmp_path / "half", "rounds=6", "tracking.checkpoint_every=1"), after=3)
    assert found == expected
    message = 4 * parameters
    for row in recorded(run):
        assert row["wire_up"] == row["wire_down"] == 5 * message, "between clients and edges"
        cloud = row["round"] % 2 == 0
        assert row["edges/wire_up"] == row["edges/wire_down"] == (3 * message if cloud else 0)


def test_edges_have_clocks_of_their_own_and_meet_in_the_rounds_of_the_cloud(tmp_path: Path) -> None:
    experiment = hierarchy(tmp_path, FLEET, LINKS, "rounds=4")
    prepared = prepare_job(experiment)
    assert prepared.timetable is not None
    fleet, load, edge = prepared.timetable.fleet, prepared.timetable.load, edges_of(experiment, prepared.federation)
    assert edge is not None
    with Simulation(experiment) as simulation:
        simulation.run()
    clients = pq.read_table(simulation.directory / "clients.parquet").to_pylist()
    clocks, message = np.zeros(3), 4 * prepared.parameters
    for row in recorded(simulation.directory):
        ends = clocks.copy()
        for one in (one for one in clients if one["round"] == row["round"]):
            seconds = 1 + load.work[one["client"]] / fleet.speed[one["client"]] + message * (1 / 20_000 + 1 / 50_000)
            assert one["virtual_seconds"] == pytest.approx(seconds)
            mine = edge[one["client"]]
            ends[mine] = max(ends[mine], clocks[mine] + seconds)
        clocks, at = ends, ends.max()
        if row["round"] % 2 == 0:
            at += 0.25 + message / 1000
            clocks[:] = at + 0.25 + message / 4000
        assert row["virtual/seconds"] == pytest.approx(at)
    assert prepared.links == "clients send to 3 edges in every round, edges to the cloud in every 2 rounds"


def test_a_link_without_a_hierarchy_and_a_resume_with_other_edges_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"systems\.backhaul: it links edges and a cloud, and fedavg has none"):
        prepare_job(digits(tmp_path, FLEET, LINKS))
    with pytest.raises(ConfigError, match=r"systems\.backhaul: it is for devices; set systems\.fleet"):
        prepare_job(hierarchy(tmp_path, LINKS))
    file = tmp_path / "edges.csv"
    lines = [f"{client},{client % 3}" for client in range(6)]
    file.write_text("\n".join(["client,edge", *lines]))
    with Simulation(hierarchy(tmp_path, "rounds=2", f"algorithm.assign={{name: file, path: {file}}}")) as simulation:
        simulation.run()
    file.write_text("\n".join(["client,edge", *reversed(lines), ""]))
    with pytest.raises(RunError, match=r"algorithm\.assign\.path"):
        Simulation.resume(simulation.directory, overrides=["rounds=4"])
