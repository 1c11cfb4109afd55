"""A run in Python: what it may be given, what it leaves behind, and what a resume refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from federations import digits, final_sha256, sha256
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset

from raysim import Experiment, Simulation
from raysim.errors import ConfigError, ModelError, RunError
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.rounds.results import RoundDone
from raysim.tracking import QuietObserver


def test_a_run_directory_holds_the_run(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "tracking.report=true", "evaluation.every=2")) as simulation:
        summary = simulation.run()
        module = simulation.model()
    run = simulation.directory
    assert summary.reason == "all rounds are done"
    names = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert {
        "config.yaml", "environment.json", "rounds.parquet", "clients.parquet", "checkpoints", "model.safetensors",
        "log.jsonl", "report.html",
    } <= names  # fmt: skip
    rounds = pq.read_table(run / "rounds.parquet").to_pydict()
    assert rounds["round"] == [1, 2, 3, 4]
    assert [value is None for value in rounds["test/accuracy"]] == [True, False, True, False]
    for phase in ("broadcast", "train", "wait", "reduce", "apply", "evaluate", "total"):
        assert all(value >= 0 for value in rounds[f"seconds/{phase}"])
    assert all(value > 0 for value in rounds["transport_up"] + rounds["transport_down"])
    clients = pq.read_table(run / "clients.parquet")
    assert clients.num_rows == 16
    by_round = pq.read_table(run / "clients.parquet").group_by("round").aggregate([("weight", "sum")])
    assert by_round["weight_sum"].to_pylist() == pytest.approx([1, 1, 1, 1])
    saved = load_file(run / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in module.state_dict().items())
    assert json.loads((run / "environment.json").read_text())["bits"]["engine.name"] == "sequential"


def test_every_file_of_a_run_has_the_mode_of_a_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with Simulation(digits(tmp_path, "rounds=1")) as simulation:
            simulation.run()
    finally:
        os.umask(before)
    files = [file for file in simulation.directory.rglob("*") if file.is_file() and file.name != ".lock"]
    assert {"model.safetensors", "server.safetensors", "config.yaml"} <= {file.name for file in files}
    assert {oct(file.stat().st_mode & 0o777) for file in files} == {"0o640"}


def test_one_round_at_a_time_with_metrics(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path)) as simulation:
        rounds = [(r.number, r.metrics["test/accuracy"]) for r in simulation]
    assert [number for number, _ in rounds] == [1, 2, 3, 4]
    assert all(0 <= accuracy <= 1 for _, accuracy in rounds)


def test_rounds_that_come_back_together_share_the_time_that_they_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("raysim.round_loop.time", SimpleNamespace(perf_counter=lambda: now[0]))
    simulation = Simulation(digits(tmp_path, "tracking.checkpoint_every=0", "rounds=5"))
    rounds = simulation._executor.rounds

    def in_calls(works: Any, server: Any) -> Iterator[RoundDone]:
        one, *several = rounds(works, server)
        now[0] += 3.0
        yield one
        for index, done in enumerate(several):
            now[0] += 0.125 if index else 2.0
            yield replace(done, arrived=0 if index else 4)

    monkeypatch.setattr(simulation._executor, "rounds", in_calls)
    with simulation:
        totals = [committed.row.seconds["total"] for committed in simulation]
    assert totals == [3.0, 0.5, 0.625, 0.625, 0.625]


def test_a_plain_module_and_arrays_are_enough_and_a_resume_wants_them_again(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    module = nn.Linear(4, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    experiment = Experiment.parse(
        {
            "rounds": 2,
            "cohort": 2,
            "data": {"partition": {"name": "iid", "clients": 3}},
            "execution": {"executor": "inprocess"},
            "tracking": {"directory": str(tmp_path), "report": False},
        }
    )
    with Simulation(experiment, model=module, data=(x, y)) as simulation:
        simulation.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    run = simulation.directory
    with pytest.raises(ConfigError, match="module of your own; pass it again"):
        Simulation.resume(run)
    with pytest.raises(ConfigError, match="arrays of your own; pass them again"):
        Simulation.resume(run, model=module)
    with pytest.raises(ConfigError, match="not the module"):
        Simulation.resume(run, model=nn.Linear(4, 3), data=(x, y))
    with Simulation.resume(run, model=module, data=(x, y), overrides=["rounds=3"]) as resumed:
        assert resumed.run().rounds == 3


class Rows(Dataset[Any]):
    """A data set as torch's users have it; counts how often it is read."""

    def __init__(self) -> None:
        self.x, self.read = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        self.read += 1
        return self.x[i], i % 3


def test_a_torch_dataset_is_read_once_and_gives_the_bits_of_its_arrays(tmp_path: Path) -> None:
    own = ["data={partition: {name: iid, clients: 6}}", "rounds=2"]
    rows, module = Rows(), nn.Linear(4, 3)
    expected = final_sha256(digits(tmp_path, *own), model=module, data=(rows.x.numpy(), np.arange(60) % 3))
    with Simulation(digits(tmp_path, *own), model=module, data=rows) as simulation:
        simulation.run()
    assert sha256(simulation.model()) == expected
    assert rows.read <= len(rows) + 1
    with Simulation.resume(simulation.directory, overrides=["rounds=3"], model=module, data=rows) as resumed:
        assert resumed.run().rounds == 3


