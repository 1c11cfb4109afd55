"""Files that a command writes where its user says: only a missing one, or an earlier one of the same kind, is written.

Whatever else is there, a run's configuration or a user's own file, stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raysim.errors import StorageError
from raysim.files import looked_up, storing

_MANIFEST = "manifest.json"
"""What lists all files of a folder: one more would make it count as damaged."""


@dataclass(frozen=True, slots=True)
class OutputKind:
    """A kind of file that commands write.

    Attributes:
        name: what it is called, with its article.
        suffix: how its name ends.
        made: whether a file with this content is an earlier one of the kind.
    """

    name: str
    suffix: str
    made: Callable[[bytes], bool]

    def check(self, path: str | Path) -> Path:
        """The path, if the kind may be written there: it is missing, or an earlier file of the kind.

        Raises:
            StorageError: something else is there, or the name ends otherwise.
        """
        file = looked_up(path)
        with storing(path, "cannot be read"):
            if file.is_symlink() or (file.exists() and not file.is_file()):
                what = "a link" if file.is_symlink() else "a folder" if file.is_dir() else "a device"
                raise StorageError(f"{path}: is {what}; give another name for {self.name}")
            if file.suffix.lower() != self.suffix:
                raise StorageError(f"{path}: {self.name} is written to a file whose name ends in {self.suffix}")
            if (file.parent / _MANIFEST).is_file():
                raise StorageError(f"{file.parent}: is a checkpoint or a shard store; write {self.name} elsewhere")
            if file.exists() and not self.made(file.read_bytes()):
                raise StorageError(f"{path}: exists already and is not {self.name}; give another name")
        return file


def _is_report(content: bytes) -> bool:
    return content.startswith(b"<!doctype html>") and "· raysim</title>".encode() in content[:4096]


def _is_schema(content: bytes) -> bool:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return False
    title = values.get("title") if isinstance(values, dict) else None
    return isinstance(title, str) and (title == SCHEMA_TITLE or title.startswith(OUTPUT_SCHEMA_TITLE))


SCHEMA_DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_TITLE = "raysim experiment"
"""The title of the JSON schema of a configuration."""
OUTPUT_SCHEMA_TITLE = "raysim output of "
"""How the title of the JSON schema of a command's output begins."""

REPORT = OutputKind("a report of raysim", ".html", _is_report)
PICTURE = OutputKind("a picture", ".png", lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"))
SCHEMA = OutputKind("a schema of raysim", ".json", _is_schema)
REBUILT = OutputKind("a rebuilt model", ".safetensors", lambda content: False)
"""Nothing tells an earlier one from another file of weights, so that it must be a new file."""

ONNX = OutputKind("an ONNX model", ".onnx", lambda content: False)

ROWS = OutputKind("a table of rows", ".parquet", lambda content: b"raysim rows" in content[-65536:])
"""Which samples of a source are where; its metadata says so."""

PICTURES = {
    one.suffix: one
    for one in (
        PICTURE,
        OutputKind("an SVG picture", ".svg", lambda content: b"<svg" in content[:2048]),
        OutputKind("a PDF picture", ".pdf", lambda content: content.startswith(b"%PDF-")),
    )
}
"""Pictures by the ending of their files."""
