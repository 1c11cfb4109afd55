"""The chain of a run against its own formula, and what may not change it."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from federations import digits
from synthetic_runs import make_clients

from raysim import Simulation
from raysim.errors import RunError
from raysim.execution.server import hashing
from raysim.rounds.digests import ServerDigest
from raysim.rounds.rows import CLIENT_SCHEMA, ROUND_FIELDS, VIRTUAL_SCHEMA, RoundRow, round_values, with_virtual
from raysim.rounds.vectors import read_vectors
from raysim.tracking import CheckpointFolder, RunDirectory, read_clients, read_rounds
from raysim.tracking.chain import cut, genesis, read_chain
from raysim.tracking.row_digests import RowDigests, of_clients, of_row

ADAM = ["algorithm=fedadam", "rounds=5"]


def trained(folder: Path, *overrides: str) -> RunDirectory:
    with Simulation(digits(folder, *ADAM, *overrides)) as simulation:
        simulation.run()
    return RunDirectory(simulation.directory)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Five rounds of FedAdam, whose server keeps two vectors."""
    return trained(tmp_path_factory.mktemp("chain"))


def lines(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.chain.read_text().splitlines()]


def links(run: RunDirectory) -> list[str]:
    return [one.link for one in read_chain(run.chain).links]


def test_every_link_is_that_of_its_line_and_the_one_before(run: RunDirectory) -> None:
    sitting, *rounds = lines(run)
    assert (sitting["format"], sitting["after"]) == (2, 0)
    assert sitting["config"] == run.experiment().to_dict()
    assert sitting["bits"] == run.read_environment()["bits"]
    previous = genesis(run.experiment(), sitting["bits"])
    assert [one["round"] for one in rounds] == [0, 1, 2, 3, 4, 5]
    for one in rounds:
        said = [previous, str(one["round"]), one["model"], one["state"], one.get("row", ""), one.get("clients", "")]
        assert one["link"] == hashlib.sha256("\n".join(said).encode()).hexdigest()
        previous = one["link"]


def test_the_digests_are_those_of_the_checkpoint_and_of_the_tables(run: RunDirectory) -> None:
    rounds = {one.round: one for one in read_chain(run.chain).links}
    with CheckpointFolder(run) as folder:
        vectors = read_vectors(folder.path(4) / "server.safetensors")
    assert rounds[4].server.model == hashlib.sha256(vectors.pop("model").tobytes()).hexdigest()
    state = hashlib.sha256()
    assert sorted(vectors)
    for name in sorted(vectors):
        vector = vectors[name]
        state.update(f"{name.removeprefix('state.')} {vector.dtype.str} {vector.shape}\n".encode() + vector.tobytes())
    assert rounds[4].server.state == state.hexdigest()
    (clients,) = pa.Table.from_batches(read_clients(run)).combine_chunks().to_batches()
    for row in read_rounds(run).to_pylist():
        some = clients.filter(pa.compute.equal(clients["round"], row["round"]))
        assert rounds[row["round"]].rows == RowDigests.of(row, some)


def test_a_large_server_is_hashed_in_a_thread_to_the_same_chain(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "SMALL", 0)
    assert links(trained(tmp_path)) == links(run)


def test_a_resume_goes_on_with_the_chain_of_an_unbroken_run(run: RunDirectory, tmp_path: Path) -> None:
    broken = trained(tmp_path, "rounds=4")
    shutil.rmtree(broken.checkpoints / "round-000004")
    with broken.chain.open("a") as stream:
        stream.write('{"round": 5, "mod')  # as a kill leaves it
    with Simulation.resume(broken.path, overrides=["rounds=5", "execution.executor=inprocess"]) as simulation:
        simulation.run()
    assert links(broken) == links(run)
    assert [one.after for one in read_chain(broken.chain).sittings] == [0, 2]
    assert read_chain(broken.chain).sittings[1].config["rounds"] == 5


def test_without_a_chain_nothing_is_hashed_and_one_that_is_turned_on_begins_there(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ServerDigest, "of", lambda *_: pytest.fail("a server was hashed"))
        other = trained(tmp_path, "rounds=4", "tracking.chain=false")
    assert not other.chain.exists()
    with pytest.raises(RunError, match="there is no chain of this run"):
        read_chain(other.chain)
    with Simulation.resume(other.path, overrides=["rounds=5", "tracking.chain=true"]) as simulation:
        simulation.run()
    found, whole = read_chain(other.chain), read_chain(run.chain)
    assert [one.round for one in found.links] == [4, 5]
    assert [one.server for one in found.links] == [one.server for one in whole.links[-2:]]
    assert found.links[1].rows is not None
    assert whole.links[-1].rows is not None
    assert found.links[1].rows.row == whole.links[-1].rows.row


def test_a_chain_that_is_turned_off_ends_where_the_run_goes_on(tmp_path: Path) -> None:
    run = trained(tmp_path, "rounds=4")
    with Simulation.resume(run.path, overrides=["rounds=5", "tracking.chain=false"]) as simulation:
        simulation.run()
    assert [one.round for one in read_chain(run.chain).links] == [0, 1, 2, 3, 4]


