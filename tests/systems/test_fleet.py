"""Fleets: how long trips take, when devices are there, and which records are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fleets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysim.config.systems import SystemsConfig
from raysim.errors import ConfigError
from raysim.systems import Fleet, Load, build_fleet, trace_bits

DAY = 86_400.0


def of(fleet: dict[str, Any], population: int = 50, seed: int = 0, **systems: Any) -> Fleet:
    return build_fleet(SystemsConfig.model_validate({"fleet": fleet, **systems}), seed, population)


def test_a_trip_is_its_messages_and_its_work() -> None:
    fleet = of({"name": "log_normal", "speed": 4, "sigma": 1, "upload": 100, "download": 1000, "latency": 0.5})
    clients = np.array([3, 17, 40])
    work = np.arange(50) + 10
    trips = fleet.trips(clients, Load(work, down=2000, up=300), turn=1, when=7.0)
    for place, client in enumerate(clients):
        computes = work[client] / fleet.speed[client]
        assert trips.computes[place] == computes
        assert trips.ends[place] == 7.0 + (0.5 + 2000 / 1000 + computes + 300 / 100 + 0.5)
    assert trips.begins.tolist() == [7.0] * 3
    assert not trips.lost.any()


def test_speeds_are_log_normal_around_the_median_and_a_clients_own() -> None:
    fleet = of({"name": "log_normal", "speed": 4, "sigma": 0.7}, 20_000)
    logs = np.log(fleet.speed / 4)
    assert abs(logs.mean()) < 4 * 0.7 / np.sqrt(20_000)
    assert logs.std() == pytest.approx(0.7, rel=0.03)
    assert np.array_equal(of({"name": "log_normal", "speed": 4, "sigma": 0.7}, 10).speed, fleet.speed[:10])
    assert not np.array_equal(of({"name": "log_normal", "speed": 4, "sigma": 0.7}, 10, seed=1).speed, fleet.speed[:10])


def test_a_devices_up_and_downlink_have_one_factor() -> None:
    fleet = of({"name": "log_normal", "speed": 1, "upload": 10, "download": 30, "network_sigma": 1})
    assert np.allclose(fleet.download, 3 * fleet.upload)
    assert fleet.upload.std() > 1


def test_the_seconds_of_a_trip_deviate_from_those_of_the_next() -> None:
    fleet = of({"name": "log_normal", "speed": 0.01, "sigma": 0, "deviation": 4}, 1)
    found = np.concatenate([fleet.computes(np.array([0]), 1, turn) for turn in range(4000)])
    assert found.mean() == pytest.approx(100, abs=4 * 4 / np.sqrt(4000))
    assert found.std() == pytest.approx(4, rel=0.1)


def test_kinds_of_devices_have_their_shares() -> None:
    tiers = [{"share": 0.2, "speed": 1}, {"share": 0.8, "speed": 2, "upload": 5}]
    fleet = of({"name": "tiers", "tiers": tiers}, 10_000)
    assert np.mean(fleet.speed == 1) == pytest.approx(0.2, abs=0.02)
    assert np.array_equal(np.isinf(fleet.upload), fleet.speed == 1)


def test_what_all_devices_share_takes_no_memory() -> None:
    fleet = of({"name": "log_normal", "speed": 1, "sigma": 0}, 10**9)
    assert fleet.population == 10**9
    assert fleet.computes(np.array([10**9 - 1]), 3, 0)[0] == 3


def test_dropouts_have_their_chance() -> None:
    fleet = of({"name": "log_normal", "speed": 1}, 10, dropout=0.3)
    lost = fleet.drops(np.arange(10_000) % 10, np.arange(10_000))
    assert lost.mean() == pytest.approx(0.3, abs=0.02)


def test_energy_and_money_are_those_of_seconds_and_bytes() -> None:
    costs = {"joules_per_second": 2, "joules_per_byte": 0.5, "money_per_second": 3, "money_per_byte": 0.25}
    fleet = of({"name": "log_normal", "speed": 1}, 10, costs=costs)
    assert fleet.energy([1.0, 2.0], 8).tolist() == [6.0, 8.0]
    assert fleet.money([1.0, 2.0], 8).tolist() == [5.0, 8.0]


@pytest.mark.parametrize(
    "availability",
    [
        {"name": "diurnal", "hours": 7},
        {"name": "charging", "shortest": 1, "longest": 20},
        {"name": "charging", "shortest": 2, "longest": 3, "chance": 0.2},
    ],
)
def test_windows_lie_one_after_the_other_and_a_time_finds_its_own(availability: dict[str, Any]) -> None:
    windows = of({"name": "log_normal", "speed": 1}, 40, availability=availability).windows
    assert windows is not None
    clients, when = np.arange(40), np.zeros(40)
    for _ in range(12):
        opens, ends = windows.at(clients, when)
        assert (ends > when).all()
        assert (ends > opens).all()
        lengths = (ends - opens) / 3600
        assert (lengths >= availability.get("shortest", 7) - 1e-9).all()
        assert (lengths <= availability.get("longest", 7) + 1e-9).all()
        inside = np.maximum((opens + ends) / 2, when)
        assert all(
            np.array_equal(one, other) for one, other in zip(windows.at(clients, inside), (opens, ends), strict=True)
        )
        assert windows.there(clients, inside).all()
        when = ends + 1e-6 * DAY
        assert (windows.at(clients, when)[0] >= ends).all()


def test_clients_that_are_around_the_globe_are_there_in_equal_shares() -> None:
    windows = of({"name": "log_normal", "speed": 1}, 20_000, availability={"name": "diurnal", "hours": 6}).windows
    assert windows is not None
    for hour in (0, 5, 13, 30):
        there = windows.there(np.arange(20_000), np.full(20_000, hour * 3600.0))
        assert there.mean() == pytest.approx(6 / 24, abs=0.015)


def test_a_trip_that_outlasts_its_window_goes_on_or_is_lost() -> None:
    for unfinished in ("kept", "lost"):
        availability = {"name": "diurnal", "hours": 1, "unfinished": unfinished}
        fleet = of({"name": "log_normal", "speed": 1, "sigma": 0}, 5, availability=availability)
        trips = fleet.trips(np.arange(5), Load(np.full(5, 4000)), 1, 0.0)
        assert trips.lost.tolist() == [unfinished == "lost"] * 5
        assert (trips.ends == trips.begins + 4000).all()


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = [
            ",".join(columns),
            *(",".join("" if one is None else str(one) for one in row) for row in zip(*columns.values(), strict=True)),
        ]
        path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("name", ["devices.csv", "devices.parquet"])
def test_recorded_devices_are_given_to_clients(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, {"device": [1, 0, 2], "speed": [20.0, 10.0, 30.0], "upload": [5, 4, 6]})
    fleet = of({"name": "trace", "path": str(path), "assign": "in_order"}, 5)
    assert fleet.speed.tolist() == [10, 20, 30, 10, 20]
    assert fleet.upload.tolist() == [4, 5, 6, 4, 5]
    assert np.isinf(fleet.download).all()
    drawn = of({"name": "trace", "path": str(path)}, 3000)
    assert [round(float(np.mean(drawn.speed == speed)), 1) for speed in (10, 20, 30)] == [0.3, 0.3, 0.3]


def test_recorded_windows_are_found_as_by_looking_through_them(tmp_path: Path) -> None:
    rows = {"device": [0, 0, 1, 0], "start": [10, 50, 0, 30], "end": [20, 60, 100, 50]}
    path = write(tmp_path / "windows.csv", rows)
    windows = of({"name": "log_normal", "speed": 1}, 40, availability={"name": "trace", "path": str(path)}).windows
    assert windows is not None
    of_device = {0: [(10, 20), (30, 50), (50, 60)], 1: [(0, 100)]}
    kinds, times = set(), (0.0, 10.0, 20.0, 49.0, 60.0, 99.0, 250.0)
    for client in range(40):
        found = [
            windows.at(np.array([client]), np.array([when])) for when in (0.0, 10.0, 20.0, 49.0, 60.0, 99.0, 250.0)
        ]
        pairs = [(float(opens[0]), float(ends[0])) for opens, ends in found]
        device = 0 if pairs[0] == (10, 20) else 1
        kinds.add(device)
        repeated = [(start + 100 * k, end + 100 * k) for k in range(4) for start, end in of_device[device]]
        for when, pair in zip(times, pairs, strict=True):
            assert pair == next(one for one in repeated if one[1] > when)
    assert kinds == {0, 1}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"device": [0, 1]}, "there is no column 'speed'"),
        ({"device": [0, 2], "speed": [1, 1]}, "there is no device 1, and one 2"),
        ({"device": [0, 1, 1], "speed": [1, 1, 2]}, "device 1 is there twice"),
        ({"device": [0, 1], "speed": [1, 0]}, "device 1 has speed 0; expected a number above 0"),
        ({"device": [0, 1], "speed": [1, -3]}, "device 1 has speed -3"),
        ({"device": [0, 1], "speed": [1, None]}, "row 2 has no number for 'speed'; fill the gap"),
        ({"device": [0, 1], "speed": ["a", "b"]}, "column 'speed' holds string; expected numbers"),
        (
            {"device": [0, 1], "speed": [1, 1], "latency": [0, -1]},
            "device 1 has latency -1; expected a number 0 or more",
        ),
        ({"device": [0, 1], "speed": [1, 1], "ram": [0, 1]}, "unknown column 'ram'"),
        ({"device": [0.5, 1], "speed": [1, 1]}, "column 'device' must hold whole numbers"),
    ],
)
def test_damaged_records_of_devices_are_refused(tmp_path: Path, columns: dict[str, list[Any]], said: str) -> None:
    path = write(tmp_path / "devices.csv", columns)
    with pytest.raises(ConfigError) as error:
        of({"name": "trace", "path": str(path)})
    assert f"systems.fleet.path: {path}: " in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ([0, 5, 0], [10, 20, 9], "device 0: the window from 5 overlaps the one before it; merge them"),
        ([-1, 15, 0], [10, 20, 9], "device 0: a window starts at -1, a negative time"),
        ([0, 30, 0], [10, 20, 9], "device 0: a window ends at 20, which is not after its start at 30"),
        ([0, 15, None], [10, 20, 9], "row 3 has no number for 'start'; fill the gap"),
        ([0, 15, 0], [10, 200, 9], "device 0: a window ends at 200, after the period of 100 s; raise period"),
    ],
)
def test_damaged_records_of_windows_are_refused(
    tmp_path: Path, start: list[float], end: list[float], said: str
) -> None:
    path = write(tmp_path / "windows.csv", {"device": [0, 0, 1], "start": start, "end": end})
    with pytest.raises(ConfigError) as error:
        of({"name": "log_normal", "speed": 1}, availability={"name": "trace", "path": str(path), "period": 100})
    assert f"systems.availability.path: {path}: {said}" in str(error.value)


def test_a_record_that_is_missing_empty_or_none_at_all_is_refused(tmp_path: Path) -> None:
    for name, content, said in (
        ("nowhere.csv", None, "no such file"),
        ("empty.csv", b"", "not a readable CSV or Parquet file"),
        ("other.parquet", b"device,speed\n", "not a readable CSV or Parquet file"),
        ("none.csv", b"device,speed\n", "there are no rows"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            of({"name": "trace", "path": str(path)})


def test_the_contents_of_records_are_part_of_the_bits(tmp_path: Path) -> None:
    path = write(tmp_path / "devices.csv", {"device": [0], "speed": [1]})
    config = SystemsConfig.model_validate({"fleet": {"name": "trace", "path": str(path)}})
    before = trace_bits(config)
    write(path, {"device": [0], "speed": [2]})
    assert before.keys() == {"systems.fleet.path"} == trace_bits(config).keys()
    assert before != trace_bits(config)
    assert trace_bits(SystemsConfig()) == {}


def test_the_mean_trip_of_nvflares_edge_example_is_the_published_one() -> None:
    trips = [
        build_fleet(fleets.EDGE, seed, 16).trips(np.arange(16), Load(np.ones(16, dtype=np.int64)), 1, 0.0)
        for seed in range(300)
    ]
    mean = float(np.mean([one.ends.mean() for one in trips]))
    assert mean == pytest.approx((100 + 200 + 400) / 3 + 5, abs=4 * 125 / np.sqrt(300 * 16))
