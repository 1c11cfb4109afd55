"""Asynchronous runs from the configuration: what they record, resume and refuse."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from federations import digits, final_sha256, sha256

from raysim import Experiment, Simulation
from raysim.cli.timetable import forecast_of, timetable_facts
from raysim.debugging import debug
from raysim.errors import ConfigError, RunError
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.preparation.prepare import prepare_job
from raysim.privacy.gaussian import gaussian_epsilon
from raysim.rounds.lease import Lease
from raysim.selection.waves import planned_rounds
from raysim.systems import Buffered

FLEET = "systems.fleet={name: log_normal, speed: 1, sigma: 1}"
FEDBUFF = "systems.timetable={name: fedbuff, buffer: 3, in_flight: 5, max_staleness: 6}"
FEDASYNC = "systems.timetable={name: fedasync, in_flight: 4, max_staleness: 8}"


def asynchronous(folder: Path, timetable: str, *overrides: str) -> Experiment:
    return digits(folder, FLEET, "model=softmax", "rounds=8", timetable, *overrides)


@pytest.mark.parametrize("timetable", [FEDBUFF, FEDASYNC])
def test_a_run_is_the_same_after_a_resume_and_records_its_plans(tmp_path: Path, timetable: str) -> None:
    with Simulation(asynchronous(tmp_path / "whole", timetable)) as whole:
        whole.run()
    half = Simulation(asynchronous(tmp_path / "half", timetable, "rounds=5"))
    half.run()
    with Simulation.resume(half.directory, overrides=["rounds=8"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == sha256(whole.model())
    prepared = prepare_job(asynchronous(tmp_path, timetable))
    assert prepared.timetable is not None
    plans = [plan for plan, _ in zip(prepared.timetable.plans(), range(8), strict=False)]
    table = pq.read_table(resumed.directory / "rounds.parquet").to_pydict()
    assert table["virtual/staleness"] == pytest.approx([plan.staleness.mean() for plan in plans])
    assert max(table["virtual/staleness"]) > 0
    assert table["cohort"] == table["trained"] == [len(plan.clients) for plan in plans]
    clients = pq.read_table(resumed.directory / "clients.parquet").to_pydict()
    assert clients["client"] == [client for plan in plans for client in plan.clients.tolist()]
    assert clients["round"] == [plan.step for plan in plans for _ in plan.clients]


@pytest.mark.parametrize("timetable", [FEDASYNC, "systems.timetable={name: fedbuff, buffer: 1, in_flight: 4}"])
def test_a_step_whose_clients_are_all_left_out_keeps_the_model_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, timetable: str
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1] / "cluster")
    plain = prepare_job(asynchronous(tmp_path, timetable))
    assert plain.timetable is not None
    lost = int(next(plain.timetable.plans()).clients[0])
    fault = {"what": "nothing", "at": "send", "round": 1, "client": lost}
    algorithm = {"name": "trouble:Trouble", "args": {"folder": str(tmp_path), "faults": [fault]}}
    experiment = asynchronous(tmp_path / "whole", timetable).updated([f"algorithm={algorithm}"])
    with Simulation(experiment) as whole:
        first = sha256(whole.model())
        assert next(iter(whole)).number == 1
        assert sha256(whole.model()) == first
        whole.run()
        assert sha256(whole.model()) != first
    table = pq.read_table(whole.directory / "rounds.parquet").to_pydict()
    assert (table["dropped"], table["trained"]) == ([1] + 7 * [0], [0] + 7 * [1])
    assert "not finite" in pq.read_table(whole.directory / "clients.parquet")["dropped"][0].as_py()
    with Simulation(experiment.updated(["rounds=1"])) as half:
        half.run()
    with Simulation.resume(half.directory, overrides=["rounds=8"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == sha256(whole.model())


def test_nobody_is_trained_whom_no_step_of_the_run_takes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    train_into = ClientWorker.train_into

    def counting(self: ClientWorker, lease: Lease, *given: Any) -> Any:
        trained.extend(lease.into.tolist())
        return train_into(self, lease, *given)

    monkeypatch.setattr(ClientWorker, "train_into", counting)
    with Simulation(asynchronous(tmp_path, FEDBUFF, "rounds=4")) as half:
        half.run()
    assert sorted(trained) == np.repeat([1, 2, 3, 4], 3).tolist()
    trained.clear()
    with Simulation.resume(half.directory, overrides=["rounds=6"]) as resumed:
        resumed.run()
    assert sorted(trained) == np.repeat([5, 6], 3).tolist()


def test_a_plan_counts_the_versions_that_are_kept_for_those_in_flight(tmp_path: Path) -> None:
    prepared = prepare_job(asynchronous(tmp_path, FEDBUFF))
    assert prepared.timetable is not None
    given = prepared.timetable, prepared.experiment, prepared.federation, prepared.work
    needed = [len(one.work.needed) for one in islice(planned_rounds(*given), 8)]
    found = forecast_of(prepared)
    assert found is not None
    plans = list(islice(prepared.timetable.plans(), 8))
    bases = {int(base) for plan in plans for base in plan.base}
    last = {base: max(plan.step for plan in plans if base in plan.base) for base in bases}
    kept = [sum(base < step < last[base] for base in bases) for step in range(9)]
    assert found.versions == max(kept) > 1
    assert max(needed) >= found.versions, "those of later steps beside those of the eight"
    size = 4 * prepared.columns * found.versions
    said = next(line for _, line in timetable_facts(prepared) if "older versions" in line)
    assert said.startswith(f"up to {found.versions} older versions of the model are kept")
    assert f"{size / 1024:.0f}" in said
    assert not any("older" in line for _, line in timetable_facts(prepare_job(digits(tmp_path, FLEET))))


def test_a_resume_with_another_timetable_is_refused(tmp_path: Path) -> None:
    with Simulation(asynchronous(tmp_path, FEDBUFF, "rounds=2")) as simulation:
        simulation.run()
    with pytest.raises(RunError, match=r"systems\.timetable\.buffer"):
        Simulation.resume(simulation.directory, overrides=["systems.timetable.buffer=4"])


def test_the_staleness_law_and_the_cap_change_the_model(tmp_path: Path) -> None:
    kinds = ["constant", "{name: polynomial, exponent: 2}", "{name: hinge, a: 10, b: 0}"]
    found = {final_sha256(asynchronous(tmp_path, FEDBUFF, f"systems.timetable.staleness={kind}")) for kind in kinds}
    found |= {final_sha256(asynchronous(tmp_path, FEDBUFF, "systems.timetable.max_staleness=1"))}
    found |= {final_sha256(asynchronous(tmp_path, FEDASYNC, f"systems.timetable.mixing={share}")) for share in (0.3, 1)}
    assert len(found) == 6


def test_one_client_of_a_step_can_be_trained_again_from_its_version(tmp_path: Path) -> None:
    with Simulation(asynchronous(tmp_path, FEDBUFF, "training.engine=rows", "training.rows=2")) as simulation:
        simulation.run()
    clients = pq.read_table(simulation.directory / "clients.parquet").to_pylist()
    prepared = prepare_job(simulation.experiment)
    assert prepared.timetable is not None
    plan = next(plan for plan in prepared.timetable.plans() if plan.step > 3 and plan.staleness.max() > 1)
    client = int(plan.clients[plan.staleness.argmax()])
    found = debug(simulation.directory, client=client, round=plan.step)
    row = next(row for row in clients if (row["round"], row["client"]) == (plan.step, client))
    assert (found.loss, found.steps) == (row["loss"], row["steps"])


NOISE = (
    "aggregation.weights=uniform",
    "client.steps=2",
    "aggregation.stages=[{name: clip, max_norm: 0.5}, {name: gaussian, noise_multiplier: 0.8}]",
)

REFUSED: list[tuple[list[str], str]] = [
    (["algorithm=scaffold"], "clients keep 'control' from round to round"),
    (["client.optimizer={name: adam, state: keep}"], "from round to round"),
    (["algorithm=mimelite"], "clients of mimelite use 'mime' of the server"),
    (["algorithm=ditto"], "ditto keeps a model of each client's own"),
    (["aggregation.protection=secagg", "aggregation.weights=uniform"], "train at different times"),
    (["aggregation.stages=[{name: clip, max_norm: 1}, {name: tree, noise_multiplier: 1}]"], "drawn for a round"),
    (["aggregation.stages=[{name: clip, max_norm: 1}, {name: gaussian, noise_multiplier: 1}]"], "set client.steps"),
    (["aggregation.stages=[{name: adaptive_clip}]"], "tells clients what belongs to one round"),
    (["aggregation.stages=[{name: downlink, codec: int8}]"], "models of different ages"),
    (["aggregation.stages=[{name: compress, codec: sign, feedback: ef14}]"], "keeps something of each client"),
    (["selection=power_of_choice"], "virtual time must not depend"),
    (["selection=poisson"], "each equally likely"),
    (["systems.timetable.buffer=6"], r"buffer \(6\) is above in_flight \(5\)"),
    (["systems.timetable.in_flight=7"], "7 clients in flight, but only 6"),
]


@pytest.mark.parametrize(("overrides", "reason"), REFUSED, ids=[" ".join(one)[:40] for one, _ in REFUSED])
def test_what_needs_one_version_of_the_model_is_refused(tmp_path: Path, overrides: list[str], reason: str) -> None:
    uniform = ["aggregation.weights=uniform"] if "stages" in overrides[0] else []
    with pytest.raises(ConfigError, match=reason) as refused:
        prepare_job(asynchronous(tmp_path, FEDBUFF, *uniform, *overrides))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["aggregation.protection=secagg", "aggregation.weights=uniform"], "the sum of one update is that update"),
        (["aggregation.weights={name: law, staleness: 1}"], "a step's one update weighs 1"),
        (["algorithm=fedkseed"], "fedkseed"),
        (list(NOISE), "this one has no others; raise buffer"),
    ],
)
def test_a_step_of_one_update_refuses_more(tmp_path: Path, overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        prepare_job(asynchronous(tmp_path, FEDASYNC, *overrides))


def test_noise_is_accounted_for_by_how_often_the_schedule_has_a_client(tmp_path: Path) -> None:
    """Each step has a sum of clipped updates, of which a client that stands there n times moves n bounds."""
    experiment = asynchronous(tmp_path, FEDBUFF, *NOISE, "rounds=30")
    prepared = prepare_job(experiment)
    assert prepared.timetable is not None
    assert prepared.privacy is not None
    assert prepared.privacy.account is not None
    counts, most, twice = np.zeros(6), [], 0
    for plan in islice(prepared.timetable.plans(), 30):
        for client in range(6):
            n = int((plan.clients == client).sum())
            counts[client] += n**2
            twice += n > 1
        most.append(counts.max())
    assert twice, "a client comes twice in a step"
    for rounds in (1, 7, 30):
        expected = gaussian_epsilon(np.sqrt(most[rounds - 1]) / 0.8, prepared.privacy.account.delta)
        assert prepared.privacy.account.epsilon(rounds) == expected
    assert "by a schedule that is known" in prepared.privacy.facts().sampling.text  # type: ignore[union-attr]
    budget = prepared.privacy.account.epsilon(7)
    assert prepare_job(experiment.updated([f"privacy.budget={budget}"])).last_round == sum(
        one <= most[6] for one in most
    )
    other = prepare_job(experiment.updated(["data.partition=iid", "data.partition.clients=6"])).timetable
    assert other is not None
    assert [(a.at, a.clients.tolist()) for a in islice(other.plans(), 30)] == [
        (a.at, a.clients.tolist()) for a in islice(prepared.timetable.plans(), 30)
    ], "no data change the schedule"


def test_without_noise_a_run_begins_without_its_steps_being_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plans(self: Buffered, after: int = 0) -> Any:
        raise AssertionError("nobody needs the schedule yet")

    monkeypatch.setattr(Buffered, "plans", plans)
    assert prepare_job(asynchronous(tmp_path, FEDBUFF, "rounds=1000000")).timetable is not None
    with pytest.raises(AssertionError, match="nobody needs"):
        prepare_job(asynchronous(tmp_path, FEDBUFF, *NOISE))


def test_noise_is_that_of_the_step_over_its_updates_and_the_same_after_a_resume(tmp_path: Path) -> None:
    """With K updates of weight 1 a step moves by (Σ s(τ) clip(Δ) + z S ẑ) / K: without learning, by noise alone."""
    plain, noisy = (
        asynchronous(tmp_path / "whole", FEDBUFF, *NOISE[:-1], one)
        for one in ("aggregation.stages=[{name: clip, max_norm: 0.5}]", NOISE[-1])
    )
    models = []
    for experiment in (plain, noisy):
        with Simulation(experiment.updated(["client.optimizer.lr=0.0000001"])) as simulation:
            simulation.run()
            models.append(np.concatenate([one.detach().numpy().ravel() for one in simulation.model().parameters()]))
    moved = models[1] - models[0]
    assert moved.std() == pytest.approx(np.sqrt(8) * 0.8 * 0.5 / 3, rel=0.15)
    with Simulation(noisy) as whole:
        whole.run()
    with Simulation(asynchronous(tmp_path / "half", FEDBUFF, *NOISE, "rounds=5")) as half:
        half.run()
    with Simulation.resume(half.directory, overrides=["rounds=8"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == sha256(whole.model())
    epsilon = pq.read_table(whole.directory / "rounds.parquet")["privacy/epsilon"].to_pylist()
    assert epsilon == sorted(epsilon)
    assert epsilon[0] > 0


def test_a_law_for_old_models_is_refused_where_none_is_old(tmp_path: Path) -> None:
    given: Any = "aggregation.weights={name: law, staleness: 1}"
    with pytest.raises(ConfigError, match="rounds wait for all their clients; remove it"):
        digits(tmp_path, given)
