"""What a run says and writes down of its engine: which one, why, and what of it is slower than it could be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federations import digits, final_sha256, sha256
from older_torch import lacking

from raysim import Experiment, Simulation
from raysim.execution.preparation import engine_choice
from raysim.tracking import QuietObserver, RunDirectory


class Telling(QuietObserver):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, object] = {}
        self.notes: list[tuple[str, str]] = []

    def start(self, experiment: Experiment, facts: Any, *, after_round: int = 0) -> None:
        self.facts = dict(facts)

    def note(self, text: str, level: Any = "info") -> None:
        self.notes.append((text, level))


def test_a_run_warns_and_records_that_torch_checks_its_compiled_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(*arguments: Any, **given: Any) -> engine_choice.ChosenEngine:
        return replace(engine_choice.choose_engine(*arguments, **given), checked="a stand-in")

    monkeypatch.setattr("raysim.execution.preparation.prepare.choose_engine", checked)
    said = Telling()
    with Simulation(digits(tmp_path), directory=tmp_path / "run", progress=said) as simulation:
        next(iter(simulation))
    note = "compiled steps take longer than they need to: a stand-in"
    assert (note, "warning") in said.notes
    assert note in (tmp_path / "run" / "log.jsonl").read_text()


@pytest.mark.parametrize("training", ["{engine: rows, rows: 3, compile: true}", "{engine: rows, compile: true}"])
def test_rows_that_are_to_be_compiled_and_cannot_be_are_rows_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: str
) -> None:
    lacking(monkeypatch, "torch._inductor.compile_fx", "compile_fx_inner")
    monkeypatch.setattr(engine_choice, "has_compiler", lambda: True)
    said = Telling()
    with Simulation(digits(tmp_path, f"training={training}"), progress=said) as simulation:
        pass
    assert simulation.experiment.training.engine == "rows"
    assert simulation.experiment.training.compile is False
    (text, level) = next(note for note in said.notes if "training.compile" in note[0])
    assert level == "warning"
    assert text.startswith("training.compile: true is not possible; ")
    assert "compile_fx_inner" in text


def test_a_run_says_and_records_why_it_has_its_engine(tmp_path: Path) -> None:
    said = Telling()
    experiment = digits(tmp_path, "rounds=100000", "training.engine=auto", "model.dropout=0.5")
    with Simulation(experiment, directory=tmp_path / "run", progress=said) as simulation:
        next(iter(simulation))
    reason = said.facts["engine"]
    assert "one client at a time: its modules draw random numbers" in str(reason)
    assert RunDirectory.open(tmp_path / "run").read_environment()["engine"] == reason


def test_a_run_says_what_it_trains_with_and_why_not_as_asked(tmp_path: Path) -> None:
    telling = Telling()
    with Simulation(digits(tmp_path, "training.engine=rows", "model.dropout=0.5"), progress=telling):
        pass
    assert telling.notes[0] == (
        "training.engine: rows is not possible; one client at a time: its modules draw random numbers in training "
        "(such as dropout), which belong to each client alone",
        "warning",
    )
    assert telling.facts["workers"] == "1 (inprocess, sequential engine)"
    telling = Telling()
    with Simulation(digits(tmp_path, "training={engine: rows, rows: 3}"), progress=telling):
        pass
    assert not [note for note in telling.notes if "training.engine" in note[0]]
    assert telling.facts["workers"] == "1 (inprocess, rows engine, 3 clients at a time)"


@pytest.mark.parametrize("asked", ["auto", "rows"])
def test_what_was_chosen_is_written_down_and_runs_again_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(engine_choice, "WORTH_TIMING", 0)
    monkeypatch.setattr(engine_choice, "CLEARLY", float("inf"))  # so that `auto` takes rows
    with Simulation(digits(tmp_path, f"training.engine={asked}")) as simulation:
        for committed in simulation:
            if committed.number == 3:
                break
    written = Experiment.from_yaml(simulation.directory / "config.yaml")
    assert written.training.engine == "rows"
    assert written.training.rows is not None
    assert written.training.rows >= 2

    def no_timing(*arguments: object) -> None:
        raise AssertionError("what was chosen is not chosen again")

    monkeypatch.setattr(engine_choice.Timing, "of", no_timing)
    with Simulation.resume(simulation.directory) as resumed:
        resumed.run()
        expected = sha256(resumed.model())
    assert final_sha256(written) == expected
