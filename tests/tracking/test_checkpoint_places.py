"""Checkpoints at other places than the run directory: folders, and object stores that Arrow knows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from federations import digits, final_sha256, sha256
from pyarrow import fs
from unreliable_store import UnreliableHandler

from raysim import Experiment, Simulation
from raysim.errors import ConfigError, RunError, StorageError
from raysim.tracking import CheckpointFolder, CheckpointPlace, RunDirectory, places, read_events

URI = "store://bucket/experiments"


def fill(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "clients").mkdir()
    (folder / "clients" / "state.json").write_text("{}")


@pytest.fixture(params=["memory", "subtree"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UnreliableHandler:
    """The file system behind `store://`, one without a local path."""
    if request.param == "memory":
        below: fs.FileSystem = fs._MockFileSystem()
    else:
        (tmp_path / "store").mkdir()
        below = fs.SubTreeFileSystem(str(tmp_path / "store"), fs.LocalFileSystem())
    handler = UnreliableHandler(below)
    resolved = places._resolved

    def found(uri: str) -> tuple[fs.FileSystem, str]:
        if uri.startswith("store://"):
            return fs.PyFileSystem(handler), uri.removeprefix("store://")
        return resolved(uri)

    monkeypatch.setattr(places, "_resolved", found)
    return handler


@pytest.fixture
def folder(run: RunDirectory, store: UnreliableHandler) -> Iterator[CheckpointFolder]:
    with CheckpointFolder(run, URI) as checkpoints:
        yield checkpoints


def contents(store: UnreliableHandler) -> list[str]:
    """Every file of the bucket."""
    found = store.below.get_file_info(fs.FileSelector("bucket", recursive=True, allow_not_found=True))
    return sorted(info.path for info in found if info.type == fs.FileType.File)


def overwrite(store: UnreliableHandler, path: str, content: bytes) -> None:
    with store.below.open_output_stream(path) as sink:
        sink.write(content)


def test_a_checkpoint_is_stored_with_its_manifest_last_and_found_again(
    run: RunDirectory, folder: CheckpointFolder, store: UnreliableHandler
) -> None:
    folder.write(10, fill, keep=2)
    base = "bucket/experiments/run/round-000010"
    assert store.written == [f"{base}/clients/state.json", f"{base}/model.safetensors", f"{base}/manifest.json"]
    with CheckpointFolder(run, URI) as again:
        checkpoint, damaged = again.latest()
        assert (checkpoint.round, checkpoint.where, damaged) == (10, f"{URI}/run/round-000010", ())
        assert (checkpoint.path / "model.safetensors").read_bytes() == b"weights" * 100
        assert (checkpoint.path / "clients" / "state.json").read_text() == "{}"
    assert list(run.checkpoints.iterdir()) == [], "what was prepared or copied to be read is gone"


def test_only_the_last_are_kept_and_later_ones_discarded(folder: CheckpointFolder, store: UnreliableHandler) -> None:
    for round in (5, 10, 15, 20):
        folder.write(round, fill, keep=2)
    assert folder.rounds() == [15, 20]
    folder.discard_after(15)
    assert folder.rounds() == [15]
    assert len(contents(store)) == 3


@pytest.mark.parametrize("files_before_the_refusal", [0, 1, 2])
def test_a_store_that_refuses_keeps_the_older_ones_whole_and_the_next_one_is_whole_again(
    folder: CheckpointFolder, store: UnreliableHandler, files_before_the_refusal: int
) -> None:
    folder.write(5, fill, keep=1)
    store.budget = files_before_the_refusal
    with pytest.raises(StorageError, match=r"/run/round-000010: cannot write the checkpoint \(the store takes no more"):
        folder.write(10, fill, keep=1)
    assert folder.rounds() == [5], "without a manifest there is no checkpoint"
    assert folder.latest()[0].round == 5
    store.budget = 99
    folder.write(15, fill, keep=1)
    assert folder.rounds() == [15]
    assert len(contents(store)) == 3, "what was stored by halves is cleared away"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("model.safetensors", b"weighty" * 100, "model.safetensors is damaged"),
        ("model.safetensors", b"weights", "model.safetensors is damaged"),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("manifest.json", b"{", "manifest.json cannot be read"),
    ],
)
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(
    folder: CheckpointFolder, store: UnreliableHandler, file: str, content: bytes | None, reason: str
) -> None:
    for round in (5, 10):
        folder.write(round, fill, keep=2)
    path = f"bucket/experiments/run/round-000010/{file}"
    if content is None:
        store.below.delete_file(path)
    else:
        overwrite(store, path, content)
    found, skipped = folder.latest()
    assert found.round == 5
    assert [(one.round, one.reason) for one in skipped] == [(10, reason)]
    with pytest.raises(RunError, match=rf"{URI}/run/round-000010: {reason}; rounds with a checkpoint: 5, 10"):
        folder.open(10)


@pytest.mark.parametrize("name", ["../../stolen", "/etc/passwd", "a/../../b", "..\\up", "c:file", ""])
def test_a_manifest_cannot_name_files_outside_of_its_checkpoint(
    run: RunDirectory, folder: CheckpointFolder, store: UnreliableHandler, name: str
) -> None:
    folder.write(10, fill, keep=2)
    manifest = {"format": 1, "round": 10, "files": {name: {"bytes": 1, "sha256": "0"}}}
    overwrite(store, "bucket/experiments/run/round-000010/manifest.json", json.dumps(manifest).encode())
    with pytest.raises(RunError, match="which is not in the checkpoint's folder"):
        folder.latest()
    assert not (run.path / "stolen").exists()


def test_a_run_resumes_from_the_store_to_the_same_bits_with_its_local_checkpoints_gone(
    tmp_path: Path, store: UnreliableHandler
) -> None:
    expected = final_sha256(digits(tmp_path / "plain"))
    with Simulation(digits(tmp_path, f"tracking.checkpoints={URI}"), directory=tmp_path / "first") as simulation:
        for done in simulation:
            if done.number == 3:
                break
    assert {"round-000002", "round-000003"} == {path.split("/")[3] for path in contents(store)}
    assert not (tmp_path / "first" / "checkpoints" / "round-000003").exists()
    shutil.rmtree(tmp_path / "first" / "checkpoints", ignore_errors=True)
    overwrite(store, "bucket/experiments/first/round-000003/server.safetensors", b"rubbish")
    resumed = Simulation.resume(tmp_path / "first")
    resumed.run()
    assert sha256(resumed.model()) == expected
    said = [event["event"] for event in read_events(tmp_path / "first" / "log.jsonl")]
    assert any("round-000003: passed over (server.safetensors is damaged); continuing after" in text for text in said)


def test_a_resume_may_move_the_checkpoints_to_another_place(tmp_path: Path, store: UnreliableHandler) -> None:
    with Simulation(digits(tmp_path), directory=tmp_path / "first") as simulation:
        next(iter(simulation))
    Simulation.resume(tmp_path / "first", overrides=[f"tracking.checkpoints={URI}", "rounds=2"]).run()
    assert [path.split("/")[3] for path in contents(store) if path.endswith("manifest.json")] == ["round-000002"]
    Simulation.resume(tmp_path / "first", overrides=["tracking.checkpoints=null", "rounds=2"]).run()
    assert (tmp_path / "first" / "checkpoints" / "round-000002" / "manifest.json").is_file()


def test_a_folder_or_a_file_uri_holds_the_checkpoints_of_many_runs(tmp_path: Path) -> None:
    for name, place in (("a", tmp_path / "kept"), ("b", (tmp_path / "kept").as_uri())):
        with Simulation(digits(tmp_path, f"tracking.checkpoints={place}"), directory=tmp_path / name) as simulation:
            simulation.run()
        assert (tmp_path / "kept" / name / "round-000004" / "manifest.json").is_file()
        assert not (tmp_path / name / "checkpoints").exists()
    assert CheckpointFolder(RunDirectory.open(tmp_path / "b"), str(tmp_path / "kept")).latest()[0].round == 4


def test_the_name_of_another_run_is_not_taken_over(tmp_path: Path, store: UnreliableHandler) -> None:
    experiment = digits(tmp_path, f"tracking.checkpoints={URI}", "rounds=1")
    with Simulation(experiment, directory=tmp_path / "here" / "first") as simulation:
        simulation.run()
    with pytest.raises(RunError, match="has checkpoints of a run 'first' already"):
        Simulation(experiment, directory=tmp_path / "there" / "first")
    assert not (tmp_path / "there").exists()
    assert CheckpointPlace(URI).taken("first")
    made = RunDirectory.create(tmp_path, "x", Experiment(), taken=lambda name: not name.endswith("-2"))
    assert made.path.name.endswith("-2")


def test_a_place_that_cannot_be_used_is_one_line_before_anything_trains(
    tmp_path: Path, store: UnreliableHandler
) -> None:
    store.budget = 0
    (tmp_path / "file").write_text("")
    refused: list[tuple[str, type[Exception], str]] = [
        (URI, StorageError, r"tracking.checkpoints: store://bucket/experiments: cannot be written \(the store takes"),
        ("nowhere://bucket/x", ConfigError, "tracking.checkpoints: 'nowhere://bucket/x' cannot be used"),
        (str(tmp_path / "file" / "below"), StorageError, "cannot be written"),
        ("checkpoints", ConfigError, "tracking.checkpoints"),
        ("s3://key:secret@bucket/x", ConfigError, "the URL holds a password"),
        ("abfs://c@account/x?client_secret=1", ConfigError, "the URL holds a password"),
    ]
    for place, error, message in refused:
        with pytest.raises(error, match=message) as raised:
            Simulation(digits(tmp_path, f"tracking.checkpoints={place}"), directory=tmp_path / "run")
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "run").exists()