def test_a_damaged_line_is_named(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "chain.jsonl"
    path.write_text(run.chain.read_text().replace('"link": "', '"lost": "', 1))
    with pytest.raises(RunError, match=r"chain\.jsonl: line 2 is damaged"):
        read_chain(path)


ROW = round_values(RoundRow(1, 2, 2, 0, 0, 20, 4, 64, 64, 0.1, {"train": 0.5}, {"test/loss": 0.3, "x": float("nan")}))
CLIENTS = pa.RecordBatch.from_pylist(
    [
        {"round": 1, "client": 3, "samples": 9, "steps": 2, "weight": 1.0, "loss": 0.5, "seconds": 0.1, "worker": 0},
        {"round": 1, "client": 7, "samples": 9, "steps": 0, "weight": 0.0, "seconds": 0.1, "worker": 0, "dropped": "x"},
    ],
    CLIENT_SCHEMA,
)


@pytest.mark.parametrize("name", [*(field.name for field in ROUND_FIELDS), "test/loss", "x"])
def test_another_value_of_any_column_of_a_round_is_another_digest(name: str) -> None:
    value: Any = ROW[name]
    other = 1.0 if value != value else float(np.nextafter(value, 2)) if isinstance(value, float) else value + 1
    assert of_row({**ROW, name: other}) != of_row(ROW)


@pytest.mark.parametrize("name", [name for name in CLIENT_SCHEMA.names if name != "round"])
def test_another_value_of_any_column_of_a_client_is_another_digest(name: str) -> None:
    rows = CLIENTS.to_pylist()
    for row in (0, 1):
        others = ["y", "x", None] if name == "dropped" else [None, float("nan"), 0.25] if name == "loss" else [5]
        for other in others:
            if other == rows[row][name]:
                continue
            changed = [{**one, name: other} if number == row else one for number, one in enumerate(rows)]
            assert of_clients(pa.RecordBatch.from_pylist(changed, CLIENT_SCHEMA)) != of_clients(CLIENTS)


def test_a_metric_that_was_not_measured_is_no_part_of_a_digest() -> None:
    assert of_row({**ROW, "test/accuracy": None}) == of_row(ROW)


def test_the_digests_are_those_of_the_values_one_by_one() -> None:
    counts = ["round", "cohort", "trained", "dropped", "clamped", "samples", "steps", "wire_up", "wire_down", "tokens"]
    text = b"".join(struct.pack("<q", ROW[name]) for name in counts) + struct.pack("<ddd", 0.1, 0.3, float("nan"))
    names = ",".join([*counts, "lr", "test/loss", "x"])
    assert of_row(ROW)[0] == hashlib.sha256(f"{names}\n".encode() + text).hexdigest()
    clients = make_clients(3)
    exact = {"client": "q", "samples": "q", "steps": "q", "weight": "d", "loss": "d", "wire_up": "q", "wire_down": "q"}
    for some, kinds in ((clients, exact), (clients.slice(1, 2), exact), (make_clients(3, "lost"), exact)):
        parts = [struct.pack("<" + kind * len(some), *some[name].to_pylist()) for name, kind in kinds.items()]
        expected = f"{len(some)} {','.join(kinds)}\n".encode() + b"".join(parts)
        dropped = some["dropped"].to_pylist()
        expected += f"\n{json.dumps(dropped)}".encode() if any(dropped) else b""
        assert of_clients(some)[0] == hashlib.sha256(expected).hexdigest()
    rest = struct.pack("<4f4i", *clients["seconds"].to_pylist(), *clients["worker"].to_pylist())
    assert of_clients(clients)[1] == hashlib.sha256(b"4 seconds,worker\n" + rest).hexdigest()[:16]


@pytest.mark.parametrize("virtual", [False, True])
def test_the_same_rows_have_the_same_digests_wherever_they_lie(virtual: bool) -> None:
    many = pa.Table.from_batches([make_clients(round) for round in range(1, 30)]).combine_chunks().to_batches()[0]
    if virtual:
        many = with_virtual(many, {name: np.arange(len(many)) / 7 for name in VIRTUAL_SCHEMA.names})
    for start, count in ((0, 4), (4, 4), (3, 8), (0, 16), (5, 64), (116 - 9, 9), (8, 0), (0, 116)):
        piece = many.slice(start, count)
        alone = pa.RecordBatch.from_pylist(piece.to_pylist(), many.schema)
        assert of_clients(piece) == of_clients(alone)
        assert of_clients(piece.set_column(5, "loss", pa.array(piece["loss"].to_pylist()))) == of_clients(alone)


def test_a_chain_of_an_older_format_is_refused_and_dropped_by_a_resume(run: RunDirectory, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(run.path, older)
    chain = RunDirectory(older).chain
    chain.write_text(chain.read_text().replace('"format": 2, ', "", 1))
    with pytest.raises(RunError, match=r"chain of format 1, and this version of raysim compares format 2; verify"):
        read_chain(chain)
    assert cut(chain, 4) is None
    assert not chain.exists()
