"""Stages in whole runs, in process: nothing changes where they change nothing, and all that they do is recorded."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from federations import digits, final_sha256, sha256

from raysim import Simulation
from raysim.errors import ClientError, ConfigError, RunError, UserCodeError

STAGES = "aggregation.stages="
PROTOTYPES = {
    "noise": ["aggregation.weights=uniform", STAGES + "[{name: clip, max_norm: 0.3}, prototype_stages:Noise]"],
    "gaussian": [
        "aggregation.weights=uniform",
        STAGES + "[{name: adaptive_clip, fraction_noise: 0.2}, {name: gaussian, noise_multiplier: 1.0}]",
    ],
    "top-k": [STAGES + "[{name: prototype_stages:TopK, args: {k: 30}}]"],
}


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "fednova", "qfedavg"])
def test_a_chain_that_changes_nothing_changes_no_bit(tmp_path: Path, algorithm: str) -> None:
    run = [f"algorithm={algorithm}", "rounds=2"]
    plain = final_sha256(digits(tmp_path, *run))
    chain = STAGES + "[measure, {name: zero, max_norm: 1e9}, {name: clip, max_norm: 1e9}, prototype_stages:Identity]"
    assert final_sha256(digits(tmp_path, *run, chain)) == plain


@pytest.mark.parametrize("prototype", PROTOTYPES)
def test_a_resume_comes_to_the_bits_of_one_run(tmp_path: Path, prototype: str) -> None:
    experiment = digits(tmp_path, *PROTOTYPES[prototype])
    expected = final_sha256(experiment)
    assert expected != final_sha256(digits(tmp_path))
    with Simulation(experiment, directory=tmp_path / "broken") as simulation:
        for committed in simulation:
            if committed.number == 2:
                break
    with Simulation.resume(tmp_path / "broken") as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected


def test_metrics_and_bytes_on_the_wire_are_columns(tmp_path: Path) -> None:
    chain = STAGES + "[{name: clip, max_norm: 0.1}, measure, {name: prototype_stages:TopK, args: {k: 30}}]"
    with Simulation(digits(tmp_path, chain, "rounds=2"), directory=tmp_path / "run") as simulation:
        simulation.run()
        values = simulation.parameters
    rows = pq.read_table(tmp_path / "run" / "rounds.parquet").to_pylist()
    for row in rows:
        assert row["wire_up"] == row["trained"] * 8 * 30
        assert row["wire_down"] == row["cohort"] * 4 * values
        assert 0 < row["stages/clip/share"] <= 1
        assert row["stages/measure/norm"] <= 0.1
        assert row["stages/measure/mean_norm"] <= row["stages/measure/norm"]


def test_without_stages_the_wire_has_every_value_and_no_padding(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "rounds=1")) as simulation:
        (committed,) = simulation
        assert committed.row.wire_up == committed.row.cohort * 4 * simulation.parameters
        assert committed.row.wire_down == committed.row.wire_up
        assert simulation.parameters < simulation._prepared.columns


def test_a_stage_that_asks_for_it_gets_rounds_without_clients(tmp_path: Path) -> None:
    poisson = ["selection=poisson", "cohort=1", "rounds=8", *PROTOTYPES["noise"]]
    with Simulation(digits(tmp_path, *poisson)) as simulation:
        models, cohorts, seen = [sha256(simulation.model())], [], []
        for committed in simulation:
            models.append(sha256(simulation.model()))
            cohorts.append(committed.row.cohort)
            seen.append(committed.metrics["stages/Noise/rounds"])
    assert 0 in cohorts
    assert len(set(models)) == len(models), "every round moves the model"
    assert seen == list(range(1, 9))


def test_a_stage_that_asks_for_it_gets_rounds_in_which_all_were_dropped(tmp_path: Path) -> None:
    diverging = ["client.optimizer.lr=1e30", "client.steps=4", "rounds=2"]
    with pytest.raises(RunError, match="every client was dropped"):
        final_sha256(digits(tmp_path, *diverging))
    with Simulation(digits(tmp_path, *diverging, *PROTOTYPES["noise"])) as simulation:
        rows = [committed.row for committed in simulation]
    assert [row.trained for row in rows] == [0, 0]
    assert [row.dropped for row in rows] == [4, 4]


def test_records_that_are_not_finite_count_as_zero_behind_zero(tmp_path: Path) -> None:
    diverging = ["client.optimizer.lr=1e30", "client.steps=4", "rounds=1", STAGES + "[zero]"]
    with Simulation(digits(tmp_path, *diverging)) as simulation:
        before = sha256(simulation.model())
        (committed,) = simulation
        assert committed.row.dropped == 0
        assert committed.metrics["stages/zero/share"] == 1
        assert sha256(simulation.model()) == before


def test_an_error_of_a_stage_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=r"round 1: stage Failing: client: ZeroDivisionError: no such record"):
        final_sha256(digits(tmp_path, STAGES + "[prototype_stages:Failing]"))
    with pytest.raises(ClientError, match=r"stage Misnamed: client returned no 'extra', a field of 3 values"):
        final_sha256(digits(tmp_path, STAGES + "[prototype_stages:Misnamed]"))
    with pytest.raises(UserCodeError, match=r"round 1.*stage prototype_stages:FailingServer: server: KeyError"):
        final_sha256(digits(tmp_path, STAGES + "[prototype_stages:FailingServer]"))
    with pytest.raises(UserCodeError, match=r"Undeclared: server returned the metric 'more', which .* not declare"):
        final_sha256(digits(tmp_path, STAGES + "[prototype_stages:Undeclared]"))


def test_a_wrong_chain_is_refused_before_there_is_a_run_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"aggregation.stages\[0\]: Noise needs"):
        Simulation(digits(tmp_path, STAGES + "[prototype_stages:Noise]"), directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
