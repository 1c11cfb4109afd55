"""Commands write where they are told, over nothing but what they wrote themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.errors import StorageError
from raysim.outputs import PICTURE, REPORT, SCHEMA, OutputKind

OWN: dict[str, tuple[OutputKind, bytes]] = {
    "a.html": (REPORT, "<!doctype html>\n<title>fedavg · raysim</title>".encode()),
    "a.png": (PICTURE, b"\x89PNG\r\n\x1a\n..."),
    "a.json": (SCHEMA, b'{"title": "raysim experiment"}'),
}


@pytest.mark.parametrize("name", OWN)
def test_a_missing_file_and_an_earlier_one_of_the_kind_may_be_written(tmp_path: Path, name: str) -> None:
    kind, content = OWN[name]
    assert kind.check(tmp_path / name) == tmp_path / name
    (tmp_path / name).write_bytes(content)
    assert kind.check(str(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(
    ("put", "message"),
    [
        (lambda file: file.write_text("my thesis"), "exists already and is not"),
        (lambda file: file.write_bytes(b""), "exists already and is not"),
        (lambda file: file.symlink_to(file.with_name("other")), "is a link"),
        (lambda file: file.mkdir(), "is a folder"),
    ],
)
def test_everything_else_that_is_there_is_refused_in_one_line(
    tmp_path: Path, name: str, put: Callable[[Path], object], message: str
) -> None:
    put(tmp_path / name)
    with pytest.raises(StorageError, match=message) as caught:
        OWN[name][0].check(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("other", ["config.yaml", "rounds.parquet", "/dev/stdout", ""])
def test_a_name_of_another_kind_is_refused_whether_or_not_it_is_there(tmp_path: Path, name: str, other: str) -> None:
    with pytest.raises(StorageError, match=r"ends in|is a link|is a device|is a folder"):
        OWN[name][0].check(tmp_path / other)


def test_no_file_is_added_to_a_checkpoint_which_would_make_it_count_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StorageError, match="is a checkpoint or a shard store; write a report of raysim elsewhere"):
        REPORT.check(tmp_path / "report.html")


def test_no_command_with_an_output_destroys_what_is_there(raysim: Callable[..., Result], folder: Path) -> None:
    assert raysim("run", "tiny.yaml", "--directory", "out").exit_code == 0
    (folder / "mine.html").write_text("mine")
    before = hashes(folder)
    for file in [*(folder / "out").rglob("*"), folder / "tiny.yaml", folder / "mine.html"]:
        if file == folder / "out" / "checkpoints":
            continue  # a folder like any other
        for command in (["report", "out", "--out"], ["data", "show", "tiny.yaml", "--png"], ["schema", "--out"]):
            result = raysim(*command, str(file))
            assert result.exit_code == 2, (command, file)
            assert len(result.stderr.splitlines()) == 1
    assert hashes(folder) == before


def hashes(folder: Path) -> dict[Path, str]:
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}
