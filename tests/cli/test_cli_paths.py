"""Paths and names that no file system takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim import Experiment, Simulation, debug, tune
from raysim.errors import RaysimError, StorageError
from raysim.files import looked_up
from raysim.tracking import write_report

Raysim = Callable[..., Result]
LONG = "d" * 300


@pytest.fixture
def loop(folder: Path) -> str:
    """A link to itself."""
    (folder / "loop").symlink_to("loop")
    return "loop"


@pytest.mark.parametrize("path", ["loop", "loop/below", LONG])
@pytest.mark.parametrize(
    "command",
    [
        "run tiny.yaml --directory {}",
        "run tiny.yaml tracking.directory={}",
        "resume {}",
        "report {}",
        "debug {} --client 1 --round 1",
        "tune tiny.yaml --directory {}",
        "tune {}",
        "data show tiny.yaml --png {}",
        "data build tiny.yaml data.cache={}",
        "plan tiny.yaml model.weights={}",
        "plan tiny.yaml data.source.name=mnist data.source.path={}",
        "data import mnist {}",
        "plan tiny.yaml data.source.name=csv data.source.label=y data.source.path={}",
    ],
)
def test_a_path_that_nothing_can_be_at_is_one_line(raysim: Raysim, loop: str, command: str, path: str) -> None:
    result = raysim(*command.format(path).split())
    assert (result.exit_code, result.stdout) == (2, "")
    *_, line = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "its links go round in a circle" in line or "longer than the file system takes; give a shorter path" in line
    assert len(line) < 250


def test_a_nul_byte_is_one_line_in_python(folder: Path) -> None:
    experiment = Experiment.from_yaml("tiny.yaml")
    calls: list[Callable[[], object]] = [
        lambda: Simulation(experiment, directory="a\0b"),
        lambda: Simulation.resume("a\0b"),
        lambda: debug("a\0b", client=1, round=1),
        lambda: tune(experiment, directory="a\0b"),
        lambda: write_report(["a\0b"]),
        lambda: experiment.updated(['tracking.directory="a\\0b"']),
    ]
    for call in calls:
        with pytest.raises(RaysimError, match=r"NUL|null byte") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [LONG, "é" * 101])
def test_a_name_that_no_folder_can_have_is_one_line(raysim: Raysim, folder: Path, name: str) -> None:
    result = raysim("run", "tiny.yaml", f"name={name}")
    size = len(name.encode())
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: tiny.yaml: name: a name of {size} bytes; a folder is named after it, so use at most 200\n",
    )
    assert raysim("run", "tiny.yaml", f"name={'d' * 200}", "rounds=1", "--quiet").exit_code == 0


def test_a_path_where_something_could_be_is_as_it_is(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "below", "relative", tmp_path / "file.txt"):
        assert looked_up(path) == Path(path)
    with pytest.raises(StorageError):
        looked_up(tmp_path / LONG)
