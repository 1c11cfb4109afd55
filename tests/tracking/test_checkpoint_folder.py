from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysim.errors import RunError
from raysim.tracking import CheckpointFolder, RunDirectory


def fill(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "clients").mkdir()
    (folder / "clients" / "state.json").write_text("{}")


@pytest.fixture
def folder(run: RunDirectory) -> CheckpointFolder:
    return CheckpointFolder(run)


def test_a_checkpoint_is_found_again(folder: CheckpointFolder) -> None:
    folder.write(10, fill, keep=2)
    path = folder.path(10)
    assert path.name == "round-000010"
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["round"] == 10
    assert sorted(manifest["files"]) == ["clients/state.json", "model.safetensors"]
    found, skipped = folder.latest()
    assert (found.round, found.path, skipped) == (10, path, ())
    assert folder.open(10) == found


def test_only_the_last_are_kept(folder: CheckpointFolder) -> None:
    for round in (5, 10, 15, 20):
        folder.write(round, fill, keep=2)
    assert folder.rounds() == [15, 20]


def test_a_round_can_be_written_again(folder: CheckpointFolder) -> None:
    folder.write(5, fill, keep=2)
    folder.write(5, lambda path: (path / "other.json").write_text("1"), keep=2)
    assert folder.rounds() == [5]
    assert (folder.latest()[0].path / "other.json").is_file()
    assert not (folder.latest()[0].path / "model.safetensors").exists()


def test_a_writer_that_fails_leaves_what_was_there(folder: CheckpointFolder) -> None:
    folder.write(5, fill, keep=1)

    def broken(path: Path) -> None:
        (path / "half").write_text("")
        raise RuntimeError("no weights")

    with pytest.raises(RuntimeError, match="no weights"):
        folder.write(10, broken, keep=1)
    assert folder.rounds() == [5]
    assert [entry.name for entry in folder.path(5).parent.iterdir()] == ["round-000005"]
    assert folder.latest()[0].round == 5


def test_a_full_disk_is_one_clear_line(folder: CheckpointFolder) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"round-000003: cannot write the checkpoint \(No space left on device\)"):
        folder.write(3, full, keep=1)
    assert folder.rounds() == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "model.safetensors").write_bytes(b"weighty" * 100), "model.safetensors is damaged"),
        (lambda path: (path / "model.safetensors").write_bytes(b"weights"), "model.safetensors is damaged"),
        (lambda path: (path / "clients" / "state.json").unlink(), "clients/state.json is missing"),
        (lambda path: (path / "manifest.json").unlink(), "manifest.json cannot be read"),
        (lambda path: (path / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda path: (path / "manifest.json").write_text("[]"), "manifest.json cannot be read"),
        (lambda path: (path / "manifest.json").write_text('{"format": 9}'), "format 9, this version of raysim reads 1"),
        (lambda path: (path / "manifest.json").write_text('{"format": 1, "round": 2}'), "belongs to round 2"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(folder: CheckpointFolder, damage: object, reason: str) -> None:
    for round in (5, 10):
        folder.write(round, fill, keep=2)
    damage(folder.path(10))
    found, skipped = folder.latest()
    assert found.round == 5
    assert [(one.round, one.reason) for one in skipped] == [(10, reason)]
    with pytest.raises(RunError, match=rf"round-000010: {reason}; rounds with a checkpoint: 5, 10"):
        folder.open(10)


def test_without_a_usable_checkpoint_there_is_one_clear_line(folder: CheckpointFolder) -> None:
    with pytest.raises(RunError, match="has no checkpoint to continue from"):
        folder.latest()
    folder.write(5, fill, keep=2)
    (folder.path(5) / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"no checkpoint is usable \(round-000005: model.safetensors is missing\)"):
        folder.latest()


def test_the_rounds_after_a_resume_replace_those_before(folder: CheckpointFolder) -> None:
    for round in (5, 10, 15):
        folder.write(round, fill, keep=3)
    folder.write(7, fill, keep=3)
    assert folder.rounds() == [5, 7]
    folder.discard_after(5)
    assert folder.rounds() == [5]


def test_what_a_killed_writer_left_is_no_checkpoint(folder: CheckpointFolder) -> None:
    folder.write(5, fill, keep=2)
    leftover = folder.path(5).with_name(".round-000010.99.tmp")
    leftover.mkdir()
    fill(leftover)
    assert folder.rounds() == [5]
    folder.write(10, fill, keep=2)
    assert not leftover.exists()
