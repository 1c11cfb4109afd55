"""A run in TensorBoard, MLflow and Weights & Biases, read back by their own readers."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from raysim import Experiment, Simulation
from raysim.errors import ConfigError
from raysim.rounds.rows import ROUND_FIELDS
from raysim.tracking import RunDirectory, open_observers, read_clients, read_rounds

SETTING = """
rounds: 3
cohort: 3
data: {source: digits, partition: {name: iid, clients: 6}, holdout: 0.2}
client: {steps: 1}
training: {engine: sequential}
evaluation: {every: 2, clients_every: 2}
execution: {executor: inprocess}
tracking:
  report: false
  observers:
    - tensorboard
    - mlflow
    - {name: wandb, artifacts: false}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDirectory]:
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "tracked.yaml").write_text(SETTING)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        patched.setattr(sys, "exit", sys.exit)  # wandb leaves hooks behind
        patched.setattr(sys, "excepthook", sys.excepthook)
        patched.setenv("WANDB_CONFIG_DIR", str(folder / "wandb-config"))
        patched.setenv("WANDB_CACHE_DIR", str(folder / "wandb-cache"))
        experiment = Experiment.from_yaml(folder / "tracked.yaml")
        with Simulation(experiment, directory=folder / "runs" / "tracked") as simulation:
            simulation.run()
        yield RunDirectory.open(simulation.directory)


@pytest.fixture(scope="module")
def recorded(run: RunDirectory) -> dict[str, dict[int, float]]:
    """Every number of rounds.parquet that a tracker is told, by name and round."""
    table = read_rounds(run)
    found = {}
    for name in table.schema.names:
        values = zip(table["round"].to_pylist(), table[name].to_pylist(), strict=True)
        found[name] = {number: value for number, value in values if value is not None}
    fixed = {field.name for field in ROUND_FIELDS}
    return {name: of for name, of in found.items() if name != "round" and (name not in fixed or any(of.values()))}


def flat(name: str) -> str:
    """A name in MLflow: `seconds/train.shards`."""
    return name.replace("/", ".").replace(".", "/", 1)


def compare(seen: dict[str, dict[int, float]], recorded: dict[str, dict[int, float]], *, exact: bool = True) -> None:
    assert {"test/accuracy", "train/loss", "steps", "wire_up", "seconds/total"} <= set(recorded)
    for name, of in recorded.items():
        for number, value in of.items():
            if name.startswith("seconds/") and not value:
                continue  # a phase that took no time is not told
            there = seen[name][number]
            assert there == value if exact else np.float32(there) == np.float32(value), (name, number)


def test_tensorboard_has_what_the_table_has(run: RunDirectory, recorded: dict[str, dict[int, float]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    seen = {
        name: {one.step: float(make_ndarray(one.tensor_proto)) for one in events.Tensors(name)}
        for name in recorded
        if name in tags
    }
    compare(seen, recorded, exact=False)  # its points are float32
    text = str(make_ndarray(events.Tensors("config")[0].tensor_proto))
    assert "cohort: 3" in text
    accuracies = make_ndarray(events.Tensors("over clients/clients/accuracy")[0].tensor_proto)
    assert accuracies[:, 2].sum() == 6  # a client each
    losses = [loss for batch in read_clients(run, ["loss"]) for loss in batch["loss"].to_pylist()]
    counted = [make_ndarray(one.tensor_proto)[:, 2].sum() for one in events.Tensors("over clients/train/loss")]
    assert sum(counted) == len(losses) == 9


def test_mlflow_has_what_the_table_has_and_the_model(run: RunDirectory, recorded: dict[str, dict[int, float]]) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(run.path.parent / "mlruns").as_uri())
    (found,) = client.search_runs([client.get_experiment_by_name("experiment").experiment_id])
    seen = {
        name: {one.step: one.value for one in client.get_metric_history(found.info.run_id, flat(name))}
        for name in recorded
    }
    compare(seen, recorded)
    assert found.data.params["cohort"] == "3"
    assert found.info.status == "FINISHED"
    assert found.data.tags["raysim.reason"] == "all rounds are done"
    assert [one.path for one in client.list_artifacts(found.info.run_id)] == ["model.safetensors"]


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format: blocks of 32 KiB of pieces with a checksum, a length and a kind."""
    place, record = 7, b""  # behind the file's own header
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole of it, or its last piece
            yield record
            record = b""


def test_wandb_has_what_the_table_has(run: RunDirectory, recorded: dict[str, dict[int, float]]) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = run.path.glob("wandb/offline-run-*/*.wandb")
    seen: dict[str, dict[int, float]] = {}
    histograms: dict[str, Any] = {}
    for data in log_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        items = {"/".join(one.nested_key) or one.key: json.loads(one.value_json) for one in record.history.item}
        for name, value in items.items():
            if name in recorded:
                seen.setdefault(name, {})[int(items["_step"])] = value
            elif name.startswith("over clients/"):
                histograms[name] = value
    compare(seen, recorded)
    assert any("accuracy" in name for name in histograms)


def test_a_missing_library_refuses_the_run_and_says_what_to_install() -> None:
    with (
        patch.dict("sys.modules", {"tensorboard": None}),
        pytest.raises(ConfigError, match=r"tensorboard .*pip install 'raysim-fl\[tensorboard\]'"),
    ):
        open_observers("tensorboard")


def test_a_server_that_does_not_answer_is_one_warning_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    values = {
        **Experiment().to_dict(),
        "rounds": 2,
        "client": {"steps": 1},
        "cohort": 2,
        "execution": {"executor": "inprocess"},
        "tracking": {"report": False, "observers": [{"name": "mlflow", "uri": "http://127.0.0.1:1"}]},
    }
    with Simulation(values, directory=tmp_path / "run") as simulation:
        summary = simulation.run()
    assert summary.rounds == 2
    assert not math.isnan(summary.metrics["test/accuracy"])
    warned = [line for line in capsys.readouterr().err.splitlines() if "observer" in line]
    assert len(warned) == 1
    assert "observer MlflowObserver failed in `start` and gets no further calls" in warned[0]
