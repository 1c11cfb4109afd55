"""The manifest of a checkpoint: the sizes and SHA-256 sums of its files, written when they are, compared when read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from raysim.config.parsing import parse_json
from raysim.files import storing
from raysim.tracking.storage import MANIFEST, CheckpointStorage, files_below

FORMAT = 1
CHUNK = 1 << 22
"""Bytes that are read at a time: checking a model does not load it whole."""


class Unusable(Exception):
    """Why a checkpoint cannot be used, as a phrase."""


class Sum(NamedTuple):
    """What a file must look like."""

    bytes: int
    sha256: str


def seal(folder: Path, round: int) -> None:
    """Write the manifest of what is in the folder."""
    files = {}
    for name, path in files_below(folder):
        with path.open("rb") as stream:
            files[name] = {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
    manifest = {"format": FORMAT, "round": round, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def unsealed(storage: CheckpointStorage, name: str, round: int, copy: Path | None) -> Path:
    """The folder of a checkpoint, read whole and compared with its manifest; `copy` where it has none of its own.

    Args:
        storage: where it is.
        name: what it is called there.
        round: the round that it must be of.
        copy: an empty folder for its files, where the storage has no folders.

    Raises:
        Unusable: it is not whole, or not the checkpoint of this round.
        StorageError: the copy cannot be written.
    """
    files = _manifest(storage, name, round)
    folder = storage.folder(name)
    if folder is not None:
        for file, _ in files_below(folder):
            if file not in files and file != MANIFEST:
                raise Unusable(f"{file} is not in its manifest")
    for file, expected in files.items():
        try:
            found = _read(storage, name, file, None if copy is None else copy / file)
        except FileNotFoundError:
            raise Unusable(f"{file} is missing") from None
        except OSError as error:
            raise Unusable(f"{file} cannot be read ({error})") from None
        if found != expected:
            raise Unusable(f"{file} is damaged")
    if folder is not None:
        return folder
    assert copy is not None, "files without a folder need one to be copied to"
    return copy


def _manifest(storage: CheckpointStorage, name: str, round: int) -> dict[str, Sum]:
    """What the files of a checkpoint must look like."""
    try:
        with storage.open(name, MANIFEST) as stream:
            manifest = parse_json(stream.read())
        if manifest["format"] != FORMAT:
            raise Unusable(f"format {manifest['format']}, this version of raysim reads {FORMAT}")
        if manifest["round"] != round:
            raise Unusable(f"belongs to round {manifest['round']}")
        files = {str(file): Sum(entry["bytes"], entry["sha256"]) for file, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Unusable(f"{MANIFEST} cannot be read") from None
    for file in files:
        if _leads_out(file):
            raise Unusable(f"{MANIFEST} names {file!r}, which is not in the checkpoint's folder")
    return files


def _read(storage: CheckpointStorage, name: str, file: str, copy: Path | None) -> Sum:
    """Size and sum of a file, read a piece at a time and copied on the way."""
    digest, size = hashlib.sha256(), 0
    with storage.open(name, file) as source, _Copy(copy) as sink:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
            sink.write(chunk)
    return Sum(size, digest.hexdigest())


class _Copy:
    """Where the pieces of a file go that is read; nowhere without a path. What its disk refuses is a `StorageError`."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._sink: BinaryIO | None = None

    def __enter__(self) -> _Copy:
        if self._path is not None:
            with storing(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._sink = self._path.open("wb")
        return self

    def write(self, chunk: bytes) -> None:
        if self._path is not None and self._sink is not None:
            with storing(self._path):
                self._sink.write(chunk)

    def __exit__(self, *exc: object) -> None:
        if self._path is not None and self._sink is not None:
            with storing(self._path):
                self._sink.close()


def _leads_out(file: str) -> bool:
    """Whether a name could be that of a file outside of the folder, on whatever system."""
    path = PurePosixPath(file)
    return path.is_absolute() or not path.parts or ".." in path.parts or bool({"\\", "\0", ":"} & set(file))
