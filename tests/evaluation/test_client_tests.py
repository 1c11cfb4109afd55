"""Clients evaluated on the test samples that are their own, each with the model that it would use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from federations import digits
from listed_federation import ListedFederation
from plain_federation import CLASSES, FEATURES, SIZES, Run, experiment_of
from plain_holdouts import losses_of, model_of
from torch import nn

from raysim import Experiment, Simulation
from raysim.errors import ConfigError
from raysim.evaluation.ranges import client_ranges
from raysim.rounds.task import RoundWork
from raysim.tracking import RunDirectory, measure, read_holdouts, read_rounds, smaller_is_better
from raysim.tuning.searching import trial_experiment

TESTS = (4, 0, 3, 5, 0, 9)
OWNERS = np.array(["ada", "bo", "cy", "di"])
CLIENT, CLIENT_TEST = np.repeat(np.arange(4), 30), np.repeat([0, 1, 3], [10, 5, 20])


def arrays() -> dict[str, Any]:
    """Four owners, every second with the labels the other way round; cy has no test samples, two have no owner."""
    generator = np.random.default_rng(0)
    x, x_test = (generator.normal(size=(count, 4)).astype(np.float32) for count in (120, 37))
    flipped = np.append(CLIENT_TEST % 2 == 1, [False, False])
    return {
        "x": x,
        "y": ((x[:, 0] > 0) ^ (CLIENT % 2 == 1)).astype(int),
        "client": OWNERS[CLIENT],
        "x_test": x_test,
        "y_test": ((x_test[:, 0] > 0) ^ flipped).astype(int),
        "client_test": np.append(OWNERS[CLIENT_TEST], ["", ""]),
    }


def owned(tmp_path: Path, *overrides: str) -> Experiment:
    return digits(
        tmp_path, "data.partition=natural", "data.holdout=0", "cohort=1.0", "model=softmax", "rounds=3", *overrides
    )


def evaluated(tmp_path: Path, *overrides: str, data: Any = None, name: str = "run") -> tuple[dict[str, float], Path]:
    """The metrics of the last round, and the run directory."""
    folder = tmp_path / name
    with Simulation(owned(tmp_path, *overrides), data=arrays() if data is None else data, directory=folder) as run:
        *_, last = run
    return dict(last.metrics), folder


@pytest.mark.parametrize("algorithm", ["fedavg", "local", "fedper", "ditto", "apfl"])
@pytest.mark.parametrize("holdouts", [SIZES, None], ids=["holdouts", "tests alone"])
def test_a_client_is_evaluated_with_the_model_that_it_would_use(algorithm: str, holdouts: Any) -> None:
    federation = ListedFederation(SIZES, holdouts or (), TESTS)
    run = Run(experiment_of(algorithm), federation=federation)
    run.rounds(2)
    run.number += 1
    work = RoundWork(run.task(run.number), tuple(client_ranges(federation, ("holdout", "test"), 8)))
    (done,) = run.executor.rounds(iter([work]), run.handle)
    run.handle = done.server
    found: dict[int, float] = {}
    for one in done.facts.evaluated:
        if one.part == "client test":
            assert one.clients is not None
            found |= dict(zip(one.clients.tolist(), losses_of(one.sums), strict=True))
    assert sorted(found) == [client for client, count in enumerate(TESTS) if count]
    for client, loss in found.items():
        own, w = federation.shard(client, "test"), model_of(run, client)
        logits = own.x.astype(np.float64) @ w[: CLASSES * FEATURES].reshape(CLASSES, FEATURES).T + w[16 : 16 + CLASSES]
        wanted = (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(own)), own.y]).mean()
        assert loss == pytest.approx(float(wanted), rel=1e-4)
    parts = {one.part for one in done.facts.evaluated}
    assert parts == {"client test"} | ({"holdout"} if holdouts else set())


def test_local_models_reach_on_their_own_test_samples_what_torch_reaches(tmp_path: Path) -> None:
    setting = ["algorithm=local", "rounds=20", "client.batch_size=full", "client.optimizer.lr=0.3"]
    torch.manual_seed(0)
    first, data = nn.Linear(4, 2), arrays()
    with Simulation(owned(tmp_path, *setting), model=first, data=data, directory=tmp_path / "run") as run:
        *_, last = run
    hits = {}
    for client, owner in enumerate(OWNERS.tolist()):
        mine, tests = data["client"] == owner, data["client_test"] == owner
        module = nn.Linear(4, 2)
        module.load_state_dict(first.state_dict())
        optimizer = torch.optim.SGD(module.parameters(), 0.3)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(torch.tensor(data["x"][mine])), torch.tensor(data["y"][mine])).backward()
            optimizer.step()
        if tests.any():
            right = module(torch.tensor(data["x_test"][tests])).argmax(1) == torch.tensor(data["y_test"][tests])
            hits[client] = float(right.float().mean())
    measured = read_holdouts(RunDirectory.open(tmp_path / "run"), "test")
    assert measured is not None
    assert dict(zip(measured.clients.tolist(), measured.column("accuracy").tolist(), strict=True)) == pytest.approx(
        hits
    )
    assert last.metrics["clients/test/accuracy/mean"] == pytest.approx(np.mean(list(hits.values())))
    assert last.metrics["clients/test/accuracy/worst10"] == pytest.approx(min(hits.values()))
    assert last.metrics["clients/test/accuracy/mean"] > last.metrics["test/accuracy"] + 0.2


def test_of_one_model_for_all_the_owned_samples_and_the_rest_are_the_whole_test_set(tmp_path: Path) -> None:
    metrics, folder = evaluated(tmp_path)
    measured = read_holdouts(RunDirectory.open(folder), "test")
    assert measured is not None
    sizes = np.array([10, 5, 20])
    assert measured.clients.tolist() == [0, 1, 3]
    hits = measured.column("accuracy") * sizes
    # Two test samples have no owner: the server's test set has them all the same.
    assert round(metrics["test/accuracy"] * 37 - hits.sum(), 6) in (0, 1, 2)
    without = {key: value for key, value in arrays().items() if key != "client_test"}
    bare, alone = evaluated(tmp_path, data=without, name="bare")
    assert bare == {name: value for name, value in metrics.items() if not name.startswith("clients/")}
    assert not (alone / "client_tests.parquet").exists()
    assert "clients/test/loss/mean" not in read_rounds(RunDirectory.open(alone)).schema.names


def test_it_is_recorded_shown_and_due_when_clients_are(tmp_path: Path) -> None:
    setting = ["evaluation.clients_every=2", "tracking.report=true", "data.holdout=0.2"]
    _, folder = evaluated(tmp_path, *setting, name="two")
    rows = read_rounds(RunDirectory.open(folder)).to_pylist()
    for of in ("clients/accuracy/worst10", "clients/test/accuracy/worst10", "clients/test/loss/gini"):
        assert [row[of] is not None for row in rows] == [False, True, True]
    assert {path.name for path in folder.glob("*.parquet")} >= {"holdouts.parquet", "client_tests.parquet"}
    assert pq.read_table(folder / "client_tests.parquet")["round"].unique().to_pylist() == [3]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "test/accuracy" in page
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {"spread-test-accuracy.png", "clients-test-accuracy.png", "spread-accuracy.png"} <= figures
    _, never = evaluated(tmp_path, "evaluation.clients_every=0", "tracking.clients=true", name="never")
    assert not (never / "client_tests.parquet").exists()
    metrics, _ = evaluated(tmp_path, "evaluation.sets=[validation]", "data.validation=0.1", name="unseen")
    assert not any("test" in name for name in metrics)
    _, quiet = evaluated(tmp_path, "tracking.clients=false", name="quiet")
    assert not (quiet / "client_tests.parquet").exists()


def test_fine_tuning_and_a_local_baseline_go_by_test_samples_too(tmp_path: Path) -> None:
    tuned, _ = evaluated(tmp_path, "evaluation.fine_tune={epochs: 5, lr: 0.3}", name="tuned")
    assert tuned["clients/test/accuracy/mean"] > tuned["clients/test/accuracy/untuned_mean"]
    _, alone = evaluated(tmp_path, "algorithm=local", name="alone")
    compared, _ = evaluated(tmp_path, f"evaluation.local_baseline={alone}", name="compared")
    mine, theirs = (read_holdouts(RunDirectory.open(tmp_path / name), "test") for name in ("compared", "alone"))
    assert mine is not None
    assert theirs is not None
    worse = np.mean(mine.column("accuracy") < theirs.column("accuracy"))
    assert compared["clients/test/accuracy/below_local"] == worse
    (alone / "client_tests.parquet").unlink()
    with pytest.raises(ConfigError, match=r"alone has no client_tests\.parquet; let it finish"):
        evaluated(tmp_path, f"evaluation.local_baseline={alone}", name="refused")


@pytest.mark.parametrize("algorithm", ["ditto", "perfedavg"])
def test_a_resumed_run_comes_to_the_same_values(tmp_path: Path, algorithm: str) -> None:
    setting = [f"algorithm={algorithm}", "rounds=4", "data.holdout=0.2"]
    whole, folder = evaluated(tmp_path, *setting, name="whole")
    _, cut = evaluated(tmp_path, *setting, "rounds=2", name="cut")
    with Simulation.resume(cut, overrides=["rounds=4"], data=arrays()) as resumed:
        *_, last = resumed
    assert dict(last.metrics) == whole
    one, other = (pq.read_table(run / "client_tests.parquet") for run in (folder, cut))
    assert one.equals(other)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    (newest / "manifest.json").unlink()
    with Simulation.resume(folder, data=arrays()) as again:
        assert not (folder / "client_tests.parquet").exists()
        again.run()
    assert pq.read_table(folder / "client_tests.parquet").equals(one)


def test_trials_of_a_study_do_not_look_at_them(tmp_path: Path) -> None:
    tuned = trial_experiment(owned(tmp_path, "evaluation.fine_tune={epochs: 1}"))
    with Simulation(tuned, data=arrays()) as run:
        *_, last = run
    assert set(last.metrics) == {"train/loss"}
    held = trial_experiment(owned(tmp_path, "evaluation.fine_tune={epochs: 1}", "data.holdout=0.2"))
    with Simulation(held, data=arrays()) as run:
        *_, last = run
    assert "clients/accuracy/untuned_mean" in last.metrics
    assert not any("test/" in name for name in last.metrics)


@pytest.mark.ray
def test_on_ray_the_values_are_those_in_process(tmp_path: Path, ray_session: Any) -> None:
    setting = ["algorithm=ditto", "evaluation.batch_size=4", "data.holdout=0.2"]
    expected, _ = evaluated(tmp_path, *setting, name="here")
    found, folder = evaluated(tmp_path, *setting, "execution.executor=ray", "execution.actors=2", name="there")
    assert found == expected
    assert pq.read_table(folder / "client_tests.parquet").equals(
        pq.read_table(tmp_path / "here" / "client_tests.parquet")
    )


def test_metrics_on_own_test_samples_have_the_direction_of_what_they_measure() -> None:
    assert measure("clients/test/accuracy/worst10") == "accuracy"
    assert measure("clients/recall/3/mean") == "recall"
    assert smaller_is_better("clients/test/loss/mean")
    assert smaller_is_better("clients/test/accuracy/gini")
    assert not smaller_is_better("clients/test/accuracy/mean")
