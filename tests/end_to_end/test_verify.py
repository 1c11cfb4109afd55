"""`raysim verify`: every kind of damage is found and named, and a run of every kind of federation verifies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adapted_modules import RULES
from federations import DIGITS
from torch import nn
from typer.testing import CliRunner

from raysim import Experiment, RaysimError, Simulation, verify
from raysim.algorithms import ALGORITHMS
from raysim.cli import app
from raysim.config.loading import apply_overrides
from raysim.rounds.digests import ServerDigest
from raysim.rounds.vectors import read_vectors, save_vectors
from raysim.tracking.chain import Link, genesis, read_chain
from raysim.tracking.sealing import seal

WINE = ["data.source=wine", "data.transforms=[standardise]", "data.partition.alpha=5", "data.partition.min_size=2",
        "model.hidden=[6]", "client.optimizer.lr=0.02", "rounds=2"]  # fmt: skip
DAMAGED = ["rounds=5", "tracking.checkpoint_every=2", "tracking.keep=3", "algorithm=fedavgm"]


def small(folder: Path, *overrides: str) -> Experiment:
    """Six clients that share the wines: a run of two rounds takes a tenth of a second."""
    return Experiment.parse(apply_overrides(DIGITS, [f"tracking.directory={folder}", *WINE, *overrides]))


def trained(experiment: Experiment, **handed_over: Any) -> Path:
    with Simulation(experiment, **handed_over) as simulation:
        simulation.run()
    return simulation.directory


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five rounds, with checkpoints of rounds 2, 4 and 5."""
    return trained(small(tmp_path_factory.mktemp("verify"), *DAMAGED))


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "run"))


