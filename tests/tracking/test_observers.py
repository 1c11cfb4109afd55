from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import make_row

from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.rounds.rows import RunSummary
from raysim.tracking import Observer, QuietObserver, open_observers
from raysim.tracking.observers import Failure, PlainObserver
from raysim.tracking.observers.base import METHODS

SUMMARY = RunSummary(2, "all rounds are done", 2.0, {"test/accuracy": 0.75}, Path("runs/x"))
CALLS = ["preparing", "start", "round", "note", "round", "finish"]


class Told(Observer):
    """Keeps every call, and raises in one of them if it is asked to."""

    def __init__(self, raises_in: str = "", error: BaseException | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._raises_in, self._error = raises_in, error

    def __getattribute__(self, name: str) -> Any:
        if name not in METHODS:
            return super().__getattribute__(name)

        def call(*arguments: Any, **named: Any) -> None:
            if name == self._raises_in:
                raise self._error or ValueError("full")
            self.calls.append((name, arguments, named))

        return call

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


class Refusing(Observer):
    """Cannot be made."""

    def __init__(self) -> None:
        raise ValueError("no server named")


def drive(observer: Observer) -> None:
    observer.preparing("building the shards")
    observer.start(Experiment(rounds=2), {"clients": 20}, after_round=0)
    observer.round(make_row(1))
    observer.note("client 7 was dropped", "warning")
    observer.round(make_row(2))
    observer.finish(SUMMARY)


def opened(progress: Any, *configured: str) -> list[str]:
    """The classes of the observers that are made."""
    experiment = Experiment().updated([f"tracking.observers=[{', '.join(configured)}]"])
    return [type(one).__name__ for one in open_observers(progress, experiment.tracking.observers)._observers]


def test_observers_are_chosen_by_name_and_each_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened(None) == ["QuietObserver"]
    assert opened("json") == ["JsonObserver"]
    assert opened(["plain", "json", "json"], "plain") == ["PlainObserver", "JsonObserver"]
    assert opened("quiet", "plain") == opened(None, "plain") == ["PlainObserver"], "plain prints warnings, too"
    assert opened([Told(), "plain", PlainObserver()]) == ["PlainObserver", "Told", "PlainObserver"]
    assert opened([]) == []
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert opened("terminal", "plain") == ["PlainObserver"]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert opened("terminal") == ["TerminalObserver"]


def test_several_observers_get_the_same_calls() -> None:
    one, other = Told(), Told()
    drive(open_observers([one, other]))
    assert one.names == CALLS
    assert one.calls == other.calls


@pytest.mark.parametrize("error", [ValueError("full"), SystemExit(1), GeneratorExit()])
def test_an_observer_that_fails_is_named_once_and_gets_no_further_calls(error: BaseException) -> None:
    before, failing, after = Told(), Told("round", error), Told()
    logged: list[Failure] = []
    observers = open_observers([before, failing, after])
    observers.log_failures(logged.append)
    drive(observers)
    assert failing.names == ["preparing", "start"]
    assert before.calls == after.calls
    assert after.names == [*CALLS[:3], "note", *CALLS[3:]], "the warning comes after the round itself"
    (failure,) = logged
    assert after.calls[3][1] == (str(failure), "warning")
    assert str(failure).startswith("observer Told failed in `round` and gets no further calls (")
    assert type(error).__name__ in failure.traceback


def test_ctrl_c_inside_an_observer_passes() -> None:
    observers = open_observers(Told("round", KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        drive(observers)


def test_warnings_are_printed_where_no_observer_is_left_and_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    observers = open_observers(Told("preparing"))
    observers.preparing("building the shards")
    observers.note("client 7 was dropped", "warning")
    logged: list[Failure] = []
    observers.log_failures(logged.append)
    assert [one.call for one in logged] == ["preparing"], "from before there was a log"
    kept = Told()
    open_observers([Told("finish"), kept]).finish(SUMMARY)
    assert kept.names == ["finish"], "`finish` is the last call"
    assert capsys.readouterr().err.splitlines() == [
        "warning: observer Told failed in `preparing` and gets no further calls (ValueError: full)",
        "warning: client 7 was dropped",
        "warning: observer Told failed in `finish` and gets no further calls (ValueError: full)",
    ]


CONTRACT = (
    "an observer (terminal, plain, json, quiet, tensorboard, mlflow, wandb, or an object with the methods of "
    "raysim.tracking.Observer)"
)
ALL = "preparing, start, round, note, finish"


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        ("plian", "progress: unknown observer 'plian'; did you mean 'plain'?"),
        (
            "comet",
            "progress: unknown observer 'comet'; valid are terminal, plain, json, quiet, tensorboard, mlflow, wandb",
        ),
        ([QuietObserver], "progress: QuietObserver is a class; give an observer, QuietObserver(…)"),
        (3, f"progress: expected {CONTRACT}, got int without {ALL}"),
        ([Told(), print], f"progress: expected {CONTRACT}, got builtin_function_or_method without {ALL}"),
    ],
)
def test_what_is_no_observer_is_refused_in_one_line(progress: Any, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        open_observers(progress)
    assert str(refused.value) == line


HERE = "test_observers"


@pytest.mark.parametrize(
    ("observer", "line"),
    [
        (
            "nowhere:Thing",
            ": no module 'nowhere' (from 'nowhere:Thing'); "
            "run from the folder that it is in, name that folder in PYTHONPATH, or install it",
        ),
        (f"{HERE}:Missing", f": module '{HERE}' has no 'Missing'"),
        (f"{HERE}:SUMMARY", f": {HERE}:SUMMARY is a RunSummary, not a class of observers"),
        (
            f"{{name: '{HERE}:Told', args: {{width: 3}}}}",
            f".args: {HERE}:Told cannot be called with them: got an unexpected keyword argument 'width'",
        ),
        (f"{HERE}:Refusing", f": {HERE}:Refusing: ValueError: no server named"),
        ("builtins:object", f": builtins:object: expected {CONTRACT}, got object without {ALL}"),
    ],
)
def test_an_import_string_that_names_no_observer_is_one_line_with_its_place(observer: str, line: str) -> None:
    experiment = Experiment().updated([f"tracking.observers=[json, {observer}]"])
    with pytest.raises(ConfigError) as refused:
        open_observers(None, experiment.tracking.observers)
    assert str(refused.value) == f"tracking.observers[1]{line}"


def test_an_unknown_name_in_the_configuration_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^overrides: tracking.observers\[0\]: .* 'jsn'; did you mean 'json'\?$"):
        Experiment().updated(["tracking.observers=[jsn]"])
