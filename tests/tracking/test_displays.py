from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from synthetic_runs import make_row

from raysim.config import Experiment
from raysim.rounds.rows import RunSummary
from raysim.tracking import Observer, QuietObserver
from raysim.tracking.closing import closing_lines
from raysim.tracking.observers import JsonObserver, PlainObserver
from raysim.tracking.observers.display import Pace
from raysim.tracking.observers.terminal import TerminalObserver

SUMMARY = RunSummary(
    4, "the target is reached", 2.0, {"test/accuracy": 0.75}, Path("runs/x"), Path("runs/x/report.html")
)


def drive(progress: Observer) -> None:
    """A run that has everything odd: a NaN, a drop, a round without metrics, markup in a note."""
    progress.start(Experiment(name="digits", rounds=10), {"clients": 20, "path": "a [red]b[/red]"})
    progress.round(make_row(1))
    progress.round(make_row(2))
    progress.note("client 7 [bold] was dropped", "warning")
    progress.round(make_row(3, trained=3, dropped=1, metrics={}, seconds={}))
    progress.round(make_row(4, metrics={"train/loss": float("nan"), "test/accuracy": 0.75}))
    progress.note("all is well")
    progress.finish(SUMMARY)


def test_people_are_told_what_is_being_prepared_and_programs_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    plain, rich = io.StringIO(), io.StringIO()
    shown: list[Observer] = [
        PlainObserver(plain),
        TerminalObserver(Console(file=rich)),
        QuietObserver(),
        JsonObserver(),
    ]
    for progress in shown:
        progress.preparing("building the [red] shards")
    assert plain.getvalue().strip() == rich.getvalue().strip() == "building the [red] shards …"
    assert capsys.readouterr() == ("", "")


def test_plain_progress_is_a_line_a_round() -> None:
    out = io.StringIO()
    drive(PlainObserver(out))
    lines = out.getvalue().splitlines()
    assert lines[:3] == ["digits: 10 rounds", "  clients: 20", "  path: a [red]b[/red]"]
    rounds = [line for line in lines if line.startswith("round ")]
    assert len(rounds) == 4
    assert rounds[1].startswith("round 2/10  train/loss 1.0000  test/accuracy 0.5000")
    assert "1 dropped" in rounds[2]
    assert "warning: client 7 [bold] was dropped" in lines
    assert lines[-1].endswith("runs/x/report.html")


def test_json_progress_is_strict_json_lines() -> None:
    out = io.StringIO()
    drive(JsonObserver(out))
    events = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "start", "round", "round", "note", "round", "round", "note", "finish",
    ]  # fmt: skip
    assert events[2]["metrics"]["test/accuracy"] == 0.5
    assert events[5]["metrics"]["train/loss"] is None
    assert events[-1]["report"] == "runs/x/report.html"


def test_json_goes_to_stdout_and_people_read_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    drive(JsonObserver())
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 8
    assert captured.err == ""
    drive(PlainObserver())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_quiet_says_only_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    drive(QuietObserver())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: client 7 [bold] was dropped\n"


@pytest.mark.parametrize("width", [40, 80, 140])
def test_the_live_display_shows_the_rounds_and_the_best(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None, highlight=False)
    drive(TerminalObserver(console))
    text = out.getvalue()
    assert "digits" in text
    assert "a [red]b[/red]" in text
    assert "client 7 [bold] was dropped" in text
    assert "the target is reached: 4 rounds in 2.0 s" in text
    if width >= 80:
        assert "4/10" in text
        assert "best 0.7500 in round 4" in text


def test_the_live_display_ends_even_if_nothing_happened() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    progress = TerminalObserver(console)
    progress.start(Experiment(), {})
    progress.finish(RunSummary(0, "interrupted", 0.1))
    TerminalObserver(console).finish(RunSummary(0, "failed", 0.0))


def test_a_resumed_run_counts_its_pace_from_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(1000, after_round=990)
    assert pace.left is None
    now = 110.0
    for round in range(991, 996):
        pace.see(make_row(round))
    assert pace.left == 10.0
    assert pace.speeds == ["2 clients/s"]
    pace.see(make_row(1000))
    assert pace.left is None


def test_tokens_are_shown_where_samples_have_any(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = Pace(10, after_round=0)
    now = 102.0
    pace.see(replace(make_row(1), tokens=5000))
    assert pace.speeds[1] == "2,500 tokens/s"
    said = closing_lines(RunSummary(1, "all rounds are done", 2.0, tokens=5000))[0]
    assert said == "all rounds are done: 1 round in 2.0 s, 2,500 tokens/s"


def test_single_classes_are_no_columns_unless_the_run_stops_by_one() -> None:
    metrics = {"test/accuracy": 0.5} | {f"test/{what}/{i}": 0.25 for what in ("recall", "f1") for i in range(10)}
    for override, shown in ((None, False), ("stop.metric=test/recall/7", True)):
        experiment = Experiment(rounds=9).updated([override, "stop.patience=3"] if override else [])
        plain, rich = io.StringIO(), io.StringIO()
        live = TerminalObserver(Console(file=rich, width=120, force_terminal=True, color_system=None))
        for progress in (PlainObserver(plain), live):
            progress.start(experiment, {})
            progress.round(make_row(1, metrics=metrics))
            progress.finish(RunSummary(1, "done", 1.0, {}))
        for text in (plain.getvalue(), rich.getvalue()):
            assert ("test/recall/7" in text) is shown
            assert "test/f1/3" not in text


@pytest.mark.parametrize(("width", "metrics"), [(120, 5), (70, 4), (50, 1)])
def test_the_table_has_as_many_metrics_as_there_is_room_for_and_cuts_nothing(width: int, metrics: int) -> None:
    names = ["test/accuracy", "privacy/epsilon", "train/loss", "test/loss", "clients/accuracy/worst10"]
    out = io.StringIO()
    progress = TerminalObserver(Console(file=out, width=width, color_system=None, highlight=False))
    progress.start(Experiment(rounds=400), {})
    for number in range(97, 103):
        values = {name: place + 0.1234 for place, name in enumerate(names)}
        progress.round(make_row(number, metrics=values, trained=1024, dropped=2, tokens=524_288))
    progress._console.print(progress._draw())
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    rows = [line.split() for line in text.splitlines() if re.match(r" *\d+ .* ms$", line)]
    shown = [f"{place}.1234" for place in range(metrics)]
    assert rows == [[str(number), *shown, "1024", "2", "750", "ms"] for number in range(97, 103)]
    assert "102/400" in text
    assert "tokens/s" in text.replace("\n", "")
    progress.finish(SUMMARY)
    assert "report  runs/x/report.html" in out.getvalue()
