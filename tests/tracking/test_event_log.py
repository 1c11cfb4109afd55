from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysim.tracking import EventLog, read_events


def test_an_event_is_a_line_that_is_there_at_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log.jsonl")
    log.info("started", rounds=3)
    (event,) = read_events(tmp_path / "log.jsonl")
    assert (event["level"], event["event"], event["rounds"]) == ("info", "started", 3)
    assert event["time"][10] == "T"
    log.warning("client dropped", client=17, reason="größer als 1")
    log.error("no more workers")
    log.close()
    assert [event["level"] for event in read_events(tmp_path / "log.jsonl")] == ["info", "warning", "error"]


def test_lines_are_strict_json_whatever_the_values(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log.jsonl") as log:
        log.info("odd", loss=float("nan"), path=Path("/x"), nested={"a": [float("inf"), 1.0]})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    event = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert event["loss"] is None
    assert event["path"] == "/x"
    assert event["nested"] == {"a": [None, 1.0]}


def test_a_log_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "one"}\n{"event": "tw')
    with EventLog(path) as log:
        log.info("three")
    assert [event["event"] for event in read_events(path)] == ["one", "three"]


def test_a_field_cannot_take_the_place_of_the_log_s_own(tmp_path: Path) -> None:
    with EventLog(tmp_path / "log.jsonl") as log, pytest.raises(ValueError, match="level"):
        log.info("x", level="high")


def test_no_log_has_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "log.jsonl")) == []
