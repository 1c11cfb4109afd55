"""What a run with noise records, when it ends, what it shows, and what is refused before it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from raysim import Experiment, Simulation
from raysim.config.loading import apply_overrides
from raysim.errors import ConfigError
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.tracking import QuietObserver, read_rounds
from raysim.tracking.directory import RunDirectory
from raysim.tracking.report.markup import Html
from raysim.tracking.report.privacy import privacy as section
from raysim.tracking.report.recorded import read_run
from raysim.tracking.report.style import LIGHT, Picture

PRIVATE: dict[str, Any] = {
    "rounds": 6,
    "cohort": 4,
    "selection": "poisson",
    "data": {"partition": {"name": "iid", "clients": 40}},
    "client": {"steps": 1},
    "aggregation": {
        "weights": "uniform",
        "stages": [{"name": "clip", "max_norm": 1.0}, {"name": "prototype_stages:Accounted"}],
    },
    "evaluation": {"every": 5},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
    "tracking": {"report": False, "checkpoint_every": 2},
}
NOISE = "aggregation.stages=[{name: clip, max_norm: 1}, {name: 'prototype_stages:Accounted', args: {%s}}]"


class Told(QuietObserver):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.facts: dict[str, object] = {}

    def start(self, experiment: Experiment, facts: Any, *, after_round: int = 0) -> None:
        self.facts = dict(facts)

    def note(self, text: str, level: Any = "info") -> None:
        self.notes.append(f"{level}: {text}")


def experiment(*overrides: str) -> Experiment:
    return Experiment.parse(apply_overrides(PRIVATE, overrides))


def prepared(*overrides: str) -> Prepared:
    return prepare_job(experiment(*overrides))


def column(run: RunDirectory, name: str) -> list[float]:
    return read_rounds(run)[name].to_pylist()


def report_of(run: Path) -> str:
    """The report's section, its pictures drawn but left out."""

    def place(pictures: Iterable[Picture]) -> Html:
        return Html(" ".join(picture.png(LIGHT)[1:4].decode() for picture in pictures))

    return section(read_run(run), place).text


def test_epsilon_is_a_column_and_a_resume_continues_it(tmp_path: Path) -> None:
    found = prepared().privacy
    assert found is not None
    assert found.account is not None
    expected = [found.account.epsilon(number) for number in range(1, 7)]
    with Simulation(experiment(), directory=tmp_path / "run") as simulation:
        for one in simulation:
            assert one.metrics["privacy/epsilon"] == expected[one.number - 1]
            if one.number == 3:
                break
    Simulation.resume(tmp_path / "run").run()
    run = RunDirectory.open(tmp_path / "run")
    assert column(run, "privacy/epsilon") == expected
    assert expected == sorted(expected)
    recorded = json.loads(run.environment.read_text())["privacy"]
    assert (recorded["epsilon"], recorded["adjacency"], recorded["accountant"]) == (expected[-1], "add_remove", "pld")
    assert recorded["without_amplification"] > 3 * expected[-1]
    assert any("seed can remove it" in one for one in recorded["assumptions"])
    page = report_of(tmp_path / "run")
    for text in ("<h2>Privacy</h2>", "PNG", "with or without one client", "probability 0.1", "multiplier 1", "amplify"):
        assert text in page


def test_a_run_ends_with_the_last_round_of_its_budget(tmp_path: Path) -> None:
    account = prepared().privacy.account  # type: ignore[union-attr]
    assert account is not None
    budget = (account.epsilon(3) + account.epsilon(4)) / 2
    told = Told()
    simulation = Simulation(experiment(f"privacy.budget={budget}"), directory=tmp_path / "run", progress=told)
    assert "round 3 of 6 is the last within the budget" in str(told.facts["privacy"])
    summary = simulation.run()
    assert summary.rounds == 3
    assert summary.reason == f"the privacy budget (epsilon {budget:g}) allows no further round"
    assert "test/accuracy" in summary.metrics  # evaluated in the last round
    more = Simulation.resume(tmp_path / "run", overrides=["privacy.budget=100"]).run()
    assert more.rounds == 6


def test_a_hypothetical_cohort_is_called_so_everywhere(tmp_path: Path) -> None:
    told = Told()
    private = experiment("privacy.hypothetical_cohort=16", "rounds=1")
    summary = Simulation(private, directory=tmp_path / "run", progress=told).run()
    assert "privacy/epsilon" not in summary.metrics
    assert summary.metrics["privacy/hypothetical_epsilon"] > prepared().privacy.account.epsilon(1)  # type: ignore[union-attr]
    assert summary.metrics["stages/Accounted/factor"] == 4 / 16
    assert any(note.startswith("warning: privacy: hypothetical") for note in told.notes)
    assert "Hypothetical: epsilon is that of cohorts of 16" in report_of(tmp_path / "run")


def test_what_has_no_epsilon_says_why_and_shows_none(tmp_path: Path) -> None:
    told = Told()
    private = experiment("selection={name: clustered, clusters: 2}", "rounds=1")
    summary = Simulation(private, directory=tmp_path / "run", progress=told).run()
    assert not [name for name in summary.metrics if name.startswith("privacy/")]
    assert (
        "warning: privacy: no epsilon: cohorts of clustered selection depend on the labels of all clients" in told.notes
    )
    assert "No epsilon: cohorts of clustered selection" in report_of(tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["aggregation.stages=[]", "privacy.delta=1e-6"], "privacy: no stage of aggregation.stages adds noise"),
        (["selection=oort"], "selection: oort selects by the clients' losses, private data"),
        (["selection=power_of_choice"], "selection: power_of_choice selects by the clients' losses"),
        (["selection={name: clustered, clusters: 2}", "privacy.budget=3"], "there is no epsilon to spend"),
        (["privacy.budget=0.01"], "privacy.budget: 0.01 does not allow one round, whose epsilon is"),
        (["privacy.delta=0.1"], "privacy.delta: 0.1 lets one of 40 clients be published"),
        (["stop={metric: train/loss, patience: 2}"], "stop: train/loss is measured on private data of the clients"),
        (
            ["stop={metric: clients/accuracy/mean, target: 0.9}", "data.holdout=0.2"],
            "stop: clients/accuracy/mean is measured on private data",
        ),
        (["evaluation.sets=[]", "stop={patience: 2}"], "stop: train/loss is measured on private data of the clients"),
        ([NOISE % "kind: laplace", "privacy.accountant=rdp"], "privacy.accountant: Laplace noise"),
        ([NOISE % "adds: each_client", "privacy.adjacency=add_remove"], "privacy.adjacency: each client's"),
        ([NOISE % "adds: clients", "privacy.hypothetical_cohort=9"], "hypothetical_cohort: clients add"),
    ],
)  # fmt: skip
def test_what_noise_does_not_give_is_refused_before_the_run(overrides: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        prepared(*overrides)
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (
            ["client.stragglers={share: 0.5, keep: false}", "client.steps=null"],
            "which stragglers are dropped depends on who else",
        ),
        (["client.stragglers={share: 0.5, keep: false}", "client.steps=null", "selection=uniform"], ""),
        (["client.stragglers={share: 0.5, keep: false}", "client.steps=null", "selection=round_robin"], ""),
    ],
)
def test_stragglers_that_are_dropped_are_no_poisson_sample(overrides: list[str], why: str) -> None:
    found = prepared(*overrides).privacy
    assert found is not None
    assert found.why.startswith(why)
    assert (found.account is None) == bool(why)


def test_without_dp_accounting_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"pip install 'raysim-fl\[dp\]'"):
        prepared()
    assert prepared("selection=round_robin").privacy is not None  # exact without it
