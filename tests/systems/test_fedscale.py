"""FedScale's traces as records, read without unpickling anything."""

from __future__ import annotations

import json
import pickle
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim.config.systems import SystemsConfig
from raysim.systems import build_fleet
from raysim.systems.fedscale import main
from raysim.systems.plain_values import read_plain

CAPACITY = {7: {"computation": 40.0, "communication": 800.0}, 9: {"computation": 10, "communication": 1600}}
BEHAVIOUR = {
    7: {"active": [0, 100], "inactive": [50, 150], "finish_time": 518400, "model": "SM-G950U"},
    8: {"active": [], "inactive": []},
    9: {"active": [10], "inactive": [518400]},
}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_values_are_read_as_they_were_written(protocol: int) -> None:
    shared = [1, 2.5]
    value = {"a": shared, "b": shared, "c": (1,), "d": (1, 2, 3, 4), "e": None, "f": [True, -7, 2**70, ""], 1: {}}
    assert read_plain(pickle.dumps(value, protocol)) == value
    assert read_plain(pickle.dumps({k: {"x": list(range(2000))} for k in range(3)}, protocol))[2]["x"][-1] == 1999


@pytest.mark.parametrize("value", [date(2020, 1, 1), np.float64(1.0), len, {1: Path("x")}])
def test_what_would_call_something_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="it holds more than numbers, text, lists and mappings"):
        read_plain(pickle.dumps(value))


def test_damaged_files_are_refused() -> None:
    whole = pickle.dumps(CAPACITY)
    for content in (b"", b"hello", whole[:-5], b"K\x01K\x02.", b"h\x05."):
        with pytest.raises(ValueError, match=r"."):
            read_plain(content)


@pytest.mark.parametrize("as_json", [True, False])
def test_capacities_become_devices_and_behaviour_windows(
    tmp_path: Path, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("capacity", CAPACITY), ("behaviour", BEHAVIOUR)):
        (tmp_path / name).write_bytes(json.dumps(value).encode() if as_json else pickle.dumps(value))
    devices, windows = tmp_path / "devices.csv", tmp_path / "windows.parquet"
    assert main(["devices", str(tmp_path / "capacity"), str(devices)]) == 0
    assert main(["windows", str(tmp_path / "behaviour"), str(windows)]) == 0
    assert capsys.readouterr().out == f"{devices}: 2 rows\n{windows}: 3 rows\n"
    config = SystemsConfig.model_validate(
        {
            "fleet": {"name": "trace", "path": str(devices), "assign": "in_order"},
            "unit": "samples",
            "availability": {"name": "trace", "path": str(windows)},
        }
    )
    fleet = build_fleet(config, 0, 2)
    # A batch of 20 samples takes 3 * 20 * 40 / 1000 seconds; a message of 100 kbit an eighth of a second.
    assert np.allclose(fleet.computes(np.array([0, 1]), 20, 1), [2.4, 0.6])
    assert np.allclose(100 * 1024 / 8 / fleet.upload, [0.125, 0.0625])
    assert fleet.windows is not None


@pytest.mark.parametrize(
    ("kind", "trace", "said"),
    [
        ("devices", {1: {"computation": 1}}, "client 1: expected a number for 'communication'"),
        ("devices", {1: {"computation": 0, "communication": 1}}, "client 1: computation and communication must be"),
        ("windows", {1: {"active": [1]}}, "client 1: expected lists 'active' and 'inactive' of one length"),
        ("windows", {}, "expected a mapping with an entry for each client"),
        ("windows", {1: date(2020, 1, 1)}, "neither JSON nor a pickle of plain values: it holds more"),
    ],
)
def test_other_files_are_one_line(
    tmp_path: Path, kind: str, trace: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace").write_bytes(pickle.dumps(trace))
    assert main([kind, str(tmp_path / "trace"), str(tmp_path / "record.csv")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'trace'}: ")
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "record.csv").exists()
