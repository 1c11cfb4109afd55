"""Samples, owners and classes that a build leaves out: counted, told with the store, and never lost as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim import Experiment, Simulation
from raysim.config.data import DataConfig
from raysim.data import prepare
from raysim.errors import DataError

NAN = float("nan")


def write_table(folder: Path) -> str:
    """90 rows of 3 owners and 2 classes: `rare` is empty in every row of class "no" and of owner "south"."""
    lines = ["a,b,rare,who,y"]
    for row in range(90):
        who, y = ("north", "east", "south")[row % 3], "no" if row < 30 else "yes"
        rare = "" if y == "no" or who == "south" else f"{row / 7:.2f}"
        lines.append(f"{row},{'' if row == 31 else row % 5},{rare},{who},{y}")
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def section(folder: Path, **more: Any) -> dict[str, Any]:
    source = {"name": "csv", "path": write_table(folder), "label": "y", "client": "who"}
    return {"source": source, "transforms": ["missing"], "partition": "natural", "test": 0.0} | more


def left_out(config: dict[str, Any], tmp_path: Path, arrays: Any = None) -> list[str]:
    data = DataConfig.model_validate({"cache": str(tmp_path)} | config)
    entries = [prepare(data, 0, arrays=arrays).open().left_out() for _ in range(2)]
    assert entries[0] == entries[1]  # whether the store is built or found
    return [str(one) for one in entries[0]]


def test_dropping_all_samples_of_a_class_or_a_client_is_an_error_that_names_it_and_the_column(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        left_out(section(tmp_path), tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/rows.csv: missing: drop removes every training sample of class no: column 'rare' is empty in 30 "
        "of its 30; leave the column out (data.source.ignore), fill it (action: median), or set allow_lost: [classes] "
        "of missing"
    )
    drop = {"name": "missing", "allow_lost": ["classes"]}
    with pytest.raises(DataError, match=r"of client south: column 'rare' is empty in 30 of its 30; .* \[clients\]"):
        left_out(section(tmp_path, transforms=[drop]), tmp_path)
    # Owners are no clients of another partition.
    assert left_out(section(tmp_path, transforms=[drop], partition={"name": "iid", "clients": 2}), tmp_path)


def test_what_may_be_lost_is_told_with_the_columns_at_fault(tmp_path: Path) -> None:
    drop = {"name": "missing", "allow_lost": ["classes", "clients"]}
    assert left_out(section(tmp_path, transforms=[drop]), tmp_path) == [
        "missing: drop: 51 of 90 training samples left out: column 'rare' is empty in 50, column 'b' is empty in 1; "
        "with them all of class no; with them all of client south",
        "data: 1 of 2 training classes left out: no client trains on class no: all samples are held back for "
        "evaluation or left out",
    ]


def test_a_test_set_that_shrinks_is_told_and_a_fill_leaves_nothing_out(tmp_path: Path) -> None:
    ignored = section(tmp_path, test=0.5)
    ignored["source"]["ignore"] = ["rare"]
    told = left_out(ignored, tmp_path)
    assert len(told) == 1
    assert told[0].endswith("samples left out: column 'b' is empty in 1")
    assert left_out(section(tmp_path, transforms=[{"name": "missing", "action": "mean"}]), tmp_path) == []


def test_samples_of_an_array_are_counted_by_feature(tmp_path: Path) -> None:
    x = np.ones((20, 2), np.float32)
    x[:5, 1] = NAN
    config = {"source": "in_memory", "transforms": ["missing"], "partition": {"name": "iid", "clients": 2}, "test": 0.0}
    assert left_out(config, tmp_path, (x, np.arange(20) % 2)) == [
        "missing: drop: 5 of 20 training samples left out: feature (1) is not finite in 5"
    ]


def test_owners_and_samples_that_a_partition_leaves_out_are_counted(tmp_path: Path) -> None:
    data = {"x": np.ones((12, 1), np.float32), "y": np.arange(12) % 2, "client": [0] * 6 + [1] * 4 + [2] * 2}
    config = {"source": "in_memory", "test": 0.0, "partition": {"name": "natural", "min_size": 3, "clients": 1}}
    (told,) = left_out(config, tmp_path, data)
    assert told.startswith("data.partition: ")
    assert "of 12 training samples left out: those of 2 of 3 owners (min_size 3, clients 1)" in told


def test_classes_that_are_rare_absent_or_only_held_back_are_told(tmp_path: Path) -> None:
    x, y = np.ones((40, 1), np.float32), np.repeat([1, 2], 20)
    config = {"source": "in_memory", "test": 0.0, "partition": {"name": "iid", "clients": 1}}
    assert left_out(config, tmp_path, (x, y)) == [
        "labels: 1 of 3 source classes left out: the labels have a gap; no sample has class 0"
    ]
    data = {"x": x[:4], "y": [0, 1, 0, 1], "x_test": x[:3], "y_test": [0, 1, 1]}
    assert left_out(config, tmp_path, data) == []
    told = left_out(config | {"imbalance": {"ratio": 4}}, tmp_path, (x, y - 1))
    assert told == ["data.imbalance: 15 of 40 training samples left out: samples of rare classes"]
    last = {"x": x[:3], "y": [0, 0, 1], "client": [0, 0, 0]}
    seen = [left_out(config | {"holdout": 0.34, "seed": seed}, tmp_path, last) for seed in range(8)]
    assert any("no client trains on class 1" in str(told) for told in seen)


def test_owners_with_too_little_text_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "texts.json"
    path.write_text(json.dumps({"a": "to be or not to be", "b": "no", "c": "x"}))
    source = {"name": "text", "path": str(path), "min_characters": 5, "sequence_length": 4}
    assert left_out({"source": source, "partition": "natural", "test": 0.0}, tmp_path) == [
        "data.source.min_characters: 2 of 3 source owners left out: fewer than 5 characters: b, c"
    ]


def test_a_run_tells_what_its_data_left_out_at_its_start_in_its_records_and_in_its_report(tmp_path: Path) -> None:
    drop = {"name": "missing", "allow_lost": ["classes", "clients"]}
    setting = {
        "rounds": 1,
        "cohort": 1.0,
        "data": section(tmp_path, transforms=[drop], test=0.2, cache=str(tmp_path)),
        "execution": {"executor": "inprocess"},
        "training": {"engine": "sequential"},
    }
    with Simulation(Experiment.parse(setting), directory=tmp_path / "run") as simulation:
        simulation.run()
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())["left_out"]
    assert {one["part"] for one in recorded} == {"training", "test"}
    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    warned = [event["event"] for event in events if event["level"] == "warning"]
    assert any(text.startswith("missing: drop: ") and "all of class no" in text for text in warned)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Left out before training, and why:" in page
    assert "column &#x27;rare&#x27; is empty in" in page
