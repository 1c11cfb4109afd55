from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.config import import_folders
from raysim.tracking import RunDirectory, read_rounds

Raysim = Callable[..., Result]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, two GPUs, 8 GB for actors."""
    monkeypatch.setattr("raysim.cli.plan.cores", lambda: 4.0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("raysim.cli.plan.actors_memory", lambda execution: 8_000_000_000)
    monkeypatch.setattr("raysim.cli.plan.gpu_memory", lambda: None)
    monkeypatch.setattr("raysim.cli.plan.name", lambda: "laptop")


def planned(raysim: Raysim, *overrides: str) -> dict:
    result = raysim("plan", "tiny.yaml", "execution.executor=ray", "--json", *overrides)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_plan_prints_what_a_run_would_take_and_starts_nothing(raysim: Raysim, folder: Path) -> None:
    result = raysim("plan", "tiny.yaml", "execution.executor=ray")
    assert result.exit_code == 0, result.output
    for said in (
        "digits, iid partition: 6 clients, 1,438 training samples",
        "softmax, 650 parameters",
        "3 of 6 clients, 1 local step each",
        "3 leases",
        "3 actors, 1 CPU, 0 GPU each",
        "sequential engine on cpu, 1 thread",
    ):
        assert said in result.stdout
    assert result.stdout.splitlines()[-1].split() == ["laptop", "4", "2", "8", "GB", "4", "–", "3", "568", "MB"]
    assert sorted(entry.name for entry in folder.iterdir()) == ["tiny.yaml"]


def test_plan_as_json_says_the_same(raysim: Raysim) -> None:
    values = planned(raysim)
    assert values["data"]["clients"] == 6
    assert values["model"]["parameters"] == 650
    assert values["round"]["leases"] == values["placement"]["actors"] == 3
    assert values["placement"]["slots"] == {"laptop": 4}
    assert values["nodes"] == [{"id": "laptop", "cpus": 4.0, "gpus": 2.0, "memory": 8_000_000_000, "gpu_memory": None}]
    parts = ("process", "model", "optimizer", "sums", "shard", "sets")
    assert values["actor_memory"]["total"] == sum(values["actor_memory"][part] for part in parts)


def test_plan_counts_whole_actors_on_each_gpu(raysim: Raysim) -> None:
    values = planned(raysim, "execution.num_gpus=0.3", "execution.num_cpus=0.1", "execution.actors=6")
    assert values["placement"]["slots"] == {"laptop": 6}
    assert values["engine"]["device"] == "cuda"
    result = raysim(
        "plan",
        "tiny.yaml",
        "execution.executor=ray",
        "execution.num_gpus=0.3",
        "execution.num_cpus=0.1",
        "execution.actors=7",
    )
    assert result.exit_code == 2
    assert result.stderr.startswith("error: 7 actors of 0.1 CPUs and 0.3 GPUs do not fit: there is room for 6")


def test_plan_refuses_an_actor_that_does_not_fit_its_share_of_a_gpu(raysim: Raysim) -> None:
    share = ["execution.executor=ray", "execution.num_gpus=0.05", "execution.num_cpus=0.1"]
    result = raysim("plan", "tiny.yaml", *share, "execution.gpu_memory=8000000000")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: execution.num_gpus: an actor needs about 50")
    assert "MiB of its GPU, but 0.05 of the largest is 381 MiB; set it to at least 0.07" in result.stderr
    values = planned(raysim, *share, "execution.gpu_memory=80000000000")
    assert values["nodes"][0]["gpu_memory"] == 80_000_000_000
    assert values["actor_memory"]["gpu"] > 500 << 20


def test_plan_shows_classes_and_where_they_go(raysim: Raysim) -> None:
    classes = "execution.classes={large: {clients: [0, 2-3], num_gpus: 1}}"
    shares = ["execution.executor=ray", "execution.num_gpus=0.25", "execution.num_cpus=0.1", classes]
    values = planned(raysim, *shares)
    assert [one["name"] for one in values["classes"]] == ["default", "large"]
    assert values["classes"][1]["clients"] == 3
    assert sorted(values["placement"]["classes"]) == ["default", "default", "large"]
    assert values["placement"]["shares"]["large"] == {"num_cpus": 1.0, "num_gpus": 1.0}
    result = raysim("plan", "tiny.yaml", *shares)
    line = next(line for line in result.stdout.splitlines() if line.strip().startswith("large"))
    assert line.split() == ["large", "3", "50%", "1", "1", "1", "1"]
    result = raysim("plan", "tiny.yaml", *shares[:-1], "execution.classes={large: {clients: [6]}}")
    assert result.exit_code == 2
    assert "execution.classes.large.clients: there is no client 6; the last of 6 is 5" in result.stderr


def test_an_engine_that_would_be_tried_on_a_gpu_that_is_not_here_is_one_line(raysim: Raysim) -> None:
    result = raysim("plan", "tiny.yaml", "execution.executor=ray", "execution.num_gpus=0.5", "training.engine=rows")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: training.engine: this process sees no GPU to try engines on; set training")


def test_plan_refuses_actors_that_the_memory_does_not_hold(raysim: Raysim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysim.cli.plan.actors_memory", lambda execution: 100_000_000)
    result = raysim("plan", "tiny.yaml", "execution.executor=ray", "execution.actors=1")
    assert result.exit_code == 2
    assert "need more than the 95 MiB that node laptop has" in result.stderr


def test_plan_of_a_run_in_process_says_so_and_counts_the_bytes_that_it_then_moves(raysim: Raysim) -> None:
    result = raysim("plan", "tiny.yaml")
    assert "in process, without Ray" in result.stdout
    assert "slots" not in result.stdout
    values = json.loads(raysim("plan", "tiny.yaml", "--json").stdout)
    assert values["placement"] is None
    assert raysim("run", "tiny.yaml", "--directory", "out").exit_code == 0
    row = read_rounds(RunDirectory.open("out")).to_pylist()[0]
    planned = values["round"]
    assert (row["transport_down"], row["transport_up"]) == (planned["transport_down"], planned["transport_up"])


def test_plan_of_a_million_clients_reads_no_client_one_by_one(raysim: Raysim, folder: Path) -> None:
    (folder / "many.yaml").write_text(
        "cohort: 100\ndata: {source: {name: synthetic_virtual, clients: 1000000}}\nexecution: {executor: inprocess}\n"
    )
    result = raysim("plan", "many.yaml")
    assert result.exit_code == 0, result.output
    assert "1,000,000 clients, 60,000,000 training samples" in result.stdout
    assert "made on the workers when they are needed" in result.stdout


def test_a_module_beside_the_configuration_is_found_from_anywhere(
    raysim: Raysim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = folder / "mine"
    mine.mkdir()
    (folder / "tiny.yaml").rename(mine / "tiny.yaml")
    (mine / "beside_it.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    monkeypatch.setattr("sys.path", [*sys.path])  # as it was, for other tests
    monkeypatch.setattr("raysim.config.imports._FOLDERS", [])
    line = ["mine/tiny.yaml", "model=beside_it:build"]
    for command in ("plan", "run"):
        done = raysim(command, *line, *(["--directory", "out"] if command == "run" else []))
        assert done.exit_code == 0, done.output
    assert import_folders() == (str(mine),), "client actors look there, too"
