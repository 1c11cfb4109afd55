"""Decentralised runs from the configuration: what they record of nodes and bytes, in real and in virtual time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from federations import digits, final_sha256, sha256

from raysim import Experiment, Simulation
from raysim.errors import ConfigError
from raysim.execution.preparation.prepare import prepare_job
from raysim.rounds.vectors import read_vectors

SPARSE = "algorithm={name: push_sum, graph: {name: erdos_renyi, degree: 3.5}}"


def gossip(folder: Path, *overrides: str) -> Experiment:
    common = ["model=softmax", "cohort=1.0", "aggregation.weights=uniform", "algorithm=d_psgd"]
    return digits(folder, *common, *overrides)


def test_a_run_records_its_nodes_and_its_resume_ends_in_the_same_bits(tmp_path: Path) -> None:
    with Simulation(gossip(tmp_path / "whole")) as whole:
        whole.run()
        prepared, module = whole._prepared, whole.model()
    rounds = pq.read_table(whole.directory / "rounds.parquet").to_pylist()
    last = rounds[-1]
    state = read_vectors(whole.directory / "checkpoints" / "round-000004" / "server.safetensors")
    models, samples = state["state.nodes"].reshape(6, -1), prepared.federation.server("test")
    assert samples is not None
    x, y = torch.from_numpy(np.asarray(samples.x)).float().flatten(1), np.asarray(samples.y)
    right = []
    for model in models:
        weights, bias = torch.from_numpy(model[:640].reshape(10, 64)).float(), torch.from_numpy(model[640:650]).float()
        right.append(float(((x @ weights.T + bias).argmax(1).numpy() == y).mean()))
    found = [last[f"nodes/test/accuracy/{what}"] for what in ("mean", "worst", "std")]
    assert found == pytest.approx([np.mean(right), np.min(right), np.std(right)])
    assert last["clients/accuracy/mean"] is not None, "each with the model of its own node"
    apart = np.sqrt(((models - state["model"]) ** 2).sum(axis=1).mean())
    assert last["gossip/consensus"] == pytest.approx(apart)
    assert last["wire_up"] == last["wire_down"] == 6 * 2 * 4 * prepared.parameters
    half = Simulation(gossip(tmp_path / "half", "rounds=2"))
    half.run()
    with Simulation.resume(half.directory, overrides=["rounds=4"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == sha256(module)


def test_the_full_graph_is_fedavg_whatever_the_engine(tmp_path: Path) -> None:
    for engine in ("sequential", "rows"):
        full = gossip(tmp_path, "algorithm.graph=full", f"training.engine={engine}", "training.compile=false")
        assert final_sha256(full) == final_sha256(full.updated(["algorithm=fedavg"]))


def test_virtual_time_is_that_of_a_model_along_every_edge(tmp_path: Path) -> None:
    fleet = "systems={fleet: {name: log_normal, speed: 10, sigma: 0, upload: 20000, download: 40000, latency: 0.5}}"
    prepared = prepare_job(gossip(tmp_path, SPARSE, fleet))
    assert prepared.timetable is not None
    assert prepared.links is not None
    load, message = prepared.timetable.load, 4 * (prepared.parameters + 1)
    degrees = np.asarray(load.up) // message
    assert (np.asarray(load.down) == np.asarray(load.up)).all()
    assert (
        f"sends its model to {degrees.min()} to {degrees.max()}; the spectral gap of its weights is" in prepared.links
    )
    with pytest.raises(ConfigError, match=f"below one round, which sends {2 * message * degrees.sum():,}"):
        prepare_job(gossip(tmp_path, SPARSE, "stop.wire_bytes=9"))
    step = next(iter(prepared.timetable.steps()))
    seconds = 1 + load.work / 10 + degrees * message * (1 / 20_000 + 1 / 40_000)
    np.testing.assert_allclose(step.seconds, seconds)
    with Simulation(gossip(tmp_path, SPARSE, fleet, "systems.costs.money_per_byte=1", "rounds=1")) as simulation:
        simulation.run()
    (row,) = pq.read_table(simulation.directory / "rounds.parquet").to_pylist()
    assert row["virtual/money"] == row["wire_up"] + row["wire_down"] == 2 * message * degrees.sum()
    assert row["virtual/seconds"] == pytest.approx(seconds.max())


def test_devices_that_drop_out_leave_their_neighbours_to_themselves(tmp_path: Path) -> None:
    fleet = ["systems={fleet: {name: log_normal, speed: 10}, dropout: 0.4}", "systems.timetable=synchronous"]
    experiment = gossip(tmp_path, *fleet)
    with Simulation(experiment) as simulation:
        simulation.run()
    rounds = pq.read_table(simulation.directory / "rounds.parquet").to_pydict()
    assert min(rounds["trained"]) < 6
    assert final_sha256(experiment.updated(["training.engine=rows", "training.rows=2"])) is not None
