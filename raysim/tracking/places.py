"""`tracking.checkpoints`: the folder or the object store that the runs of an experiment keep their checkpoints in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pyarrow as pa
from pyarrow import fs

from raysim.errors import ConfigError, RunError
from raysim.files import refusal, storing
from raysim.tracking.directory import RunDirectory
from raysim.tracking.object_storage import ObjectStorage
from raysim.tracking.storage import CheckpointStorage, FolderStorage


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """Where runs keep their checkpoints: each in its own directory, or all below one place, named as their directories.

    Attributes:
        named: a folder or a URI; None for the run directories.
    """

    named: str | None = None

    def of(self, run: RunDirectory) -> CheckpointStorage:
        """The storage of one run.

        Raises:
            ConfigError: there is no such place.
        """
        if self.named is None:
            return FolderStorage(run.checkpoints)
        return self._below(run.path.resolve().name, run.checkpoints)

    def prove(self) -> None:
        """Find out whether something can be stored here, before a run depends on it.

        Raises:
            ConfigError: there is no such place.
            StorageError: it cannot be written.
        """
        if self.named is not None:
            with storing(f"tracking.checkpoints: {self.named}"):
                self._below("", Path()).prove()

    def taken(self, name: str) -> bool:
        """Whether a run directory of this name has checkpoints here, although it is only about to be made.

        Raises:
            ConfigError: there is no such place.
            StorageError: it cannot be reached.
        """
        if self.named is None:
            return False
        with storing(f"tracking.checkpoints: {self.named}", "cannot be read"):
            return bool(self._below(name, Path()).names())

    def refuse_taken(self, name: str) -> None:
        """Refuse the name of a run that would take the checkpoints of another one for its own.

        Raises:
            RunError: there are some.
        """
        if self.taken(name):
            raise RunError(
                f"tracking.checkpoints: {self.named} has checkpoints of a run {name!r} already; choose another "
                "directory for this one, or remove them"
            )

    def _below(self, name: str, staging: Path) -> CheckpointStorage:
        assert self.named is not None
        if "://" not in self.named:
            return FolderStorage(Path(self.named).expanduser() / name)
        filesystem, path = _resolved(self.named)
        if isinstance(filesystem, fs.LocalFileSystem):
            return FolderStorage(Path(path) / name)
        prefix, uri = (f"{start.rstrip('/')}/{name}" for start in (path, self.named))
        return ObjectStorage(filesystem, prefix, uri, staging)


def _resolved(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI, and the path on it."""
    try:
        return cast("tuple[fs.FileSystem, str]", fs.FileSystem.from_uri(uri))
    except (pa.ArrowException, OSError, ImportError) as error:
        raise ConfigError(
            f"tracking.checkpoints: {uri!r} cannot be used ({refusal(error)[0]}); expected a folder or a URI such as "
            "s3://bucket/folder, with the rights to use it from the environment"
        ) from None
