"""Data and models that do not fit: one line that names the place and the remedy, exit code 2, nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

Raysim = Callable[..., Result]

NPZ = "data.source={name: npz, path: mine.npz}"


def samples(count: int = 40) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"x": generator.normal(size=(count, 4)).astype(np.float32), "y": np.arange(count) % 3}


def with_nan() -> dict[str, np.ndarray]:
    arrays = samples()
    arrays["x"][17, 2] = np.nan
    return arrays


def with_unknown_test_label() -> dict[str, np.ndarray]:
    arrays = samples()
    return {**arrays, "x_test": arrays["x"][:3], "y_test": np.array([0, 1, 7])}


@pytest.mark.parametrize(
    ("arrays", "overrides", "named"),
    [
        (with_nan, [], ["mine.npz", "17", "missing"]),
        (with_unknown_test_label, [], ["mine.npz", "y_test[2] is 7", "labels 0..2"]),
        (samples, ["model=cnn"], ["model cnn", "(4,)", "use softmax or mlp"]),
        (samples, ["model=mine:net"], ["model mine:net", "[2, 5]", "3 classes"]),
        (samples, ["training.loss=mse"], ["training.loss", "mse", "cross_entropy"]),
        (samples, ["data.partition.clients=41"], ["41 clients", "allow_empty"]),
        (samples, ["data.partition={name: dirichlet, clients: 6, alpha: 0.01, min_size: 5}"], ["alpha", "min_size"]),
        (samples, ["data.partition={name: natural}", "cohort=1.0"], ["natural", "client"]),
        (
            samples,
            ["aggregation.weights={name: explicit, table: {99: 1}}"],
            ["no client 99", "0 to 5"],
        ),
        (
            samples,
            ["client.drop_last=true", "client.batch_size=full"],
            ["client", "drop_last", "batch_size is full"],
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    raysim: Raysim, folder: Path, arrays: Callable[[], dict[str, np.ndarray]], overrides: list[str], named: list[str]
) -> None:
    np.savez(folder / "mine.npz", **arrays())
    (folder / "mine.py").write_text(
        "import torch\ndef net(input_shape):\n    return torch.nn.Linear(input_shape[0], 5)\n"
    )
    result = raysim("run", "tiny.yaml", NPZ, *overrides, "--quiet")
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    missing = [word for word in named if word not in line]
    assert not missing, f"{line!r} does not say {missing}"
    if "aggregation" not in "".join(overrides):
        assert not (folder / "runs").exists()


def test_a_truncated_shard_names_the_file_and_what_to_do(
    raysim: Raysim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(folder / "cache"))
    assert raysim("data", "build", "tiny.yaml").exit_code == 0
    (shard,) = (folder / "cache").rglob("train.arrow")
    shard.write_bytes(shard.read_bytes()[:-1000])
    result = raysim("run", "tiny.yaml", "--quiet")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "train.arrow" in line
    assert "delete" in line
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["index.arrow", "train.arrow", "test.arrow"])
def test_a_changed_bit_is_found_by_verify_and_in_the_index_by_every_run(
    raysim: Raysim, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(folder / "cache"))
    whole = raysim("data", "build", "tiny.yaml", "--verify")
    assert whole.stdout.splitlines()[-1].split() == ["verified", *["every", "file", "is", "as", "it", "was", "written"]]
    (file,) = (folder / "cache").rglob(name)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4  # the values are the most of a file
    file.write_bytes(content)
    result = raysim("data", "build", "tiny.yaml", "--verify")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert f"{name}: " in line
    assert "is damaged" in line
    assert "delete the folder" in line
    if name == "index.arrow":
        assert raysim("run", "tiny.yaml").stderr == result.stderr
        assert not (folder / "runs").exists()


def test_clients_without_samples_are_accepted_when_asked_for(raysim: Raysim, folder: Path) -> None:
    np.savez(folder / "mine.npz", **samples(12))
    few = [NPZ, "data.partition={name: iid, clients: 30, allow_empty: true}", "cohort=1.0"]
    result = raysim("run", "tiny.yaml", *few, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
