"""Runs in virtual time: what they record, that they keep their bits, when they end, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterable
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
from raysim.execution.preparation.prepare import prepare_job
from raysim.tracking.log import read_events
from raysim.tracking.report.markup import Html
from raysim.tracking.report.recorded import read_run
from raysim.tracking.report.style import LIGHT, Picture
from raysim.tracking.report.virtual import cost_curves, virtual_time

FLEET = "systems.fleet={name: log_normal, speed: 10, sigma: 1, upload: 20000, latency: 0.5}"
COSTS = "systems.costs={joules_per_second: 2, money_per_byte: 0.001}"


def finished(experiment: Experiment) -> tuple[Path, str]:
    with Simulation(experiment) as simulation:
        simulation.run()
        return simulation.directory, sha256(simulation.model())


def rounds(directory: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = pq.read_table(directory / "rounds.parquet").to_pydict()
    return found


def test_a_fleet_that_all_wait_for_changes_no_bit(tmp_path: Path) -> None:
    assert final_sha256(digits(tmp_path, FLEET)) == final_sha256(digits(tmp_path))
    lenient = "systems.timetable={name: deadline, seconds: 100000}"
    assert final_sha256(digits(tmp_path, FLEET, lenient)) == final_sha256(digits(tmp_path))


def test_messages_take_the_time_of_their_encoding_and_a_new_client_that_of_the_whole_model(tmp_path: Path) -> None:
    both = "aggregation.stages=[{name: compress, codec: int8, dense_below: 0}, {name: downlink, codec: sign}]"
    prepared = prepare_job(digits(tmp_path, FLEET, both))
    assert prepared.timetable is not None
    clock = 4 * 2  # the number of bytes sent so far, which clients read
    up = 5 + prepared.parameters + 4 * -(-prepared.parameters // 512)
    assert (prepared.timetable.load.down, prepared.timetable.load.up) == (4 * prepared.parameters + clock, up)
    with pytest.raises(
        ConfigError, match=f"below one round, which sends {4 * (up + 4 * prepared.parameters + clock):,}"
    ):
        prepare_job(digits(tmp_path, both, f"stop.wire_bytes={4 * up}"))


def test_virtual_time_energy_and_money_are_columns_of_rounds_and_clients(tmp_path: Path) -> None:
    directory, _ = finished(digits(tmp_path, FLEET, COSTS))
    prepared = prepare_job(digits(tmp_path, FLEET, COSTS))
    assert prepared.timetable is not None
    fleet, load = prepared.timetable.fleet, prepared.timetable.load
    assert (load.down, load.up) == (4 * prepared.parameters, 4 * prepared.parameters)
    table, clients = rounds(directory), pq.read_table(directory / "clients.parquet")
    at, joules, money = 0.0, 0.0, 0.0
    for place, number in enumerate(table["round"]):
        of_round = clients.filter(np.asarray(clients["round"]) == number).to_pydict()
        ids = np.array(of_round["client"])
        computes = np.array(of_round["steps"]) / fleet.speed[ids]
        seconds = 0.5 + computes + load.up / 20_000 + 0.5
        assert np.allclose(of_round["virtual_seconds"], seconds)
        assert np.allclose(of_round["virtual_joules"], 2 * computes)
        assert np.allclose(of_round["virtual_money"], 0.001 * (load.up + load.down))
        at, joules = at + seconds.max(), joules + 2 * computes.sum()
        money += len(ids) * 0.001 * (load.up + load.down)
        for name, expected in (("seconds", at), ("joules", joules), ("money", money), ("late", 0)):
            assert table[f"virtual/{name}"][place] == pytest.approx(expected)
        assert table["virtual/utilisation"][place] == pytest.approx(seconds.mean() / seconds.max())


def test_without_devices_nothing_of_virtual_time_is_recorded(tmp_path: Path) -> None:
    directory, _ = finished(digits(tmp_path, "rounds=1"))
    for name in ("rounds", "clients"):
        assert not [one for one in pq.read_schema(directory / f"{name}.parquet").names if "virtual" in one]


@pytest.mark.parametrize(
    "timetable",
    [
        "{name: deadline, seconds: 3}",
        "{name: deadline, seconds: 3, keep_partial: true}",
        "{name: over_selection, factor: 1.5}",
    ],
)
def test_a_run_is_the_same_after_a_resume(tmp_path: Path, timetable: str) -> None:
    given = FLEET, COSTS, "systems.dropout=0.2", f"systems.timetable={timetable}"
    whole, bits = finished(digits(tmp_path / "whole", *given, "cohort=3"))
    half, _ = finished(digits(tmp_path / "half", *given, "cohort=3", "rounds=2"))
    with Simulation.resume(half, overrides=["rounds=4"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == bits
    one, other = rounds(whole), rounds(half)
    assert one.keys() == other.keys()
    assert all(one[name] == other[name] for name in one if name.startswith(("virtual/", "cohort", "wire", "steps")))


OORT = "selection={name: oort, exploration: 0.5, percentile: 0, window: 1}"


def test_oort_goes_by_the_seconds_of_devices_and_is_the_same_after_a_resume(tmp_path: Path) -> None:
    given = FLEET, COSTS, "systems.dropout=0.2", OORT, "cohort=2", "rounds=6"
    whole, bits = finished(digits(tmp_path / "whole", *given))
    half, _ = finished(digits(tmp_path / "half", *given, "rounds=3"))
    with Simulation.resume(half, overrides=["rounds=6"]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == bits
    one, other = rounds(whole), rounds(half)
    assert all(one[name] == other[name] for name in one if name.startswith(("virtual/", "cohort", "wire", "steps")))
    assert debug(whole, client=int(pq.read_table(whole / "clients.parquet")["client"][-1].as_py()), round=6).steps
    clients = pq.read_table(whole / "clients.parquet").to_pandas()
    lengths = np.diff([0.0, *one["virtual/seconds"]])
    longest = clients.groupby("round")["virtual_seconds"].max()
    full = [number for number in longest.index if one["virtual/late"][number - 1] == 0]
    assert full
    assert [lengths[number - 1] for number in full] == pytest.approx([longest[number] for number in full])
    spent = [sum(clients[f"virtual_{name}"]) for name in ("joules", "money")]
    assert one["virtual/joules"][-1] >= spent[0]
    assert one["virtual/money"][-1] >= spent[1]
    slow = "systems.fleet={name: log_normal, speed: 10, sigma: 3}"
    steps = final_sha256(digits(tmp_path, OORT, "cohort=2", "rounds=6"))
    assert final_sha256(digits(tmp_path, slow, OORT, "cohort=2", "rounds=6")) != steps, "seconds are not steps"


def test_a_plan_of_oort_shows_the_first_round(tmp_path: Path) -> None:
    lines = [line for _, line in timetable_facts(prepare_job(digits(tmp_path, FLEET, OORT, "cohort=2")))]
    directory, _ = finished(digits(tmp_path, FLEET, OORT, "cohort=2"))
    first = rounds(directory)["virtual/seconds"][0]
    assert lines[-1].startswith(f"{first:,.4g} virtual seconds a step")
    assert lines[-1].endswith("whom selection chooses for later ones depends on losses")


def test_partial_work_takes_the_steps_that_there_is_time_for(tmp_path: Path) -> None:
    given = FLEET, "systems.timetable={name: deadline, seconds: 3, keep_partial: true}"
    directory, _ = finished(digits(tmp_path, *given))
    clients = pq.read_table(directory / "clients.parquet").to_pydict()
    assert max(clients["virtual_seconds"]) == 3.0
    prepared = prepare_job(digits(tmp_path, *given))
    assert prepared.timetable is not None
    work = prepared.timetable.load.work[np.array(clients["client"])]
    cut = np.array(clients["steps"]) < work
    assert cut.any()
    assert np.array_equal(cut, np.array(clients["virtual_seconds"]) == 3.0)


def test_speeds_may_count_samples(tmp_path: Path) -> None:
    given = FLEET, "systems.unit=samples", "client.batch_size=100"
    prepared, in_steps = (prepare_job(digits(tmp_path, *given, *more)) for more in ((), ("client.steps=3",)))
    assert prepared.timetable is not None
    assert in_steps.timetable is not None
    sizes = prepared.federation.sizes("train")
    assert prepared.timetable.load.work.tolist() == sizes.tolist()
    assert in_steps.timetable.load.work.tolist() == (3 * np.minimum(sizes, 100)).tolist()
    assert sizes.min() < 100


def test_a_run_ends_with_the_last_round_within_its_virtual_time(tmp_path: Path) -> None:
    directory, _ = finished(digits(tmp_path, FLEET))
    at = rounds(directory)["virtual/seconds"]
    budget = (at[1] + at[2]) / 2
    with Simulation(digits(tmp_path, FLEET, f"stop.virtual_seconds={budget}")) as simulation:
        summary = simulation.run()
    assert (summary.rounds, summary.reason) == (2, f"{budget:g} virtual seconds are over")


def test_a_run_ends_once_its_bytes_are_sent_also_after_a_resume(tmp_path: Path) -> None:
    directory, _ = finished(digits(tmp_path / "whole"))
    table = rounds(directory)
    sent = np.cumsum(np.array(table["wire_up"]) + np.array(table["wire_down"]))
    with Simulation(digits(tmp_path / "short", f"stop.wire_bytes={sent[1] + 1}", "rounds=1")) as simulation:
        simulation.run()
    with Simulation.resume(simulation.directory, overrides=["rounds=4"]) as resumed:
        summary = resumed.run()
    assert (summary.rounds, summary.reason) == (3, f"{sent[2]:,} bytes were sent")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["systems.fleet={name: log_normal, sigma: 1}"], "systems.fleet.speed: "),
        (["stop.virtual_seconds=5"], "stop.virtual_seconds: there is no virtual time without devices"),
        ([FLEET, "client.stragglers.share=0.5"], "client.stragglers makes clients late as well"),
        ([FLEET, "systems.fleet.speed=0"], "systems.fleet.speed"),
        (["systems.fleet={name: tiers, tiers: [{share: 0.5, speed: 1}]}"], "the shares of tiers add up to 0.5"),
        (["systems.fleet={name: log_normal, speed: 1, network_sigma: 1}"], "network_sigma spreads upload and download"),
    ],
)
def test_the_schema_refuses_what_does_not_belong_together(tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        digits(tmp_path, *overrides)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["systems.timetable={name: deadline, seconds: 0.5}"],
            r"no client can return within 0.5 virtual seconds \(0% of 6",
        ),
        (
            ["systems.timetable={name: deadline, seconds: 0.5, keep_partial: true}"],
            "no client can do a local step within",
        ),
        (["stop.virtual_seconds=0.5"], "stop.virtual_seconds: 0.5 s are below the first step"),
        (["stop.wire_bytes=100"], "stop.wire_bytes: 100 are below one round, which sends"),
        (["selection=power_of_choice"], "power_of_choice looks at results, and virtual time must not depend on them"),
        (["selection=oort", "stop.virtual_seconds=50"], "the last round within it is not known before"),
        (["selection=oort", "systems.timetable=over_selection"], "over_selection draws more clients than a cohort"),
        (["algorithm=centralised"], "centralised training has no devices"),
        (
            ["cohort=6", "systems.timetable=over_selection"],
            "1.3 times a cohort of 6 is no more",
        ),
        (["systems.timetable=over_selection", "selection=poisson"], "over_selection draws more clients than a cohort"),
        (
            ["systems.fleet=none", "systems.timetable=over_selection"],
            "systems.timetable: it is for devices; set systems.f",
        ),
        (["systems.fleet=none", "systems.dropout=0.5"], "systems.dropout: it is for devices"),
        (["systems.fleet={name: trace, path: nowhere.csv}"], "systems.fleet.path: nowhere.csv: no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_a_run(tmp_path: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Simulation(digits(tmp_path, FLEET, *overrides))
    assert not list(tmp_path.iterdir())


def test_epsilon_is_not_accounted_for_cohorts_that_devices_change(tmp_path: Path) -> None:
    noise = (
        "selection=poisson",
        "aggregation.weights=uniform",
        "aggregation.stages=[{name: clip, max_norm: 1}, {name: gaussian, noise_multiplier: 1}]",
    )
    prepare_job(digits(tmp_path, FLEET, *noise))
    with pytest.raises(ConfigError, match="epsilon is accounted for the cohorts that selection draws"):
        prepare_job(digits(tmp_path, FLEET, *noise, "systems.dropout=0.1"))


def test_a_resume_with_another_fleet_timetable_or_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_text("device,speed\n0,10\n1,3\n")
    directory, _ = finished(digits(tmp_path / "runs", f"systems.fleet={{name: trace, path: {path}}}", "rounds=1"))
    for override in ("systems.fleet={name: log_normal, speed: 1}", "systems.timetable={name: deadline, seconds: 9}"):
        with pytest.raises(RunError, match=r"systems\."):
            Simulation.resume(directory, overrides=["rounds=2", override])
    path.write_text("device,speed\n0,10\n1,4\n")
    with pytest.raises(RunError, match=r"systems\.fleet\.path was"):
        Simulation.resume(directory, overrides=["rounds=2"])


def test_reports_show_what_a_model_cost_in_virtual_time_and_bytes(tmp_path: Path) -> None:
    runs = [read_run(finished(digits(tmp_path, "rounds=2", *more))[0]) for more in ((FLEET, COSTS), ())]
    placed: list[str] = []

    def place(pictures: Iterable[Picture]) -> Html:
        placed.extend(one.name for one in pictures)
        return Html("")

    text = virtual_time(runs[0], place).text
    assert all(said in text for said in ("Virtual time", "devices in use", "joules", "of money"))
    assert placed == ["cost-virtual-seconds", "cost-mib"] == [one.name for one in cost_curves(runs)]
    assert not virtual_time(runs[1], place).text
    assert cost_curves(runs[1:]) == []
    drawn = cost_curves(runs[:1])[0].draw(LIGHT)
    assert np.allclose(drawn.axes[0].lines[0].get_xdata(), runs[0].columns["virtual/seconds"])


def test_a_plan_shows_the_timetable(tmp_path: Path) -> None:
    deadline = "systems.timetable={name: deadline, seconds: 3}"
    prepared = prepare_job(digits(tmp_path, FLEET, deadline))
    lines = [line for _, line in timetable_facts(prepared)]
    assert lines[0].startswith("deadline on log_normal devices; ")
    assert lines[0].endswith("% of the clients can do their work before the deadline")
    assert any("drawn are late, gone or dropped; never in time: client" in line for line in lines)
    found = forecast_of(prepared)
    assert found is not None
    directory, _ = finished(digits(tmp_path, FLEET, deadline))
    assert (found.steps, found.seconds) == (4, rounds(directory)["virtual/seconds"][-1])
    started = next(one for one in read_events(directory / "log.jsonl") if one["event"] == "started")
    assert started["timetable"] == lines[0]
    assert timetable_facts(prepare_job(digits(tmp_path))) == []