def test_an_experiment_may_be_given_by_its_path_or_as_a_mapping(tmp_path: Path) -> None:
    experiment = digits(tmp_path, "rounds=1")
    experiment.to_yaml(tmp_path / "one.yaml")
    expected = final_sha256(experiment)
    for given in (tmp_path / "one.yaml", str(tmp_path / "one.yaml"), experiment.to_dict()):
        with Simulation(given) as simulation:
            simulation.run()
        assert sha256(simulation.model()) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.yaml", r"^missing.yaml: no such file"),
        ({"rouns": 3}, r"^experiment: unknown key 'rouns'; did you mean 'rounds'\?"),
        (None, r"^experiment: expected an Experiment, the path of a YAML file, or a mapping; got NoneType"),
        (Experiment, r"^experiment: expected .*; got the class Experiment"),
    ],
)
def test_what_is_no_experiment_is_one_line(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Simulation(given)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear, r"^model: expected a torch.nn.Module, got the class Linear; make an instance of it"),
        ("mlp", r"^model: expected a torch.nn.Module, got str; a model by name goes into the configuration"),
    ],
)
def test_what_is_no_module_is_one_line(tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Simulation(digits(tmp_path), model=model)


def test_an_empty_poisson_cohort_is_a_round_that_changes_nothing(tmp_path: Path) -> None:
    rare = ["selection=poisson", "cohort=1", "rounds=12", "evaluation.every=1"]
    with Simulation(digits(tmp_path, *rare)) as simulation:
        rounds = list(simulation)
    empty = [r for r in rounds if r.row.cohort == 0]
    assert empty, "with an expected cohort of one, some of twelve rounds are empty"
    for r in empty:
        if r.number > 1:
            assert r.metrics["test/loss"] == rounds[r.number - 2].metrics["test/loss"]


def test_a_damaged_newest_checkpoint_is_passed_over_to_the_same_bits(tmp_path: Path) -> None:
    expected = final_sha256(digits(tmp_path, "rounds=6"))
    with Simulation(digits(tmp_path, "rounds=6")) as simulation:
        for committed in simulation:
            if committed.number == 5:
                break
    run = simulation.directory
    newest = max((run / "checkpoints").iterdir())
    (newest / "server.safetensors").write_bytes(b"torn")
    with Simulation.resume(run) as resumed:
        assert resumed.number == 4
        resumed.run()
    again = pq.read_table(run / "rounds.parquet")["round"].to_pylist()
    assert again == [1, 2, 3, 4, 5, 6]
    assert sha256(resumed.model()) == expected


def test_a_resume_refuses_what_the_rounds_so_far_depend_on(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path)) as simulation:
        next(iter(simulation))
    with pytest.raises(RunError, match=r"client.optimizer.lr is 0.1 there and 0.5 here"):
        Simulation.resume(simulation.directory, overrides=["client.optimizer.lr=0.5"])


def test_a_resume_on_another_machine_is_refused_unless_allowed(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path)) as simulation:
        next(iter(simulation))
    recorded = json.loads((simulation.directory / "environment.json").read_text())
    recorded["bits"]["cpu_capability"] = "ANOTHER"
    (simulation.directory / "environment.json").write_text(json.dumps(recorded))
    with pytest.raises(RunError, match=r"cpu_capability was 'ANOTHER' .* --allow-different-bits"):
        Simulation.resume(simulation.directory)
    with Simulation.resume(simulation.directory, allow_different_bits=True) as resumed:
        assert resumed.run().rounds == 4


def test_a_resume_notices_that_the_data_are_others(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("a,b,y\n" + "".join(f"{i},{-i},{i % 2}\n" for i in range(60)))
    source = f"data={{source: {{name: csv, path: {table}, label: y}}, partition: {{name: iid, clients: 6}}}}"
    with Simulation(digits(tmp_path, source)) as simulation:
        next(iter(simulation))
    table.write_text("a,b,y\n" + "".join(f"{i},{i},{i % 2}\n" for i in range(60)))
    with pytest.raises(RunError, match=r"data was .* when the run was started"):
        Simulation.resume(simulation.directory)
    (simulation.directory / "environment.json").unlink()
    with pytest.raises(RunError, match=r"environment.json: missing"):
        Simulation.resume(simulation.directory)


class Telling(QuietObserver):
    """Remembers what was being prepared."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def preparing(self, what: str) -> None:
        self.told.append(what)


def test_what_takes_seconds_before_the_first_round_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysim.opening._executor", InProcessExecutor)
    monkeypatch.setattr("raysim.execution.preparation.engine_choice.WORTH_TIMING", 0)
    own = ["training.engine=auto", "execution.executor=ray", f"data.cache={tmp_path / 'cache'}", "rounds=1"]
    first, again, resumed = Telling(), Telling(), Telling()
    timing, starting = "timing the engines on clients of the first round", "starting Ray and the client actors"
    with Simulation(digits(tmp_path, *own), progress=first) as simulation:
        simulation.run()
    assert first.told == ["building the shards: digits, dirichlet partition", timing, starting]
    Simulation(digits(tmp_path, *own), progress=again).close()
    assert again.told == [timing, starting], "the shards are there"
    Simulation.resume(simulation.directory, progress=resumed).close()
    assert resumed.told[-1:] == [starting]


def test_what_is_never_evaluated_is_neither_recorded_nor_waited_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stop.metric: 'test/accuracy' is not measured"):
        Simulation(digits(tmp_path, "evaluation.every=0", "stop={metric: test/accuracy, target: 0.5}"))
    with Simulation(digits(tmp_path, "evaluation.every=0")) as simulation:
        simulation.run()
    assert not [name for name in pq.read_schema(simulation.directory / "rounds.parquet").names if "test/" in name]


def test_a_device_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"execution.device: this process sees no GPU"):
        Simulation(digits(tmp_path, "execution.device=cuda"))