LORA = "model={name: mlp_lora, hidden: [6], rank: 3}"
SUITABLE = {name: [LORA] for name in RULES} | {
    "fedkseed": ["algorithm.epsilon=0.1"],
    "afl": ["aggregation.weights=uniform"],
    "d_psgd": ["aggregation.weights=uniform", "cohort=1.0"],
    "push_sum": ["aggregation.weights=uniform", "cohort=1.0", "algorithm.graph=one_peer"],
    "cocoa": ["model={name: softmax}"],
    "hlora": [LORA, "algorithm.ranks=[1, 2, 3]"],
}
KINDS = {name: [f"algorithm={name}", *SUITABLE.get(name, [])] for name in ALGORITHMS if name != "fedbn"} | {
    "masks": ["aggregation.protection=secagg", "cohort=6"],
    "noise": ["selection=poisson", "aggregation.weights=uniform", "aggregation.stages=[{name: clip, max_norm: 1}, "
              "{name: gaussian, noise_multiplier: 1}]"],
    "learned weights": ["aggregation.weights=learned", "data.validation=0.2"],
    "a selection that looks at the model": ["selection={name: power_of_choice, candidates: 5}"],
    "a selection that remembers": ["selection=oort", "rounds=3"],
    "rows": ["training.engine=rows"],
    "fine-tuning": ["evaluation.fine_tune={epochs: 1}"],
    "virtual time": [
        "systems.fleet={name: log_normal, speed: 4, sigma: 1.0}", "systems.timetable={name: deadline, seconds: 1}",
    ],
    "asynchronous steps": [
        "systems.fleet={name: log_normal, speed: 4, sigma: 1.0}",
        "systems.timetable={name: fedbuff, buffer: 2, in_flight: 4}",
        "rounds=5", "tracking.checkpoint_every=3",
    ],
    "without a clients table": ["tracking.clients=false"],
    "Poisson cohorts that may be empty": ["selection=poisson", "cohort=0.1"],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_every_kind_verifies(tmp_path: Path, kind: str) -> None:
    path = trained(small(tmp_path, *KINDS[kind]))
    assert verify(path).same, "the last round, from the nearest checkpoint"
    found = verify(path, all=True)
    assert [one.text for one in found.differences] == []
    assert [one.same for one in found.rounds] == [True] * found.last
    assert found.notes == ()


def test_a_module_that_was_handed_over_is_handed_over_again(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(13, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    path = trained(small(tmp_path, "algorithm=fedbn", "client.drop_last=true"), model=module)
    assert verify(path, all=True, model=module).same
    with pytest.raises(RaysimError):
        verify(path)


def flip(path: Path, at: int = -5) -> None:
    found = bytearray(path.read_bytes())
    found[at] ^= 1
    path.write_bytes(found)


def other_checkpoint(run: Path) -> None:
    folder = run / "checkpoints" / "round-000004"
    vectors = read_vectors(folder / "server.safetensors")
    vectors["model"] = vectors["model"] + np.float32(1)
    save_vectors(folder / "server.safetensors", vectors)
    (folder / "manifest.json").unlink(missing_ok=True)
    seal(folder, 4)


def other_value(table: str, column: str, row: int, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        found = pq.read_table(run / table)
        values = found[column].to_pylist()
        values[row] = change(values[row])
        field = found.schema.field(column)
        column_now = pa.array(values, field.type)
        pq.write_table(found.set_column(found.schema.names.index(column), field, column_now), run / table)

    return damage


def without_row(table: str, row: int) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        found = pq.read_table(run / table)
        pq.write_table(pa.concat_tables([found[:row], found[row + 1 :]]), run / table)

    return damage


def without_column(table: str, column: str) -> Callable[[Path], None]:
    return lambda run: pq.write_table(pq.read_table(run / table).drop_columns([column]), run / table)


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        text = (run / file).read_text()
        assert old in text
        (run / file).write_text(text.replace(old, new, 1))

    return damage


def forged(run: Path) -> None:
    """Another model in round 3, with links that fit."""
    chain = read_chain(run / "chain.jsonl")
    lines = (run / "chain.jsonl").read_text().splitlines(keepends=True)[:1]
    previous = genesis(Experiment.parse(chain.sittings[0].config), chain.sittings[0].bits)
    for one in chain.links:
        server = ServerDigest("0" * 64, one.server.state) if one.round == 3 else one.server
        link = Link.behind(previous, one.round, server, one.rows)
        lines.append(link.line())
        previous = link.link
    (run / "chain.jsonl").write_text("".join(lines))


DAMAGES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a flipped bit in a checkpoint": (
        lambda run: flip(run / "checkpoints" / "round-000004" / "server.safetensors"),
        ["checkpoints/round-000004, round 4: server.safetensors is damaged"],
    ),
    "another checkpoint under a manifest of its own": (
        other_checkpoint,
        ["checkpoints/round-000004, round 4: its model is not that of the chain"],
    ),
    "a number of a round": (
        other_value("rounds.parquet", "samples", 1, lambda value: value + 1),
        ["rounds.parquet, round 2: samples is {samples}, and {samples_was} when computed again"],
    ),
    "a metric of a round": (
        other_value("rounds.parquet", "test/accuracy", 2, lambda value: 1.0),
        ["rounds.parquet, round 3: test/accuracy is 1.0, and"],
    ),
    "a time of a round": (
        other_value("rounds.parquet", "seconds/total", 0, lambda value: value / 2),
        ["rounds.parquet, round 1: a column that says how the round was done, such as seconds or workers, is not as"],
    ),
    "a missing round": (without_row("rounds.parquet", 2), ["rounds.parquet, round 3: has no row"]),
    "a missing column": (
        without_column("rounds.parquet", "samples"),
        ["rounds.parquet: its columns are not those that were recorded (samples)"],
    ),
    "a missing column of clients": (
        without_column("clients.parquet", "loss"),
        [
            "clients.parquet: its columns are not those that were recorded (",
            "clients.parquet, round 5: has no column loss",
        ],
    ),
    "a loss of a client": (
        other_value("clients.parquet", "loss", 5, lambda value: value / 2),
        ["clients.parquet, round 2, client {client}: loss is "],
    ),
    "a missing client": (
        without_row("clients.parquet", 5),
        ["clients.parquet, round 2, client {client}: has no row"],
    ),
    "a torn table": (lambda run: flip(run / "rounds.parquet"), ["rounds.parquet: ", "damaged, or not a table"]),
    "a configuration": (
        replaced("config.yaml", "lr: 0.02", "lr: 0.5"),
        ["config.yaml: client.optimizer.lr is 0.5, and was 0.02 when the run was worked on"],
    ),
    "a recorded bit": (
        replaced("environment.json", '"engine.threads": 1', '"engine.threads": 2'),
        ["environment.json: bits.engine.threads is 2, and was 1 when the run was worked on"],
    ),
    "a flipped bit in the model": (
        lambda run: flip(run / "model.safetensors"),
        ["model.safetensors, round 5: ", " is not that of the last round"],
    ),
    "a line of the chain": (
        lambda run: replaced("chain.jsonl", read_chain(run / "chain.jsonl").links[3].server.model, "0" * 64)(run),
        ["chain.jsonl, round 3: its link is not that of its line and of the link before it"],
    ),
    "the configuration in the chain": (
        replaced("chain.jsonl", '"lr": 0.02', '"lr": 0.5'),
        ["config.yaml: client.optimizer.lr", "chain.jsonl, round 0: its link is not that of its line and of the conf"],
    ),
    "a chain forged as a whole": (
        forged,
        ["chain.jsonl, round 3: the model computed again is another one"],
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(run: Path, damage: str) -> None:
    clients = pq.read_table(run / "clients.parquet").to_pylist()
    samples = pq.read_table(run / "rounds.parquet")["samples"].to_pylist()[1]
    hurt, expected = DAMAGES[damage]
    hurt(run)
    found = verify(run, rounds=[5] if damage != "a chain forged as a whole" else [4])
    text = "\n".join(one.text for one in found.differences)
    for line in expected:
        assert line.format(client=clients[5]["client"], samples=samples + 1, samples_was=samples) in text
    assert not found.same
    named = [one.text for one in found.differences if "not as it was recorded" in one.text]
    assert not named or damage == "a time of a round", "a value is named where it can be computed again"


def test_the_command_prints_a_table_and_says_by_its_exit_code_what_it_found(run: Path) -> None:
    invoke = CliRunner().invoke
    done = invoke(app, ["verify", str(run), "--round", "2", "--random", "1", "--seed", "1"])
    assert done.exit_code == 0
    assert done.stdout.startswith("round  seconds  same bits\n    2  ")
    assert "verified: the files are those of the chain of rounds 1 to 5; 2 computed again to the same" in done.stdout
    values = json.loads(invoke(app, ["verify", str(run), "--all", "--json"]).stdout)
    assert values["link"] == read_chain(run / "chain.jsonl").links[-1].link
    assert [one["round"] for one in values["rounds"]] == [1, 2, 3, 4, 5]
    assert (values["same"], values["differences"], values["replayed"]) == (True, [], 0)
    DAMAGES["a loss of a client"][0](run)
    done = invoke(app, ["verify", str(run)])
    assert done.exit_code == 1
    assert "\nnot verified: 1 difference from the chain of rounds 1 to 5\n" in done.stdout


def test_rounds_at_random_depend_on_the_seed_alone(run: Path) -> None:
    drawn = [[one.round for one in verify(run, random=2, seed=seed).rounds] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_run_that_cannot_be_computed_again_here_says_which_bit_differs(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.__version__", "9.9")
    with pytest.raises(RaysimError, match=r"cannot be computed again here: torch was '2.*' and is '9.9' here; pass"):
        verify(run)
    found = verify(run, anyway=True)
    assert found.same
    assert found.notes[0].startswith("computed although torch was ")
    flip(run / "model.safetensors")
    other = verify(run)
    assert "no round was computed again" in other.notes[0]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["aggregation.exact=false"], "cannot be verified: sums are float32, the result depends on who trained whom"),
        (
            ["aggregation.weights=uniform", "selection=poisson", "aggregation.stages=[{name: clip, max_norm: 1}, "
             "{name: gaussian, noise_multiplier: 1, generator: system}]"],
            "cannot be verified: noise of stages.gaussian is ",
        ),
        (["tracking.chain=false"], "there is no chain of this run; it is written where tracking.chain is true"),
    ],
)  # fmt: skip
def test_what_cannot_be_verified_says_so_in_one_line(tmp_path: Path, overrides: list[str], line: str) -> None:
    path = trained(small(tmp_path, *overrides))
    with pytest.raises(RaysimError) as caught:
        verify(path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_round_that_is_not_there_is_one_line(run: Path) -> None:
    with pytest.raises(RaysimError, match="there is no round 6 in the chain, which has rounds 1 to 5"):
        verify(run, rounds=[6])


def arrays(change: float = 0.0) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 4)).astype(np.float32)
    x[7, 2] += change
    return {"x": x, "y": np.arange(60) % 3, "client": np.arange(60) // 10}


def test_other_data_are_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays())
    overrides = [
        f"data.source={{name: npz, path: {tmp_path}/data.npz}}",
        "data.partition=natural",
        "data.transforms=[]",
    ]
    path = trained(small(tmp_path, *overrides))
    assert verify(path).same
    np.savez(tmp_path / "data.npz", **arrays(0.5))
    found = verify(path)
    assert [one.text for one in found.differences] == [
        "data (npz): samples, or who holds which, are not those that the run had"
    ]
    found = verify(path, anyway=True, all=True)
    assert "chain.jsonl, round 1: the model computed again is another one" in found.differences[1].text


def test_what_was_handed_over_is_handed_over_again(tmp_path: Path) -> None:
    experiment = small(tmp_path, "data.partition=natural", "data.transforms=[]")
    values = experiment.to_dict()
    del values["data"]["source"]
    path = trained(Experiment.parse(values), data=arrays())
    assert verify(path, data=arrays()).same
    with pytest.raises(RaysimError):
        verify(path)


FAILING = """\
from raysim.algorithms import Algorithm

class Failing(Algorithm):
    def correct(self, grad, weights, b):
        if b.setting.round == 2 and 4 in b.clients:
            open("{flag}").close()
"""


def test_a_client_that_the_run_lost_is_lost_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "flag"
    (tmp_path / "failing_once.py").write_text(FAILING.format(flag=flag))
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ["algorithm=failing_once:Failing", "execution.faults.error=drop", "cohort=6", "rounds=3"]
    path = trained(small(tmp_path, *overrides))
    assert pq.read_table(path / "rounds.parquet")["dropped"].to_pylist() == [0, 1, 0]
    flag.touch()  # today it would not fail
    assert verify(path, all=True).same


def test_a_run_that_was_resumed_with_another_evaluation_verifies(tmp_path: Path) -> None:
    path = trained(small(tmp_path, "rounds=3", "tracking.checkpoint_every=1"))
    with Simulation.resume(path, overrides=["rounds=5", "evaluation.every=2"]) as simulation:
        simulation.run()
    found = verify(path, all=True)
    assert [one.text for one in found.differences] == []
    assert len(found.rounds) == 5
