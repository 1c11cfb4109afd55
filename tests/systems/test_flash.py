"""States of phones as windows in which they are there."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysim.config.systems import SystemsConfig
from raysim.systems import build_fleet
from raysim.systems.flash import main

DAY = "2020-01-31"


def messages(*states: tuple[str, str]) -> dict[str, str]:
    return {"guid": "a", "model": "m", "messages": "\n".join(f"{DAY} {time}\t{state}" for time, state in states)}


NIGHT = messages(
    ("02:00:10", "wifi"),
    ("02:00:00", "battery_charged_on"),
    ("02:00:20", "screen_off"),
    ("02:00:25", "80.0%"),
    ("02:01:00", "screen_lock"),
    ("02:01:10", "screen_on"),
    ("02:02:00", "screen_unlock"),
    ("02:03:00", "Screen_Off"),
    ("02:03:30", "4G"),
    ("02:04:00", "wifi"),
    ("02:05:00", "battery_charged_off"),
)
"""There from dark to unlocked, from dark to mobile, and from Wi-Fi to the end of charging."""
OPEN = messages(
    ("01:00:00", "battery_charged_on"), ("01:00:00", "wifi"), ("01:00:00", "screen_lock"), ("01:30:00", "5%")
)
NEVER = messages(("00:00:30", "wifi"))


def test_a_phone_is_there_while_it_charges_on_wifi_and_is_dark_or_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = messages(("01:00:00", "flying")), {"guid": "b"}, messages(("noon", "wifi"))
    phones = {"x": NIGHT, "n": NEVER, "y": OPEN, **{f"odd{i}": one for i, one in enumerate(odd)}}
    (tmp_path / "phones.json").write_text(json.dumps(phones), encoding="utf-8")
    record = tmp_path / "windows.parquet"
    assert main([str(tmp_path / "phones.json"), str(record)]) == 0
    said = f"{record}: 4 rows\nleft out: 4 phones, the first 'n': it is never there\n"
    assert capsys.readouterr().out == said
    table, two = pq.read_table(record).to_pydict(), 2 * 3600.0
    assert table == {
        "device": [0, 0, 0, 1],
        "start": [two + 20, two + 180, two + 240, 3600.0],
        "end": [two + 120, two + 210, two + 300, 5400.0],
    }
    fleet = {"fleet": {"name": "log_normal", "speed": 1.0}, "availability": {"name": "trace", "path": str(record)}}
    assert build_fleet(SystemsConfig.model_validate(fleet), 0, 2).windows is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "expected a mapping with an entry for each phone"),
        (json.dumps({"n": NEVER}), "no phone is ever there; the first, 'n': it is never there"),
        (json.dumps({"o": messages(("01:00:00", "flying"))}), "line 1: unknown state 'flying'"),
        (json.dumps({"o": messages(("noon", "wifi"))}), "line 1: '2020-01-31 noon' is no time"),
        (json.dumps({"o": {}}), "it has no 'messages'"),
    ],
)
def test_other_files_are_one_line(tmp_path: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "phones.json").write_text(content, encoding="utf-8")
    assert main([str(tmp_path / "phones.json"), str(tmp_path / "record.csv")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'phones.json'}: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "record.csv").exists()
