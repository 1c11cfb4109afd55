"""Where checkpoints are kept: what any place for them must do, and a folder, where a rename makes them appear."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from raysim.files import sweep, sync, temporary_for

MANIFEST = "manifest.json"


class CheckpointStorage(ABC):
    """Sets of files by name, each of them complete or not there.

    Contract: `names` has a set once `publish` has stored all of it, and not before, however the process ends; a
    `publish` that fails leaves every other set as it was. Where the storage refuses, methods raise `OSError`.

    Attributes:
        staging: a local folder in which sets are prepared for `publish`.
    """

    staging: Path

    @abstractmethod
    def location(self, name: str = "") -> str:
        """Where a set is, or all of them are, for people."""

    @abstractmethod
    def names(self) -> list[str]:
        """The sets, in no order; names of other things may be among them."""

    @abstractmethod
    def publish(self, sealed: Path, name: str) -> None:
        """Store what is in the folder `sealed`, the manifest included. The folder may be moved away."""

    @abstractmethod
    def folder(self, name: str) -> Path | None:
        """The local folder that is this set; None where its files must be copied to have a path."""

    @abstractmethod
    def open(self, name: str, file: str) -> BinaryIO:
        """A file of a set, to be read from its beginning.

        Raises:
            FileNotFoundError: the set does not have it.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a set, its manifest first, so that an incomplete set does not look complete."""

    @abstractmethod
    def prepare(self) -> None:
        """Prepare for `publish`: remove incomplete sets. Only for the holder of the run's lock."""

    @abstractmethod
    def prove(self) -> None:
        """Find out whether something can be stored here, before hours of work depend on it."""


class FolderStorage(CheckpointStorage):
    """Folders in a folder: prepared beside their final place, then renamed."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when the first set is stored."""
        self.staging = self._folder = folder

    def location(self, name: str = "") -> str:
        return str(self._folder / name)

    def names(self) -> list[str]:
        return [entry.name for entry in self._folder.iterdir()] if self._folder.is_dir() else []

    def publish(self, sealed: Path, name: str) -> None:
        for path in (*sealed.rglob("*"), sealed):
            sync(path)
        self.remove(name)  # the same round written again
        sealed.rename(self._folder / name)
        sync(self._folder)

    def folder(self, name: str) -> Path | None:
        return self._folder / name

    def open(self, name: str, file: str) -> BinaryIO:
        path = self._folder / name / file
        if not path.is_file() or not path.resolve().is_relative_to((self._folder / name).resolve()):
            raise FileNotFoundError(f"{path}: no such file")  # a link that leads elsewhere is none of the set's files
        return path.open("rb")

    def remove(self, name: str) -> None:
        path = self._folder / name
        if path.exists():
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)

    def prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        sweep(self._folder)

    def prove(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_for(self._folder / "probe")
        probe.touch()
        probe.unlink()


def files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file in a folder and below it, by its name relative to the folder, in order."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() or path.is_symlink():
            yield path.relative_to(folder).as_posix(), path
