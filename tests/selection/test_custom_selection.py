"""Selections of a user's own, named by import string."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import invoke
from federations import digits, final_sha256, sha256

from raysim import Simulation
from raysim.cli.catalogue import catalogue
from raysim.data.federation import Int64
from raysim.debugging import debug
from raysim.errors import ConfigError, UserCodeError
from raysim.execution.scheduling.round_costs import rounds_ahead
from raysim.rounds.ranges import Evaluated, TrainRange
from raysim.selection import Measure, Selection, State, losses_of


class Waiting(Selection):
    """The clients that have waited the longest, ties in keyed order."""

    adaptive = True

    def first(self) -> State:
        return {"last": np.zeros(self.federation.population, dtype=np.int64)}

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        tie = self.uniform(round_number, np.arange(self.federation.population))
        return np.sort(np.lexsort((tie, state["last"]))[: self.size])

    def after(self, round_number: int, state: State, clients: Int64, evaluated: Iterable[Evaluated]) -> State:
        last = state["last"].copy()
        last[clients] = round_number
        return {"last": last}


class Worst(Selection):
    """The highest losses: before the round those of a few clients, after it those of its cohort."""

    adaptive = True

    def __init__(self, *given: Any, among: int) -> None:
        super().__init__(*given)
        self._among = among

    def first(self) -> State:
        return {"losses": np.full(self.federation.population, np.inf)}

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        clients = np.sort(np.argsort(-state["losses"], kind="stable")[: self._among])
        losses = losses_of(measure(self.train_ranges(clients)), clients)[:, 0]
        return np.sort(clients[np.argsort(-losses, kind="stable")[: self.size]])

    def ranges(self, clients: Int64) -> tuple[TrainRange, ...]:
        return self.train_ranges(clients)

    def after(self, round_number: int, state: State, clients: Int64, evaluated: Iterable[Evaluated]) -> State:
        losses = state["losses"].copy()
        losses[clients] = losses_of(evaluated, clients)[:, 0]
        return {"losses": losses}


class Ahead(Selection):
    """Two neighbours from a keyed place on, known long before."""

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        start = int(self.uniform(round_number) * (self.federation.population - 1))
        return np.arange(start, start + 2)


class Peeking(Ahead):
    """Measures, although rounds are drawn ahead."""

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        measure([])
        return super().cohort(round_number, state, measure)


class Crowd(Ahead):
    """More clients than a cohort has."""

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        return np.arange(self.size + 1)


OWN = {
    "waiting": f"{__name__}:Waiting",
    "worst": f"{{name: '{__name__}:Worst', args: {{among: 4}}}}",
    "ahead": f"{__name__}:Ahead",
}
SHORT = ("cohort=2", "rounds=5", "tracking.checkpoint_every=1")


def cohorts(directory: Path) -> Iterator[tuple[int, ...]]:
    table = pq.read_table(directory / "clients.parquet").to_pydict()
    for number in sorted(set(table["round"])):
        yield tuple(c for r, c in zip(table["round"], table["client"], strict=True) if r == number)


@pytest.mark.parametrize("name", OWN)
def test_a_resumed_run_selects_as_an_unbroken_one_and_ends_in_the_same_bits(tmp_path: Path, name: str) -> None:
    experiment = digits(tmp_path, f"selection={OWN[name]}", *SHORT)
    with Simulation(experiment, directory=tmp_path / "whole") as simulation:
        simulation.run()
        expected = sha256(simulation.model())
    with Simulation(experiment, directory=tmp_path / "broken") as simulation:
        for committed in simulation:
            if committed.number == 3:
                break
    with Simulation.resume(tmp_path / "broken") as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
    whole, broken = list(cohorts(tmp_path / "whole")), list(cohorts(tmp_path / "broken"))
    assert whole == broken
    assert len(set(whole)) > 1
    if name == "waiting":
        assert sorted(whole[0] + whole[1] + whole[2]) == list(range(6)), "each once before any twice"
    assert debug(tmp_path / "whole", client=whole[4][0], round=5).steps > 0
    assert expected != final_sha256(digits(tmp_path, *SHORT))


@pytest.mark.ray
@pytest.mark.parametrize("name", OWN)
def test_on_ray_the_bits_are_those_in_process(tmp_path: Path, ray_session: object, name: str) -> None:
    experiment = digits(tmp_path, f"selection={OWN[name]}", "cohort=2", "rounds=4")
    spread = experiment.updated(["execution.executor=ray", "execution.actors=2"])
    assert final_sha256(spread) == final_sha256(experiment)


def test_only_rounds_of_a_selection_that_is_not_adaptive_are_drawn_ahead(tmp_path: Path) -> None:
    for name, ahead in {"waiting": 0, "worst": 0, "ahead": 7}.items():
        assert rounds_ahead(digits(tmp_path, f"selection={OWN[name]}", "execution.rounds_ahead=7")) == ahead


def test_it_is_listed_and_runs_from_the_command_line(tmp_path: Path) -> None:
    assert "package.module:name" in catalogue("selections")
    overrides = [f"selection={OWN['waiting']}", "rounds=2", "execution.executor=inprocess"]
    result = invoke("run", "quickstart", *overrides, "--directory", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    first, second = cohorts(tmp_path / "run")
    assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("selection", "line"),
    [
        (f"{__name__}:digits", "selection.name: test_custom_selection:digits is not a subclass of raysim.selection"),
        (
            f"{__name__}:Worst",
            "selection.args: test_custom_selection:Worst: missing a required",
        ),
        (f"{{name: '{__name__}:Waiting', args: {{x: 1}}}}", "selection.args: test_custom_selection:Waiting: got an"),
        (f"{__name__}:Selection", "selection test_custom_selection:Selection: TypeError: Can't instantiate abstract"),
    ],
)
def test_what_is_no_selection_is_refused_before_the_run(tmp_path: Path, selection: str, line: str) -> None:
    with pytest.raises((ConfigError, UserCodeError)) as caught:
        Simulation(digits(tmp_path, f"selection={selection}"), directory=tmp_path / "run")
    assert str(caught.value).startswith(line)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Peeking", "Peeking: cohort: measure was called; only an adaptive selection knows of the rounds before; set"),
        ("Crowd", "Crowd: cohort returned 3 clients; a cohort has at most 2"),
    ],
)
def test_a_cohort_that_cannot_be_worked_on_is_one_line(tmp_path: Path, name: str, line: str) -> None:
    experiment = digits(tmp_path, f"selection={__name__}:{name}", "cohort=2")
    with pytest.raises(UserCodeError) as caught, Simulation(experiment) as simulation:
        simulation.run()
    assert str(caught.value).startswith(f"round 1: selection {__name__}:{line}")


def test_where_an_algorithm_keeps_a_cohort_the_selection_is_asked_for_it_again(tmp_path: Path) -> None:
    two_rounds = ["algorithm=mime", "cohort=2", "rounds=4", "data.validation=0"]
    with Simulation(digits(tmp_path, f"selection={OWN['ahead']}", *two_rounds)) as simulation:
        assert simulation.experiment.algorithm.name == "mime"
        simulation.run()
    one, two, three, four = cohorts(simulation.directory)
    assert (one, three) == (two, four)
    with pytest.raises(ConfigError, match="mime keeps each cohort for 2 rounds, and test_custom_selection:Waiting"):
        Simulation(digits(tmp_path, f"selection={OWN['waiting']}", *two_rounds))
