"""Checkpoints in an object store, or any other file system that Arrow knows: s3://, gs://, abfs://, hdfs://, …

There is no rename to make a set of files appear at once. So a set is there when its manifest is, which is written last
and removed first. What is under way, or what was left of it when a process died, has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, cast

from pyarrow import fs

from raysim.files import sweep
from raysim.tracking.storage import MANIFEST, CheckpointStorage, files_below

CHUNK = 1 << 22
"""Bytes of a file in memory at a time while it is uploaded."""

_PROBE = ".writable"


class ObjectStorage(CheckpointStorage):
    """Objects `<prefix>/<name>/<file>`."""

    def __init__(self, filesystem: fs.FileSystem, prefix: str, uri: str, staging: Path) -> None:
        """`uri` is what the prefix is called by people."""
        self._files, self._prefix, self._uri, self.staging = filesystem, prefix.rstrip("/"), uri.rstrip("/"), staging

    def location(self, name: str = "") -> str:
        return f"{self._uri}/{name}" if name else self._uri

    def names(self) -> list[str]:
        return [name for name, files in self._sets().items() if MANIFEST in files]

    def publish(self, sealed: Path, name: str) -> None:
        self.remove(name)
        files = dict(files_below(sealed))
        manifest = files.pop(MANIFEST)
        for file, path in files.items():
            self._upload(path, f"{name}/{file}")
        self._upload(manifest, f"{name}/{MANIFEST}")

    def folder(self, name: str) -> Path | None:
        return None

    def open(self, name: str, file: str) -> BinaryIO:
        return cast(BinaryIO, self._files.open_input_stream(f"{self._prefix}/{name}/{file}"))

    def remove(self, name: str) -> None:
        files = self._sets().get(name)
        if files is None:
            return
        if MANIFEST in files:
            self._files.delete_file(f"{self._prefix}/{name}/{MANIFEST}")
        self._files.delete_dir(f"{self._prefix}/{name}")

    def prepare(self) -> None:
        self.staging.mkdir(parents=True, exist_ok=True)
        sweep(self.staging)
        for name, files in self._sets().items():
            if MANIFEST not in files:
                self._files.delete_dir(f"{self._prefix}/{name}")

    def prove(self) -> None:
        self._files.create_dir(self._prefix, recursive=True)
        probe = f"{self._prefix}/{_PROBE}"
        with self._files.open_output_stream(probe) as sink:
            sink.write(b"\n")
        self._files.delete_file(probe)

    def _sets(self) -> dict[str, set[str]]:
        """Files of each set, of whole ones and of others."""
        selector = fs.FileSelector(self._prefix, recursive=True, allow_not_found=True)
        found: dict[str, set[str]] = {}
        for info in self._files.get_file_info(selector):
            name, _, file = info.path.removeprefix(self._prefix).strip("/").partition("/")
            if file or info.type == fs.FileType.Directory:
                found.setdefault(name, set()).add(file)
        return found

    def _upload(self, path: Path, name: str) -> None:
        target = f"{self._prefix}/{name}"
        # Where folders are real, they must be there; elsewhere this is an empty object or nothing.
        self._files.create_dir(target.rpartition("/")[0], recursive=True)
        with path.open("rb") as source, self._files.open_output_stream(target) as sink:
            while chunk := source.read(CHUNK):
                sink.write(chunk)
