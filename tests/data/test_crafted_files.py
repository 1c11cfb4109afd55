"""Files that promise more than they hold, or hold more than they promise, are refused before memory is taken."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysim.config.sources import NpzConfig, TextConfig
from raysim.data.sources.files import read_bytes, read_parquet
from raysim.data.sources.idx import read_idx
from raysim.data.sources.npz import load_npz
from raysim.data.sources.text import load_text
from raysim.errors import DataError

MEMORY = 1 << 30


@pytest.fixture(autouse=True)
def _a_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are refused for a machine of this memory, whatever the machine of the test has."""
    for room in ("room", "sources.files"):
        monkeypatch.setattr(f"raysim.data.{room}.available_memory", lambda: MEMORY)


def header(shape: object, descr: object = "'<f4'", order: str = "False") -> bytes:
    """Header of a .npy file, of whatever it says."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 65535)) + text


def array(values: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(values))
    return file.getvalue()


GOOD = {"x.npy": array(np.ones((4, 2), np.float32)), "y.npy": array([0, 1, 0, 1])}


def archive(path: Path, *members: tuple[str, bytes], change: Callable[[bytes], bytes] = bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    path.write_bytes(change(path.read_bytes()))
    return path


def load(path: Path) -> object:
    return load_npz(NpzConfig(path=str(path)), 0)


def test_an_archive_is_read_in_either_order_of_elements(tmp_path: Path) -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    np.savez(tmp_path / "data.npz", x=np.asfortranarray(x), y=[0, 1, 0, 1])
    dataset = load_npz(NpzConfig(path=str(tmp_path / "data.npz")), 0)
    np.testing.assert_array_equal(dataset.train.x, x)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (header((10**12,)), r"'x' of shape \(1000000000000,\) needs 4,000,000,000,000 bytes and has 0"),
        (header((10**22,)), "needs 40,000,000,000,000,000,000,000 bytes and has 0"),
        (header((2**31, 2**33)), "needs 73,786,976,294,838,206,464 bytes and has 0"),
        (header((-1,)) + bytes(4), r"'x' is of type float32 and shape \(-1,\)"),
        (header((4, 2)), "needs 32 bytes and has 0"),
        (header((4, 2)) + bytes(33), "needs 32 bytes and has 33"),
        (header("(" * 3000 + ")" * 3000), "not a readable"),
        (header("[" * 3000 + "]" * 3000), "not a readable"),
        (header("-" * 4000 + "1"), "not a readable"),
        (header((4,), "'|O'") + bytes(32), "'x' is of type object"),
        (header((10**12,), "'<U0'"), r"'x' is of type <U0"),
        (header((4,), "'<f99'"), "not a readable"),
        (header((4,), "'<f4', 'more': 1"), "not a readable"),
        (header((4,), order="'yes'"), "not a readable"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 10**8) + b" " * 1000, "not a readable"),
        (b"\x93NUMPY\x03\x00" + struct.pack("<I", 10) + b" " * 10, r"'x' is in version \(3, 0\)"),
        (b"\x93NUMPY\x07\x00", "not a readable"),
        (b"", "not a readable"),
        (b"no array", "not a readable"),
    ],
)
def test_a_crafted_header_of_an_array_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = archive(tmp_path / "data.npz", ("x.npy", content), ("y.npy", GOOD["y.npy"]))
    with pytest.raises(DataError, match=reason) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: not a readable .npz archive of plain arrays (")
    assert len(str(caught.value)) < 400


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w", force_zip64=True) as stream:
        stream.write(header((MEMORY // 4,)))
    directory = path.read_bytes()
    size = struct.pack("<I", len(header((MEMORY // 4,))))
    path.write_bytes(directory.replace(size, struct.pack("<I", MEMORY + 128)))
    with pytest.raises(DataError, match=r"its content takes 1\.1 GB of memory, 1\.1 GB are free"):
        load(path)


ENTRY = b"PK\x01\x02\x14\x03\x14\x00"
"""Start of a member in the directory of an archive; flags and the way of compression follow."""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda whole: whole.replace(struct.pack("<I", zlib.crc32(GOOD["x.npy"])), b"abcd"), "Bad CRC-32"),
        (lambda whole: whole[: len(whole) // 2], "not a zip file"),
        (lambda whole: whole.replace(b"y.npy", b"x.npy"), "it has 'x' twice"),
        (lambda whole: whole.replace(ENTRY + b"\x00\x00\x08", ENTRY + b"\x01\x00\x08"), "encrypted"),
        (lambda whole: whole.replace(ENTRY + b"\x00\x00\x08", ENTRY + b"\x00\x00\x63"), "not a readable"),
        (lambda whole: b"", "not a zip file"),
        (lambda whole: b"\x93NUMPY" + whole, "a single array"),
    ],
)
def test_a_crafted_archive_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    path = archive(tmp_path / "data.npz", *GOOD.items(), change=change)
    with pytest.raises(DataError, match=reason):
        load(path)


class Counted(io.RawIOBase):
    """Zeros without end, and how many of them were read."""

    def __init__(self, start: bytes) -> None:
        self._start, self.read_bytes = start, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        content = self._start[: len(buffer)] or bytes(len(buffer))
        self._start = self._start[len(content) :]
        buffer[: len(content)] = content
        self.read_bytes += len(content)
        return len(content)


IDX = b"\0\0\x08\x02" + struct.pack(">2I", 5, 8) + bytes(40)
"""52 bytes."""


def test_a_gzipped_idx_is_read_no_further_than_its_header_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file.gz").write_bytes(gzip.compress(IDX))
    assert read_idx(tmp_path / "file.gz").shape == (5, 8)
    endless = Counted(IDX)
    monkeypatch.setattr("gzip.open", lambda stream: io.BufferedReader(endless, 64))
    with pytest.raises(DataError, match=r"too long: more bytes follow where shape \(5, 8\) needs 52"):
        read_idx(tmp_path / "file.gz")
    assert endless.read_bytes < 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\x08\x01" + struct.pack(">I", 2**32 - 1), "takes 4.3 GB of memory, 1.1 GB are free"),
        (b"\0\0\x0e\x08" + b"\xff" * 32, "GB of memory, 1.1 GB are free"),
        (b"\0\0\x08\xff" + b"\xff" * 1020, "not an IDX file"),
        (b"\0\0\x08\x02" + struct.pack(">2I", 2**32 - 1, 0) + b"x", "too long"),
        (b"\0\0\x08\x01\0\0", "not an IDX file"),
        (b"\0\0\x07\x01\0\0\0\1x", "not an IDX file"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_crafted_idx_is_refused(tmp_path: Path, content: bytes, reason: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "file").write_bytes(pack(content))
    with pytest.raises(DataError, match=reason):
        read_idx(tmp_path / "file")


def test_a_gzip_that_unpacks_to_more_than_the_memory_is_given_up_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("room", "sources.files"):
        monkeypatch.setattr(f"raysim.data.{room}.available_memory", lambda: 5 << 20)
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress(b"1,2\n" * (8 << 20), 1))
    with pytest.raises(DataError, match=r"data\.csv\.gz: its content takes 0\.0 GB"):
        read_bytes(tmp_path / "data.csv.gz")


def test_a_parquet_file_of_one_value_many_times_over_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setattr("raysim.data.room.available_memory", lambda: 64 << 20)
    column = pa.DictionaryArray.from_arrays(np.zeros(2**20, np.int8), pa.array([1.0]))
    with parquet.ParquetWriter(tmp_path / "t.parquet", pa.schema([("x", column.type)])) as writer:
        for _ in range(9):
            writer.write_table(pa.table({"x": column}))
    assert (tmp_path / "t.parquet").stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"a table of 9,437,184 rows takes 0\.1 GB"):
        read_parquet(tmp_path / "t.parquet")


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a": "x", "a": "y"}', '{"a": ' + "1" * 5000 + "}"])
def test_a_crafted_json_of_texts_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "texts.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"texts\.json: neither Parquet nor JSON \("):
        load_text(TextConfig(path=str(tmp_path / "texts.json")), 0)
