"""A checkpoint, or a file of weights, whose sums are right but whose content is not what was saved."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from federations import digits
from safetensors.numpy import load_file, save

from raysim import Simulation
from raysim.errors import ModelError, RunError
from raysim.tracking import CheckpointFolder, RunDirectory


def crafted(header: object, data: bytes = bytes(64)) -> bytes:
    """A safetensors file with this header, or these bytes of one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape: list[int], *offsets: int, kind: str = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": list(offsets)}


FILES = [
    b"",
    b"\0" * 7,
    struct.pack("<Q", 2**63) + b"{}",
    struct.pack("<Q", 2**64 - 1),
    struct.pack("<Q", 10**8 + 1) + b"{}",
    crafted(b"[" * 3000),
    crafted(b'{"model": ' + b"[" * 50_000),
    crafted(b"\xff\xfe"),
    crafted({}),
    crafted([]),
    crafted({"model": tensor([16], 0, 65)}),
    crafted({"model": tensor([16], 64, 0)}),
    crafted({"model": tensor([16], -1, 63)}),
    crafted({"model": tensor([2**40, 2**40], 0, 64)}),
    crafted({"model": tensor([2**63, 2], 0, 64)}),
    crafted({"model": tensor([16], 0, 2**64 - 1)}),
    crafted({"model": tensor([8], 0, 32), "b": tensor([8], 16, 48)}),
    crafted({"model": tensor([8], 0, 32), "b": tensor([4], 48, 64)}),
    crafted(b'{"model": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}, '
            b'"model": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}'),
    crafted({"model": tensor([16], 0, 64)}),
    crafted({"model": tensor([16], 0, 64, kind="F99")}),
    crafted({"model": tensor([32], 0, 64, kind="BF16")}),
    crafted({"model": tensor([64], 0, 64, kind="F8_E4M3")}),
    crafted({"model": tensor([0], 0, 0)}, b""),
    crafted({"__metadata__": {"a": 3}, "model": tensor([16], 0, 64)}),
]  # fmt: skip


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of a stateful algorithm that stopped after two of four rounds."""
    folder = tmp_path_factory.mktemp("half-done")
    with Simulation(digits(folder, "algorithm=scaffold"), directory=folder / "run") as simulation:
        for done in simulation:
            if done.number == 2:
                break
    return RunDirectory.open(folder / "run")


def replace(run: RunDirectory, name: str, content: bytes) -> Callable[[], None]:
    """Put a file into the newest checkpoint, with the right sum in its manifest; the way back."""
    folder = CheckpointFolder(run).path(2)
    before = {file: (folder / file).read_bytes() for file in (name, "manifest.json")}
    manifest = json.loads(before["manifest.json"])
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))

    def restore() -> None:
        for file, old in before.items():
            (folder / file).write_bytes(old)

    return restore


def refusal(run: RunDirectory, name: str, content: bytes) -> str:
    restore = replace(run, name, content)
    try:
        with pytest.raises(RunError) as caught:
            Simulation.resume(run.path).close()
    finally:
        restore()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("number", range(len(FILES)))
@pytest.mark.parametrize("name", ["server.safetensors", "clients-00000.safetensors"])
def test_a_crafted_file_of_vectors_is_refused(half_done: RunDirectory, name: str, number: int) -> None:
    assert refusal(half_done, name, FILES[number])


@pytest.mark.parametrize("number", range(len(FILES)))
def test_a_crafted_file_of_weights_is_refused(tmp_path: Path, number: int) -> None:
    (tmp_path / "w.safetensors").write_bytes(FILES[number])
    with pytest.raises(ModelError, match=r"w\.safetensors: ") as caught:
        Simulation(digits(tmp_path, f"model.weights={tmp_path / 'w.safetensors'}"))
    assert len(str(caught.value)) < 500


def test_a_checkpoint_of_other_shapes_is_refused(half_done: RunDirectory) -> None:
    vectors = load_file(CheckpointFolder(half_done).path(2) / "server.safetensors")
    name = next(key for key in vectors if key != "model")
    wrong = {
        "KeyError": {name: vectors[name]},
        "not float32 of shape": vectors | {"model": vectors["model"][:-1]},
        "not float32": vectors | {"model": vectors["model"].astype(np.float64)},
        f"{name.removeprefix('state.')!r} is not there": {"model": vectors["model"]},
        "'more' is not in the state of scaffold": vectors | {"more": vectors["model"]},
    }
    for reason, content in wrong.items():
        assert reason in refusal(half_done, "server.safetensors", save(content))
    pieces = load_file(CheckpointFolder(half_done).path(2) / "clients-00000.safetensors")
    for reason, content in {
        "has not a row of float32 for each of its clients": pieces | {"clients": pieces["clients"][:-1]},
        "a client keeps 3 values there": pieces | {"rows": pieces["rows"][:, :3]},
        "a client keeps 0 values there": pieces | {"rows": pieces["rows"][0]},
    }.items():
        assert reason in refusal(half_done, "clients-00000.safetensors", save(content))


JSON = ["", "[" * 100_000, "1" * 5000, "null", "[]", '{"a": 1, "a": 2}', "\x00", '{"format": 1, "round": 2}']


@pytest.mark.parametrize("name", ["manifest.json", "layout.json"])
@pytest.mark.parametrize("text", JSON)
def test_a_crafted_json_of_a_checkpoint_is_refused(half_done: RunDirectory, name: str, text: str) -> None:
    if name == "layout.json":
        assert refusal(half_done, name, text.encode())
        return
    path = CheckpointFolder(half_done).path(2) / name
    before = path.read_bytes()
    path.write_text(text)
    try:
        with pytest.raises(RunError, match=r"manifest\.json cannot be read"):
            Simulation.resume(half_done.path).close()
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("text", JSON)
def test_a_crafted_environment_is_refused(half_done: RunDirectory, text: str) -> None:
    before = half_done.environment.read_bytes()
    half_done.environment.write_text(text)
    try:
        with pytest.raises(RunError, match=r"environment\.json: "):
            Simulation.resume(half_done.path).close()
    finally:
        half_done.environment.write_bytes(before)
